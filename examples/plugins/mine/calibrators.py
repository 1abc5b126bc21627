import numpy as np

from halobench import fit_temperature

TITLE = "half of TS"


def shrunk(logits, labels, *, share=0.5):
    """Part of the way, in 1/T, from no scaling to the exact temperature."""
    beta = 1 + share * (fit_temperature(logits, labels).beta - 1)
    return lambda given: beta * given if np.isfinite(beta) else given
