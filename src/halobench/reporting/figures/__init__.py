"""Hold the figures: one module each, whose ``draw`` names the tables that it reads in its signature."""
