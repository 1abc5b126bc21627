"""Provide the print tables, one module each; the parameters of a ``make`` function are the tables that it reads."""
