"""Define the negative log-likelihood, in nats."""

from __future__ import annotations

import numpy as np

from halobench.calibration.scores.sample_scores import cross_entropy

TITLE = "NLL"
ABOUT = "negative log-likelihood of the labels"
UNIT = "nats"
RANGE = (0, None)
LOWER_IS_BETTER = True
SOURCE = "I. J. Good, *Rational Decisions*, Journal of the Royal Statistical Society B 14, 1952"
ORDER = 2


def score(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return -sum over k of t_k log softmax(logits)_k for each sample in nats, (n,).

    A logit of -inf contributes inf if the target has mass on its class, and nothing otherwise.

    Examples
    --------
    >>> from halobench import nll
    >>> nll(np.array([[1000.0, 0.0]]), np.array([1]))
    1000.0
    """
    return cross_entropy(logits, targets)
