"""Summarise the radii of a cell by quantiles that heed censoring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from halobench.storage import tables_io as store
from halobench.storage.tables_io import join_tables


def summarise_radii(radii: pd.DataFrame) -> pd.DataFrame:
    """Quartiles of radii over the rays of a cell: in normalised pixels, relative, and as a fraction of the ray's line.

    A censored radius is at least the length of its walk. It is counted as larger than all others when quartiles are
    taken, and a quartile that falls on censored ones is given as the least of their lengths, a lower bound.
    """
    keys = {}
    for name in RADII_KEYS:
        codes, names = pd.factorize(radii[name], sort=True)
        keys[name] = (codes, np.asarray(names, dtype=object))
    return _summaries(keys, {name: radii[name].to_numpy() for name in RADII_COLUMNS if name not in keys})[0]


RADII_KEYS = ("points", "probe", "quantity", "calibrator")
RADII_COLUMNS = (*RADII_KEYS, "threshold", "radius", "censored", "other_distance", "line_length")
SCALES = {"radius": None, "relative": "other_distance", "fraction": "line_length"}
QUARTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75}


def read_radii(files: Sequence[tuple[Path, bytes]]) -> tuple[pd.DataFrame, list[int]]:
    """The radii of cells, each cell's summarised as by `summarise_radii`."""
    tables = [store.parse_parquet(path, content, RADII_COLUMNS, RADII_KEYS) for path, content in files]
    joined = join_tables(files, tables).unify_dictionaries()
    keys = {"cell": (np.repeat(np.arange(len(tables)), [len(table) for table in tables]), np.arange(len(tables)))}
    for name in RADII_KEYS:
        column = joined[name].combine_chunks()
        names = np.array(column.dictionary.to_pylist(), dtype=object)
        rank = np.argsort(np.argsort(names))
        codes = column.indices.fill_null(-1).to_numpy()
        keys[name] = (np.where(codes < 0, -1, rank[codes]), np.sort(names))
    rest = {name: joined[name].to_numpy() for name in RADII_COLUMNS if name not in keys}
    table, cell = _summaries(keys, rest)
    return table, np.bincount(cell, minlength=len(tables)).tolist()


def _summaries(
    keys: Mapping[str, tuple[np.ndarray, np.ndarray]], columns: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Quartiles of radii by all groups at once, as a sort a row of matrices: one of each size that groups have.

    Parameters
    ----------
    keys : mapping of name to (codes (n,), names (m,))
        What groups share, the names sorted, the first key outermost; rows of code -1 are in no group.
    columns : mapping of name to array (n,)
        threshold, radius, censored, other_distance and line_length.

    Returns
    -------
    DataFrame
        A row a group, sorted, led by the keys (but ``cell``).
    int array
        Of each row the code of the first key.
    """
    group, shape = _groups(keys)
    inside = group >= 0
    counts = np.bincount(group[inside], minlength=math.prod(shape))
    present = np.flatnonzero(counts)
    sizes = counts[present]
    order = np.argsort(group, kind="stable")[len(group) - int(inside.sum()) :]
    starts = np.cumsum(sizes) - sizes
    places = np.unravel_index(present, shape)
    found = {name: names[place] for (name, (_, names)), place in zip(keys.items(), places, strict=True)}
    found |= {"threshold": columns["threshold"][order[starts]], "n": sizes, "censored": np.empty(len(sizes))}
    radius = columns["radius"]
    values = {name: radius / columns[scale] if scale else radius for name, scale in SCALES.items()}
    found |= {f"{name}_{label}": np.empty(len(sizes)) for name in SCALES for label in QUARTILES}
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        taken = order[starts[rows, None] + np.arange(size)]
        censored = columns["censored"][taken].astype(bool)
        found["censored"][rows] = censored.sum(axis=1) / size
        for name, scaled in values.items():
            for label, quantile in zip(QUARTILES, _quantiles(scaled[taken], censored), strict=True):
                found[f"{name}_{label}"][rows] = quantile
    found.pop("cell", None)
    return pd.DataFrame(found).infer_objects(), places[0]


def _groups(keys: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Of each row (n,) the number of its group among all combinations of keys, -1 without one; and their shape."""
    shape = tuple(len(names) for _, names in keys.values())
    group, missing = np.zeros(1, np.int64), np.zeros(1, bool)
    for (codes, _), size in zip(keys.values(), shape, strict=True):
        group, missing = group * size + codes, missing | (codes < 0)
    return np.where(missing, -1, group), shape


def _quantiles(values: np.ndarray, censored: np.ndarray) -> Iterator[np.ndarray]:
    """`censored_quantile` of each row of values (g, n), at each of `QUARTILES`."""
    size = values.shape[1]
    known = size - censored.sum(axis=1)
    bound = np.where(censored, values, np.inf).min(axis=1)
    ordered = np.sort(np.where(censored, np.inf, values), axis=1)
    undefined = np.isnan(values).any(axis=1)
    for level in QUARTILES.values():
        rank = int(np.ceil(level * size)) - 1
        quantile = np.where(rank < known, ordered[:, max(rank, 0)], bound)
        yield np.where(undefined, np.nan, quantile)


def censored_quantile(values: np.ndarray, censored: np.ndarray, level: float) -> float:
    """A quantile (an order statistic, no interpolation) of right-censored values; NaN if any value is NaN.

    Examples
    --------
    >>> censored_quantile(np.array([1.0, 2.0, 3.0]), np.array([False, False, True]), 0.5)
    2.0
    """
    if np.isnan(values).any():
        return float("nan")
    known = np.sort(values[~censored])
    rank = int(np.ceil(level * len(values))) - 1
    if rank < len(known):
        return float(known[max(rank, 0)])
    return float(values[censored].min())
