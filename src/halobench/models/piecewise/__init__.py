"""Piecewise affine networks: trained models as affine maps, sums and rectifiers that can be read one by one."""
