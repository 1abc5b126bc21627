"""Answer the four questions about an experiment, each in words and with a figure."""
