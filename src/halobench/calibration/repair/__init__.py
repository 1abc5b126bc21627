"""What calibrators and the repair ladder are made of: optimisers, families of maps, groups of samples, trials."""
