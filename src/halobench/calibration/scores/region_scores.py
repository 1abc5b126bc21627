"""Score own and shared regions separately, and measure the gaps that characterise two-level logits.

`halobench.calibration.overlap_theory` defines regions and computes the KL that the gaps predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import check_rows
from halobench.calibration.overlap_theory import two_level_kl
from halobench.core.errors import Found, refuse, require
from halobench.data.distribution import Regions

FLAT = 1e-9  # below this inverse temperature times logits, the mean is accurate enough
GAPS = ("gap_own", "gap_top", "gap_partner", "rho", "partner_second", "kl_two_level")


@dataclass(frozen=True)
class SampleRegions:
    """The regions of a distribution, and the region of each sample in each split."""

    distribution: Regions
    index: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], splits: tuple[str, ...]) -> SampleRegions | None:
        """Read and check the regions in a cell's arrays; return None if there are none."""
        if "regions.posterior" not in arrays:
            return None
        names = ["regions.mass", "regions.shared", *(f"{split}.region" for split in splits)]
        for name in names:
            refuse(name not in arrays, name, "missing; add this array, since there is an array regions.posterior")
        posterior = np.asarray(arrays["regions.posterior"], dtype=np.float64)
        require(posterior.ndim == 2, "regions.posterior", Found(f"shape {posterior.shape}"), "an array (R, k)")
        check_rows(posterior, "regions.posterior")
        for name in names[:2]:
            shape = np.shape(arrays[name])
            require(shape == posterior.shape[:1], name, Found(f"shape {shape}"), f"shape {posterior.shape[:1]}")
        index = {split: np.asarray(arrays[f"{split}.region"]) for split in splits}
        for split, each in index.items():
            inside = each.ndim == 1 and each.dtype.kind in "iu" and each.min() >= 0 and each.max() < len(posterior)
            refuse(not inside, f"{split}.region", f"all values must be whole numbers from 0 to {len(posterior) - 1}")
        mass, shared = np.asarray(arrays["regions.mass"]), np.asarray(arrays["regions.shared"]) > 0
        return cls(Regions(posterior, mass, shared), index)

    def rows(self, split: str) -> np.ndarray:
        """Return P(label | x) of a split's samples, float64 (n, k)."""
        return self.distribution.posterior[self.index[split]]

    def shared(self, split: str) -> np.ndarray:
        """Return a bool mask (n,) of the samples in regions that several classes share."""
        return self.distribution.shared[self.index[split]]

    def means(self, split: str, values: np.ndarray) -> dict[str, float]:
        """Return the means of values (n,) over own and over shared regions; NaN for a kind without samples."""
        shared = self.shared(split)
        return {name: _mean(values[mask]) for name, mask in (("own", ~shared), ("shared", shared))}


def scores(
    samples: Mapping[str, np.ndarray], regions: SampleRegions, split: str, labels: str
) -> dict[str, np.ndarray | float]:
    """Return a split's scores by kind of region: the KL against ``noisy`` labels, or the error on training labels.

    Against ``noisy`` labels, KL / log k per sample (n,) is also returned. For labels of any other kind, the result is
    empty.
    """
    if labels == "noisy":
        apart = regions.means(split, samples["kl"])
        per_log_k = samples["kl"] / math.log(regions.distribution.posterior.shape[1])
        return {"kl_own": apart["own"], "kl_shared": apart["shared"], "kl_per_log_k": per_log_k}
    if split == "train" and labels == "drawn":
        apart = regions.means(split, samples["error"])
        return {"error_own": apart["own"], "error_shared": apart["shared"]}
    return {}


def gaps(logits: np.ndarray, beta: float, regions: SampleRegions, split: str = "test") -> dict[str, float]:
    """Return the mean gaps of logits (n, k) on a split, and the KL that two-level logits with these gaps would have.

    Gaps are measured from the level of the other classes, log(mean(exp(beta z))) / beta for their logits z. If all
    other classes had the level as their logit, their total mass at the temperature 1 / `beta` would be unchanged. The
    level is at least the mean logit of these classes, since larger logits take more of the mass.

    On own regions, ``gap_own`` is how far the class's logit is above the level of all other classes. On shared regions,
    ``gap_top`` and ``gap_partner`` are how far the group's largest logit and the mean of its other logits are above the
    level of the classes outside the group. If there are none, the mean of the group's other logits takes the place of
    the level. ``rho`` is ``gap_partner`` / ``gap_top``, or NaN if there are no classes outside the group.
    ``partner_second`` is the share of samples on shared regions for which the group has the m largest logits.
    ``kl_two_level`` is `two_level_kl` of the gaps. All of these values are NaN if the split has no samples on shared or
    on own regions, or if the posterior isn't two-level.
    """
    distribution, shared = regions.distribution, regions.shared(split)
    group = _group_size(distribution)
    if group is None or shared.all() or not shared.any():
        return dict.fromkeys(GAPS, math.nan)
    share, k = float(distribution.mass[distribution.shared].sum()), logits.shape[1]
    in_group = regions.rows(split) > 0
    logits = logits.astype(np.float64)
    gap_own = _mean(logits[~shared][in_group[~shared]] - _level(logits[~shared], ~in_group[~shared], beta))
    inside = logits[shared][in_group[shared]].reshape(-1, group)
    largest = inside.max(axis=1)
    partners = (inside.sum(axis=1) - largest) / (group - 1)
    level = _level(logits[shared], ~in_group[shared], beta) if k > group else partners
    top, partner = _mean(largest - level), _mean(partners - level)
    outside = np.where(in_group[shared], -np.inf, logits[shared]).max(axis=1)
    return {
        "gap_own": gap_own,
        "gap_top": top,
        "gap_partner": partner,
        "rho": partner / top if k > group and top else math.nan,
        "partner_second": _mean(inside.min(axis=1) > outside),
        "kl_two_level": float(two_level_kl(k, share, group, gap_own, top, partner)),
    }


def _level(logits: np.ndarray, others: np.ndarray, beta: float) -> np.ndarray:
    """Return the common logit (n,) that keeps the mass of the classes in `others`, bool (n, k), at T = 1 / `beta`."""
    masked = np.where(others, logits, -np.inf)
    top = masked.max(axis=1)
    if not np.isfinite(beta):
        return top
    if beta < FLAT:
        return np.where(others, logits, 0).sum(axis=1) / others.sum(axis=1)
    mass = np.exp(beta * (masked - top[:, None])).sum(axis=1) / others.sum(axis=1)
    return top + np.log(mass) / beta


def _group_size(regions: Regions) -> int | None:
    """Return how many classes share a region, or None if the posterior isn't two-level.

    A two-level posterior is one-hot on own regions, and uniform over equally many classes on all shared regions.
    """
    sizes = (regions.posterior > 0).sum(axis=1)
    even = np.isclose(regions.posterior.max(axis=1), 1 / sizes).all()
    shared = sizes[regions.shared]
    if not even or not len(shared) or (sizes[~regions.shared] != 1).any() or (shared != shared[0]).any():
        return None
    return int(shared[0]) if shared[0] >= 2 else None


def _mean(values: np.ndarray) -> float:
    """Return the mean, or NaN if there are no values."""
    return float(np.mean(values)) if len(values) else math.nan
