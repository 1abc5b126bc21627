"""Contain the figures, one module each; the parameters of each ``draw`` are the tables it reads."""
