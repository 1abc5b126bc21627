"""Certified radii: the confidence of a piecewise affine network, bounded on whole balls by CROWN.

`network` writes a trained model as affine maps, sums and rectifiers; `bounds` bounds them on balls; `radius` searches.
"""
