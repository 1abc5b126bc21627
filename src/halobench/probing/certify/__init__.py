"""Certified radii: `bounds` bounds a network on balls around samples, `radius` searches for the largest ball."""
