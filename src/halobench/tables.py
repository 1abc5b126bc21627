"""Provide types for plug-ins that make print tables, and the function that saves a table as CSV, LaTeX and HTML.

A plug-in that makes a table is a function that returns a `Table`; its parameters are named after the experiment's
tables that it reads. docs/extend.md has an example.
"""

from halobench.reporting.print_tables.layout import Part, Table, Value, grid, save

__all__ = ["Part", "Table", "Value", "grid", "save"]
