"""Figures: a module each, whose ``draw`` names in its signature the tables that it reads and returns a Figure."""
