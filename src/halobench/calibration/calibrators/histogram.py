"""Histogram binning of each class's probability, with equal-mass bins.

probmetrics implements it only for two classes, and netcal only with equal-width bins, many of which are empty.

References
----------
B. Zadrozny, C. Elkan, "Obtaining calibrated probability estimates from decision trees and naive Bayesian classifiers",
ICML 2001.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrators._by_class import Map, fit_by_class

BINS = 15
"""Number of bins per class, all with the same number of samples."""


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit the frequency of class j among the samples in each bin of p_j; samples with equal scores share a bin.

    Parameters
    ----------
    logits : (n, k) float64 array
    labels : (n,) integers in [0, k)

    Returns
    -------
    Calibrator
        Assigns a probability of 0 to a class that no sample in the bin has.
    """
    return fit_by_class(_fit_steps, logits, labels)


def _fit_steps(p: np.ndarray, hits: np.ndarray) -> Map:
    # A bin begins at its lowest score.
    begins = np.unique(np.sort(p)[np.arange(BINS) * len(p) // BINS])

    def bin_of(values: np.ndarray) -> np.ndarray:
        return np.maximum(np.searchsorted(begins, values, side="right") - 1, 0)

    index = bin_of(p)
    frequency = np.bincount(index, weights=hits, minlength=len(begins)) / np.bincount(index, minlength=len(begins))
    return lambda values: frequency[bin_of(values)]
