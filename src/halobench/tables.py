"""Provide types and functions for plug-ins that make print tables.

Such a plug-in is a function ``make`` that returns a `Table`. The function's parameters are named after the tables of an
experiment that the function reads. docs/extend.md has an example.
"""

from halobench.reporting.print_tables.layout import Part, Table, Value, grid, save

__all__ = ["Part", "Table", "Value", "grid", "save"]
