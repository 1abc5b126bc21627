"""Provide the figures, with a module per figure; the parameters of a ``draw`` function are the tables that it reads."""

from halobench.core.plugins.constants import DISPLAYS
from halobench.core.plugins.kinds import Kind

KIND = Kind("figures", __file__, "draw", DISPLAYS)
