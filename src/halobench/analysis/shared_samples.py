"""Choose the seeds to average over, and compute the correction that widens intervals if seeds share samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


def sampling(train: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a cell's samples were drawn, from its training record, as columns for `with_seed_correction`."""
    dataset = train["spec"]["dataset"]
    return {
        "distribution": train.get("distribution", ""),
        "train_points": dataset["train"],
        "test_points": dataset["test"],
        "test_block": train.get("test_block", math.nan),
        "train_block": train.get("train_block", math.nan),
    }


def with_seed_correction(runs: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` with a column ``seed_correction``, which widens intervals over seeds that share samples.

    The correction is the term that Nadeau and Bengio (2003) add to 1 / n in the variance of a mean over n seeds: the
    ratio of test samples to training samples if seeds resample one set of samples. The correction is 0 if seeds share
    no test samples and no seed trains on another seed's test samples, because samples are drawn from a distribution or
    each seed has its own test block. The correction is also 0 if each seed has its own training block; intervals are
    then for the given test samples, which all seeds share.
    """
    drawn, disjoint = runs["distribution"] != "", pd.Series(False, index=runs.index)
    for column in ("test_block", "train_block"):
        blocks = runs.drop_duplicates(["dataset", "seed"]).groupby("dataset")[column]
        disjoint |= runs["dataset"].map(blocks.nunique() == blocks.size())  # missing blocks don't count
    shared = runs["test_points"] / runs["train_points"]
    return runs.assign(seed_correction=shared.where(~(drawn | disjoint), 0.0))


def seed_corrections(runs: pd.DataFrame) -> pd.Series:
    """Return each data set's ``seed_correction`` from the table `runs`; 0 if it is unknown."""
    return runs.groupby("dataset", observed=True)["seed_correction"].max().fillna(0.0)


def common_seeds(planned: Iterable[frozenset[Any]]) -> frozenset[Any]:
    """Return the seeds to average over: the planned set of seeds with the most units or, in a tie, the most seeds.

    A set has one unit for each of its seeds and each pair that was planned with all of these seeds. The
    choice depends only on the grid, never on results. If all pairs have the same seeds, these seeds are chosen.
    """
    planned = list(planned)
    return max(
        set(planned),
        key=lambda seeds: (len(seeds) * sum(seeds <= other for other in planned), len(seeds), sorted(seeds)),
        default=frozenset(),
    )
