"""Contain the tables for print, one module each; the parameters of each ``make`` are the tables it reads."""
