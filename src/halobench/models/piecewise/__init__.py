"""Piecewise affine networks: trained models as lists of affine maps, sums and rectifiers."""
