"""The parts of the summary figure."""
