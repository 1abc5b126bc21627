"""Read the targets of a cell's splits from its named arrays, and check them.

The labels to score against are ``drawn`` (one label per sample, with any noise), ``clean`` (before label noise)
and ``noisy`` (the expectation under the known posterior P(y | x), with no labels drawn).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from halobench.calibration.arrays import as_array, check_labels, check_rows
from halobench.calibration.scores.region_scores import SampleRegions
from halobench.core.errors import Found, RefusedError, require

SPLITS = ("train", "val", "test")
LABELS = {"train": ("drawn", "clean"), "val": ("drawn", "noisy", "clean"), "test": ("noisy", "clean")}

# Targets by split, then by labels: integers (n,) for drawn and clean, rows (n, k) for noisy.
Targets = Mapping[str, Mapping[str, np.ndarray]]


def read_array(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the array called `name`; raise SpecError if it is missing."""
    require_array(arrays, name)
    return as_array(arrays[name])


def require_array(arrays: Mapping[str, Any], name: str) -> None:
    """Raise SpecError if there is no array called `name`."""
    if name not in arrays:
        raise RefusedError(name, f"no such array (found: {', '.join(sorted(arrays)) or 'none'})")


def read_posterior(
    arrays: Mapping[str, np.ndarray], split: str, k: int, regions: SampleRegions | None
) -> np.ndarray | None:
    """Return P(y | x) of a split's samples, float64 (n, k), or None if it is unknown."""
    clean = read_array(arrays, f"{split}.clean")
    shape = (len(clean), k)
    if f"{split}.posterior" in arrays:
        rows = read_array(arrays, f"{split}.posterior")
        require(rows.shape == shape, f"{split}.posterior", Found(f"shape {rows.shape}"), f"shape {shape}")
        return check_rows(rows, f"{split}.posterior").astype(np.float64)
    if "transition" in arrays:
        transition = read_array(arrays, "transition")
        require(transition.shape == (k, k), "transition", Found(f"shape {transition.shape}"), f"shape {(k, k)}")
        return check_rows(transition, "transition").astype(np.float64)[clean]
    if regions is not None:
        rows = regions.rows(split)
        require(rows.shape == shape, f"{split}.region", Found(f"a posterior of shape {rows.shape}"), f"shape {shape}")
        return rows
    return None


def read_targets(
    arrays: Mapping[str, np.ndarray], k: int, splits: tuple[str, ...], regions: SampleRegions | None
) -> Targets:
    """Check and return the targets of each split; ``noisy`` only on val and test, if the posterior is known.

    ``drawn`` is always included, since the fits and the nearest-neighbour reference use it. `reported_labels` lists the
    labels that a split is scored against.
    """
    targets = {}
    for split in splits:
        clean = read_array(arrays, f"{split}.clean")
        drawn = read_array(arrays, f"{split}.labels")
        for name, labels in (("labels", drawn), ("clean", clean)):
            check_labels(labels, (len(clean), k), f"{split}.{name}")
        targets[split] = {"drawn": drawn, "clean": clean}
        posterior = read_posterior(arrays, split, k, regions) if "noisy" in LABELS[split] else None
        if posterior is not None:
            targets[split]["noisy"] = posterior
    return targets


def reported_labels(targets: Targets, split: str) -> list[str]:
    """List the labels that a split is scored against."""
    return [labels for labels in LABELS[split] if labels in targets[split]]
