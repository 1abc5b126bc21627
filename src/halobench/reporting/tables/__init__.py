"""Tables for print: a module each, whose ``make`` names in its signature the tables that it reads."""
