"""What is measured on own and shared regions apart: scores, and the gaps that two-level logits are described by.

See `halobench.calibration.overlap_theory` for what regions are and what the gaps predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halobench.calibration.overlap_theory import two_level_kl
from halobench.core.errors import require
from halobench.data.distribution import Regions

FLAT = 1e-9  # an inverse temperature, times logits, at which a mean is exact enough
GAPS = ("gap_own", "gap_top", "gap_partner", "rho", "partner_second", "kl_two_level")


@dataclass(frozen=True)
class Located:
    """The regions of a distribution, and which one each point of each split lies in.

    Attributes
    ----------
    regions : Regions
    index : mapping of split to int64 array (n,)
    """

    regions: Regions
    index: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], splits: tuple[str, ...]) -> Located | None:
        """What a cell's arrays tell of; None where they tell of no regions.

        Raises
        ------
        SpecError
            If one of their arrays is missing or has another shape than it should.
        """
        if "regions.posterior" not in arrays:
            return None
        names = ["regions.mass", "regions.shared", *(f"{split}.region" for split in splits)]
        for name in names:
            require(name in arrays, name, None, "an array of this name beside regions.posterior")
        posterior = np.asarray(arrays["regions.posterior"], dtype=np.float64)
        require(posterior.ndim == 2, "regions.posterior", f"shape {posterior.shape}", "an array (R, k)")
        for name in names[:2]:
            shape = np.shape(arrays[name])
            require(shape == posterior.shape[:1], name, f"shape {shape}", f"shape {posterior.shape[:1]}")
        index = {split: np.asarray(arrays[f"{split}.region"]) for split in splits}
        for split, each in index.items():
            inside = each.ndim == 1 and each.dtype.kind in "iu" and each.min() >= 0 and each.max() < len(posterior)
            require(inside, f"{split}.region", "regions", f"whole numbers from 0 to {len(posterior) - 1}")
        mass, shared = np.asarray(arrays["regions.mass"]), np.asarray(arrays["regions.shared"]) > 0
        return cls(Regions(posterior, mass, shared), index)

    def rows(self, split: str) -> np.ndarray:
        """P(label | x) of a split's points, float64 (n, k)."""
        return self.regions.posterior[self.index[split]]

    def shared(self, split: str) -> np.ndarray:
        """Whether more than one class draws from the region of each point, bool (n,)."""
        return self.regions.shared[self.index[split]]

    def means(self, split: str, values: np.ndarray) -> dict[str, float]:
        """Means of one value a point, (n,), over own and over shared regions; NaN where a split has no such point."""
        shared = self.shared(split)
        return {name: _mean(values[chosen]) for name, chosen in (("own", ~shared), ("shared", shared))}


def scores(
    points: Mapping[str, np.ndarray], located: Located, split: str, labels: str
) -> dict[str, np.ndarray | float]:
    """What is reported beside the scores of a split's points, as judged by `labels`.

    Parameters
    ----------
    points : mapping of metric to (n,) array
    located : Located
    split, labels : str

    Returns
    -------
    dict
        By the posterior, ``kl_own`` and ``kl_shared``, and ``kl_per_log_k`` of each point, (n,); of training points by
        their drawn labels, ``error_own`` and ``error_shared``.
    """
    if labels == "noisy":
        apart = located.means(split, points["kl"])
        per_log_k = points["kl"] / math.log(located.regions.posterior.shape[1])
        return {"kl_own": apart["own"], "kl_shared": apart["shared"], "kl_per_log_k": per_log_k}
    if split == "train" and labels == "drawn":
        apart = located.means(split, points["error"])
        return {"error_own": apart["own"], "error_shared": apart["shared"]}
    return {}


def gaps(logits: np.ndarray, beta: float, located: Located, split: str = "test") -> dict[str, float]:
    """The mean gaps of logits (n, k) on a split, and the KL that two-level logits with these gaps would have.

    Gaps are over the level of the other classes: the one logit that, had they all the same, would leave them the mass
    that they have at the temperature 1 / `beta`, log mean exp(beta z) / beta. It lies above their mean, since the
    largest of them take most of the mass.

    Parameters
    ----------
    logits : (n, k) array
    beta : float
        Inverse of the temperature that is fitted to them, at least 0 (then the level is the mean) or infinite (the
        largest).
    located : Located
    split : str

    Returns
    -------
    dict
        ``gap_own``: on own regions, the class's logit over all others. On shared regions, over the classes outside the
        group: ``gap_top``, the group's largest logit, and ``gap_partner``, the mean of its others; ``rho``, their ratio
        partner / top; ``partner_second``, the share of points where the classes of the
        group are the m with the largest logits. ``kl_two_level``: `halobench.calibration.overlap_theory.two_level_kl`
        of the gaps, at the distribution's own beta. Where the group is all classes, none is outside: partners are then
        the level that others are measured from, and rho is NaN. NaN throughout where a split has no shared or no own
        point, or the posterior isn't two-level (label noise, unequal shares).
    """
    regions, shared = located.regions, located.shared(split)
    group = _group(regions)
    if group is None or shared.all() or not shared.any():
        return dict.fromkeys(GAPS, math.nan)
    share, k = float(regions.mass[regions.shared].sum()), logits.shape[1]
    rows = located.rows(split) > 0
    logits = logits.astype(np.float64)
    found = {"gap_own": _mean(logits[~shared][rows[~shared]] - _level(logits[~shared], ~rows[~shared], beta))}
    inside = logits[shared][rows[shared]].reshape(-1, group)
    top = inside.max(axis=1)
    partners = (inside.sum(axis=1) - top) / (group - 1)
    level = _level(logits[shared], ~rows[shared], beta) if k > group else partners
    found |= {"gap_top": _mean(top - level), "gap_partner": _mean(partners - level)}
    found["rho"] = found["gap_partner"] / found["gap_top"] if k > group and found["gap_top"] else math.nan
    outside = np.where(rows[shared], -np.inf, logits[shared]).max(axis=1)
    found["partner_second"] = _mean(inside.min(axis=1) > outside)
    found["kl_two_level"] = float(two_level_kl(k, share, group, *(found[name] for name in GAPS[:3])))
    return found


def _level(logits: np.ndarray, chosen: np.ndarray, beta: float) -> np.ndarray:
    """The one logit that leaves the chosen classes of each row the mass that they have at 1 / beta, (n,)."""
    masked = np.where(chosen, logits, -np.inf)
    top = masked.max(axis=1)
    if not np.isfinite(beta):
        return top
    if beta < FLAT:
        return np.where(chosen, logits, 0).sum(axis=1) / chosen.sum(axis=1)
    mass = np.exp(beta * (masked - top[:, None])).sum(axis=1) / chosen.sum(axis=1)
    return top + np.log(mass) / beta


def _group(regions: Regions) -> int | None:
    """Classes that share a region, if the posterior is one-hot on own regions and even on shared ones; else None."""
    sizes = (regions.posterior > 0).sum(axis=1)
    even = np.isclose(regions.posterior.max(axis=1), 1 / sizes).all()
    shared = sizes[regions.shared]
    if not even or not len(shared) or (sizes[~regions.shared] != 1).any() or (shared != shared[0]).any():
        return None
    return int(shared[0]) if shared[0] >= 2 else None


def _mean(values: np.ndarray) -> float:
    """A mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan
