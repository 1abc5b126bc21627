"""Certified radii: `bounds` bounds a network on balls around samples, and `radius` searches for the largest ball."""
