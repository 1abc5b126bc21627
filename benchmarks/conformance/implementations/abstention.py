"""abstention's TempScaling with its defaults, on logits and one-hot labels."""

import numpy as np
from abstention.calibration import TempScaling

REQUIRES = ("abstention==0.1.3.1", "scikit-learn", "scipy<1.12", "numpy<2")
UPSTREAM = "https://github.com/kundajelab/abstention"
ADVICE = (
    "subtract the largest logit of each row, since the exponentials overflow otherwise; scale the logits so that their "
    "mean gap to the largest is 100, since the search fails where T is far below 1, and divide T by the same factor; "
    "then replace -inf by the lowest finite one minus 10,000."
)


def fit(logits, labels):
    T, _ = TempScaling()._get_optimal_t_and_biases(logits, np.eye(logits.shape[1])[labels])
    return float(T)
