"""Provide the figures, one module each; the parameters of a ``draw`` function are the tables that it reads."""
