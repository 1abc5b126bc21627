"""Detect logits whose columns are in another order than the labels' classes, e.g. if names were sorted differently.

On each half of the samples, the classes are matched to the columns so that as many predictions as possible are right
(the assignment problem), and the matching is scored on the other half. If columns are mixed up, moving them corrects
most of the wrong predictions; if a model is poor, or two classes are often confused, moving columns doesn't. If
predictions are always wrong, as with logits of the wrong sign, each class that isn't predicted is the label in about
1 / (k - 1) of the cases. With three or more classes, moved columns must therefore be right more often than this.

References
----------
H. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics Quarterly 2, 1955.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from halobench.calibration.saved import savable
from halobench.core.seeding import generator

CHANCE = 1e-4  # the largest p-value of the number of predictions that moving columns makes right
WRONG_SIGN, USUAL, RARE = 1.5, 0.6, 0.2  # moved columns must be right in this many / (k - 1) cases, within this range
TIMES = 2  # moved columns must be right this many times as often as before


@savable("mismatch")
@dataclass(frozen=True)
class Mismatch:
    """A `column` whose predictions have another `label` (`matched` times) more often than their own (`right` times)."""

    column: int
    label: int
    matched: int
    right: int


def find_mismatch(predicted: np.ndarray, labels: np.ndarray, k: int) -> tuple[Mismatch, ...]:
    """Return the columns that seem to belong to other classes, the largest `matched` first; () if all are in order.

    `predicted` and `labels` (n,) are in [0, k).
    """
    from scipy.stats import binom

    half = generator(0, "columns", "halves").permutation(len(labels)) % 2
    tables = [_counts(predicted[half == number], labels[half == number], k) for number in (0, 1)]
    own = matched = of = 0
    for fitted, scored in (tables, tables[::-1]):
        places = _matching(fitted)
        moved = places != np.arange(k)
        of += int(scored[moved].sum())
        own += int(scored.diagonal()[moved].sum())
        matched += int(scored[np.arange(k), places][moved].sum())
    least = max(RARE, min(USUAL, WRONG_SIGN / (k - 1)))
    if matched <= max(TIMES * own, least * of) or binom.sf(matched - 1, matched + own, 0.5) > CHANCE:
        return ()
    table = tables[0] + tables[1]
    pairs = enumerate(_matching(table).tolist())
    found = [Mismatch(j, c, int(table[j, c]), int(table[j, j])) for j, c in pairs if table[j, c] > table[j, j]]
    return tuple(sorted(found, key=lambda pair: -pair.matched))


def _counts(predicted: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    counts = np.zeros((k, k))
    np.add.at(counts, (predicted, labels), 1)
    return counts


def _matching(counts: np.ndarray) -> np.ndarray:
    """Return each column's class, (k,), in the matching with the most right predictions; in a tie, columns stay."""
    from scipy.optimize import linear_sum_assignment

    stay = np.eye(len(counts)) / (len(counts) + 1)
    return linear_sum_assignment(counts + stay, maximize=True)[1]
