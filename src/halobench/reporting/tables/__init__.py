"""Hold the tables for print: one module each, whose ``make`` names the tables that it reads in its signature."""
