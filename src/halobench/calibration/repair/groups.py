"""Group samples that belong together, such as copies of an image or the images of a patient.

Samples of a group aren't independent, so a group stays in one fold, and standard errors are computed over groups.

References
----------
K.-Y. Liang, S. Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73, 1986: standard
errors over clusters.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from halobench.calibration.arrays import as_rows
from halobench.calibration.saved import savable
from halobench.core.errors import Found, refuse, require


def check_groups(groups: Any, samples: int, key: str = "groups") -> np.ndarray:
    """Return groups (n,), given as numbers or text, as whole numbers from 0.

    SpecError is raised if a sample has no group or if all have the same.
    """
    groups = as_rows(groups)
    expected = f"one group per sample, i.e. shape ({samples},)"
    require(groups.shape == (samples,), key, Found(f"shape {groups.shape}"), expected)
    import pandas as pd

    missing = np.asarray(pd.isna(groups))
    row = int(missing.argmax())
    refuse(missing.any(), f"{key}[{row}]", "missing; give each sample a group (a number or a name)")
    names, numbers = np.unique(groups.astype(str) if groups.dtype == object else groups, return_inverse=True)
    sentence = (
        f"all samples are in the group {names[0]!s}; pass at least two groups, or none if samples are independent"
    )
    refuse(len(names) < 2, key, sentence)
    return numbers


@savable("groups")
@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of samples that belong together.

    Attributes
    ----------
    of : (n,) array
        The group of each sample, numbered from 0.
    kind : str
        ``given``; ``copies`` or ``order`` if samples seem to depend on each other in this way, in unknown groups
        (`halobench.calibration.repair.dependence`); or "" for independent samples.
    factor : float
        How many samples count as one in unknown groups, else 1.
    """

    of: np.ndarray = field(repr=False)
    kind: str
    factor: float = 1.0

    @classmethod
    def single(cls, samples: int, kind: str = "", factor: float = 1.0) -> Groups:
        """Return groups of one sample each."""
        return cls(np.arange(samples), kind, factor)

    @property
    def numbers(self) -> int:
        """Return the number of different groups in `of`."""
        return int(self.of.max()) + 1

    @property
    def count(self) -> int:
        """Return the number of groups or, if they are unknown, how many independent samples all samples count as."""
        return max(1, round(self.numbers / self.factor))

    @property
    def noun(self) -> str:
        """Return the word for the independent units: "groups" or "samples"."""
        return "groups" if self.kind == "given" else "samples"

    def numbered(self, samples: np.ndarray) -> Groups:
        """Return the groups, numbered from 0, of the samples with these row numbers."""
        return Groups(np.unique(self.of[samples], return_inverse=True)[1], self.kind, self.factor)

    def folds(self, folds: int, rng: np.random.Generator) -> np.ndarray:
        """Return the fold (n,) of each sample, after putting groups at random into folds of similar sizes.

        The largest groups are placed first, each in the fold with the fewest samples so far.
        """
        sizes = np.bincount(self.of)
        order = np.lexsort((rng.permutation(len(sizes)), -sizes))
        fold, loads = np.empty(len(sizes), dtype=int), [(0, number) for number in range(folds)]
        for group in order.tolist():
            load, number = loads[0]
            fold[group] = number
            heapq.heapreplace(loads, (load + int(sizes[group]), number))
        return fold[self.of]

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return the sums (groups, ...) of values (n, ...) over the samples of each group."""
        sums = np.zeros((self.numbers, *values.shape[1:]))
        np.add.at(sums, self.of, values)
        return sums

    def squared_error(self, values: np.ndarray) -> np.ndarray:
        """Return the squared standard error, of shape (...), of the mean of values (n, ...) if groups are independent.

        If each sample is its own group and `factor` is 1, the result is the variance (with n - 1) divided by n.
        """
        sums = self.sums(values - values.mean(axis=0))
        return self.factor * len(sums) / (len(sums) - 1) * (sums**2).sum(axis=0) / len(values) ** 2

    def one_each(self, rng: np.random.Generator) -> np.ndarray:
        """Return ascending row numbers of a random sample per group or, if groups are unknown, of `count` samples."""
        order = rng.permutation(len(self.of))
        places = np.unique(self.of[order], return_index=True)[1]
        return np.sort(order[np.sort(places)[: self.count]])
