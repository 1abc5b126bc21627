"""Certify radii: `bounds` bounds logits on balls, `odds` bounds confidences, and `radius` searches for large balls."""
