"""Tables for print: what a table of your own returns, and how it is written as CSV, LaTeX and HTML.

A plug-in is a function whose parameters name the tables of an experiment that it reads, and that returns a `Table`.
docs/extend.md has one.
"""

from halobench.reporting.print_tables.layout import Part, Row, Table, Value, save

__all__ = ["Part", "Row", "Table", "Value", "save"]
