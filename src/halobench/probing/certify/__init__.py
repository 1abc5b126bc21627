"""Certify radii: `bounds` bounds networks on balls around samples, and `radius` searches for the largest balls."""
