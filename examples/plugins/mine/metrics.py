import numpy as np

TITLE = "Worst class"
ABOUT = "mean probability that the class with the least of it doesn't get"
RANGE = (0, 1)
LOWER_IS_BETTER = True


def worst_class(probabilities, labels, *, least=1):
    """Ignore classes with fewer than `least` samples."""
    classes, count = np.unique(labels, return_counts=True)
    return max((1 - probabilities[labels == c, c].mean() for c in classes[count >= least]), default=0.0)
