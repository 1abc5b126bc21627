"""Piecewise affine networks: a trained model as affine maps, sums and rectifiers that can be read one by one."""
