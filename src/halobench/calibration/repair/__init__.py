"""Provide the parts of calibrators and the repair ladder: optimisers, families of maps, groups of samples, trials."""
