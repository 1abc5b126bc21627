"""Write pages of the report: self-contained HTML that needs no network, and no script to be read."""
