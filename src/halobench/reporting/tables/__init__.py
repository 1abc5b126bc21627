"""Provide the print tables, a module per table; the parameters of a ``make`` function are the tables that it reads."""

from halobench.core.plugins.constants import DISPLAYS
from halobench.core.plugins.kinds import Kind

KIND = Kind("tables", __file__, "make", DISPLAYS)
