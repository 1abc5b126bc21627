"""Score own and shared regions apart, and measure the gaps that describe two-level logits.

`halobench.calibration.overlap_theory` defines regions, and has what the gaps predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from halobench.calibration.arrays import check_rows
from halobench.calibration.overlap_theory import two_level_kl
from halobench.core.errors import require
from halobench.data.distribution import Regions

FLAT = 1e-9  # an inverse temperature, times logits, at which a mean is exact enough
GAPS = ("gap_own", "gap_top", "gap_partner", "rho", "partner_second", "kl_two_level")


@dataclass(frozen=True)
class SampleRegions:
    """The regions of a distribution, and the one that each sample of each split lies in.

    Attributes
    ----------
    distribution : Regions
    index : mapping of split to int64 array (n,)
    """

    distribution: Regions
    index: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], splits: tuple[str, ...]) -> SampleRegions | None:
        """Read and check the regions in a cell's arrays; None if there are no regions.

        Parameters
        ----------
        arrays : mapping of name to array
            ``regions.posterior`` (R, k), ``regions.mass`` and ``regions.shared`` (R,), ``{split}.region`` (n,).
        splits : tuple of str

        Raises
        ------
        SpecError
            If one of these arrays is missing or has another shape than it should.
        """
        if "regions.posterior" not in arrays:
            return None
        names = ["regions.mass", "regions.shared", *(f"{split}.region" for split in splits)]
        for name in names:
            require(name in arrays, name, None, "an array of this name next to regions.posterior")
        posterior = np.asarray(arrays["regions.posterior"], dtype=np.float64)
        require(posterior.ndim == 2, "regions.posterior", f"shape {posterior.shape}", "an array (R, k)")
        check_rows(posterior, "regions.posterior")
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
        """Return P(label | x) of a split's samples, float64 (n, k)."""
        return self.distribution.posterior[self.index[split]]

    def shared(self, split: str) -> np.ndarray:
        """Return True for samples of regions that more than one class draws from, bool (n,)."""
        return self.distribution.shared[self.index[split]]

    def means(self, split: str, values: np.ndarray) -> dict[str, float]:
        """Return means of values (n,) over own and over shared regions; NaN if a split has no such sample."""
        shared = self.shared(split)
        return {name: _mean(values[mask]) for name, mask in (("own", ~shared), ("shared", shared))}


def scores(
    samples: Mapping[str, np.ndarray], regions: SampleRegions, split: str, labels: str
) -> dict[str, np.ndarray | float]:
    """Return what is reported in addition to the scores of a split's samples, judged by `labels`.

    Parameters
    ----------
    samples : mapping of metric to (n,) array
    regions : SampleRegions
    split, labels : str

    Returns
    -------
    dict
        By the posterior, ``kl_own`` and ``kl_shared``, and ``kl_per_log_k`` of each sample, (n,); of training samples
        by their drawn labels, ``error_own`` and ``error_shared``.
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

    Gaps are over the level of the other classes: the one logit that, had they all the same, would leave them the mass
    that they have at the temperature 1 / `beta`, log mean exp(beta z) / beta. It lies above their mean, since the
    largest of them take most of the mass.

    Parameters
    ----------
    logits : (n, k) array
    beta : float
        Inverse of the temperature that is fitted to them, at least 0 (then the level is the mean) or infinite (the
        largest).
    regions : SampleRegions
    split : str

    Returns
    -------
    dict
        ``gap_own``: on own regions, the class's logit over all others. On shared regions, over the classes outside the
        group: ``gap_top``, the group's largest logit, and ``gap_partner``, the mean of its others; ``rho``, their ratio
        partner / top; ``partner_second``, the share of samples for which the classes of the group are the m with the
        largest logits. ``kl_two_level``: `halobench.calibration.overlap_theory.two_level_kl` of the gaps, at the
        distribution's own beta. If the group is all classes, none is outside: partners are then the level that others
        are measured from, and rho is NaN. NaN throughout if a split has no shared or no own sample, or the posterior
        isn't two-level (label noise, unequal shares).
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
    """Return the one logit that leaves the classes in `others`, bool (n, k), the mass they have at 1 / beta, (n,)."""
    masked = np.where(others, logits, -np.inf)
    top = masked.max(axis=1)
    if not np.isfinite(beta):
        return top
    if beta < FLAT:
        return np.where(others, logits, 0).sum(axis=1) / others.sum(axis=1)
    mass = np.exp(beta * (masked - top[:, None])).sum(axis=1) / others.sum(axis=1)
    return top + np.log(mass) / beta


def _group_size(regions: Regions) -> int | None:
    """Return how many classes share a region; None unless the posterior is one-hot on own regions, even on shared."""
    sizes = (regions.posterior > 0).sum(axis=1)
    even = np.isclose(regions.posterior.max(axis=1), 1 / sizes).all()
    shared = sizes[regions.shared]
    if not even or not len(shared) or (sizes[~regions.shared] != 1).any() or (shared != shared[0]).any():
        return None
    return int(shared[0]) if shared[0] >= 2 else None


def _mean(values: np.ndarray) -> float:
    """Return the mean, NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan
