"""Draw the parts of the summary figure."""
