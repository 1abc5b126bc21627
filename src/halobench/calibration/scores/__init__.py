"""Score predictions: per sample, in bins and in regions, with bootstrap intervals, against each kind of label."""
