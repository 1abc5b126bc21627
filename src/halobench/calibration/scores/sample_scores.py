"""Compute softmax, cross-entropy and predictions of arrays that have already been checked.

Logits (finite or -inf) and probabilities are (n, k), and targets are labels (n,) or rows of probabilities (n, k). Rows
of targets may be multiplied by the samples' weights (`halobench.calibration.arrays.weighted`); their results are then
multiplied by the same weights. Softmax and cross-entropy are computed in float64, on a block of rows at a time.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.arrays import blocks, weights_of


def softmax(logits: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the softmax of `logits`, float64 (n, k), written to `out` if provided, which may be `logits` itself."""
    out = np.empty(logits.shape) if out is None else out
    for rows in blocks(*logits.shape):
        block = out[rows]
        block[...] = logits[rows]
        block -= block.max(axis=1, keepdims=True)
        np.exp(block, out=block)
        block /= block.sum(axis=1, keepdims=True)
    return out


def cross_entropy(logits: np.ndarray, targets: np.ndarray, probabilities: np.ndarray | None = None) -> np.ndarray:
    """Return -sum over k of t_k log softmax(logits)_k for each sample in nats, (n,).

    The softmax is written to `probabilities`, float64 (n, k), if provided, which may be `logits` itself.
    """
    values, weights = np.empty(len(logits)), weights_of(targets)
    for rows in blocks(*logits.shape):
        shifted = logits[rows].astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        powers = np.exp(shifted, out=None if probabilities is None else probabilities[rows])
        total = powers.sum(axis=1)
        log_total = np.log(total)
        if probabilities is not None:
            powers /= total[:, None]
        if targets.ndim == 1:
            values[rows] = log_total - shifted[np.arange(len(shifted)), targets[rows]]
        else:
            mass = targets[rows]
            expected = np.einsum("ij,ij->i", mass, np.where(mass > 0, shifted, 0), dtype=np.float64)
            values[rows] = weights[rows] * log_total - expected
    return values


def predictions(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted class (the first if several tie) and the confidence in it, float64; (n,) each."""
    predicted = np.empty(len(probabilities), dtype=np.intp)
    confidence = np.empty(len(probabilities))
    for rows in blocks(*probabilities.shape):
        block = probabilities[rows]
        predicted[rows] = block.argmax(axis=1)
        confidence[rows] = block[np.arange(len(block)), predicted[rows]]
    return predicted, confidence


def correctness(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the probability, times any weight, that each prediction is right, float64 (n,); 0 or 1 for labels."""
    correct = predicted == targets if targets.ndim == 1 else targets[np.arange(len(predicted)), predicted]
    return correct.astype(np.float64)


def mass_of(targets: np.ndarray, classes: int) -> np.ndarray:
    """Return targets as rows (n, k): labels as one-hot rows, and rows as they are."""
    if targets.ndim == 2:
        return targets
    rows = np.zeros((len(targets), classes))
    rows[np.arange(len(targets)), targets] = 1.0
    return rows


def logarithm(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities, with -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
