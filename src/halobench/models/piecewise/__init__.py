"""Represent trained models as piecewise affine networks: lists of affine maps, sums and rectifiers."""
