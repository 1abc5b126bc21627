"""Scores of predictions: per sample, in bins and regions, with bootstrap intervals, against each kind of labels."""
