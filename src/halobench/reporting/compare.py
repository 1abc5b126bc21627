"""Compare two cells, two results folders, or two losses over their seeds, on one or all pairs of data set and model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from halobench.analysis.names import LABELS, METRIC_PARTS, OVER_SAMPLES
from halobench.analysis.shared_samples import common_seeds, sampling, with_seed_correction
from halobench.analysis.t_intervals import t_interval
from halobench.core import console
from halobench.core.errors import RefusedError, one_of, refuse, require
from halobench.core.formatting import count, number
from halobench.core.plugins.facts import of_metric
from halobench.reporting import terminal
from halobench.reporting.labels import calibrator_label, metric_label
from halobench.results.cell_results import CellResults, cell_names, differing, find_cell, find_seeds, read_cell

SCORE_KEYS = ["labels", "calibrator", "metric"]
FITTED = "exact"  # the calibrator whose results are compared
HIDDEN = ("ece_floor",)  # what an ECE should be compared with; no score of its own
OTHER_SAMPLES = "They are scored on different test samples, since their data sets or seeds differ."
UNKNOWN = "which side is better isn't known; a metric's file, on PYTHONPATH, says so by LOWER_IS_BETTER."
Pair = tuple[CellResults, CellResults]


def compare(first: str, second: str, results: Path, everything: bool = False, form: str = "text") -> None:
    """Print which of two cells or losses in `results`, or of two results folders, is better, and how they differ.

    If both names are names of losses, these are compared on each pair of data set and model that has a seed with both.
    The `form` is ``text`` or, for the changes alone, ``csv``, ``json`` or ``latex``.
    """
    moved, about, cells = _moved(first, second, results)
    if form != "text":
        print(_written(moved if everything else chosen(moved), form), end="")
        return
    lines = [Text(f"A: {first}"), Text(f"B: {second}"), Text()]
    console.console().print(Group(*lines, *about, *tables(moved, cells, everything)))


def _moved(first: str, second: str, results: Path) -> tuple[pd.DataFrame, list[RenderableType], bool]:
    """Return the changes, remarks on the two sides, and whether both sides are single cells."""
    folders = [Path(name, "runs").is_dir() for name in (first, second)]
    if folders[0] != folders[1]:
        folder, other = (first, second) if folders[0] else (second, first)
        fault = f"has no `runs` folder, but {folder} is a results folder" if Path(other).exists() else "no such folder"
        raise RefusedError(other, f"{fault}; compare two cells or two results folders")
    if all(folders):
        pairs, about = _in_both(Path(first), Path(second))
        return changes(pairs), about, False
    if both := _of_losses(first, second, results):
        moved = pd.concat({pair: changes(pairs) for pair, pairs in both.items()}, names=["pair"])
        return moved.reset_index("pair").reset_index(drop=True), [], False
    seeds = [find_seeds(results, name) for name in (first, second)]
    cells = not all(seeds)
    for name, found in zip((first, second), seeds, strict=True):
        if not found:  # this name, and not one that is several seeds, is at fault if there is no such cell
            find_cell(results, name)
    names = [(find_cell(results, first), find_cell(results, second))] if cells else _with_equal_seeds(*seeds)
    pairs = [(read_cell(results, a), read_cell(results, b)) for a, b in names]
    return changes(pairs, cells), [_spec_differences(pairs)], cells


def _of_losses(first: str, second: str, results: Path) -> dict[str, list[Pair]]:
    """Return the pairs of cells of two losses by data set and model, or {} unless both names are names of losses."""
    seeds: dict[str, dict[str, set[str]]] = {}  # by loss, then by data set and model
    for name in cell_names(results):
        *pair, loss, seed = name.split("/")
        seeds.setdefault(loss, {}).setdefault("/".join(pair), set()).add(seed)
    named = {first, second} & seeds.keys()
    for name in {first, second} - named if named else ():
        require("/" in name, "", name, f"a loss: {one_of(sorted(seeds), name)}")
    if not named or len(named) < len({first, second}):
        return {}
    refuse(first == second, "", f"A and B are both {first}; name two losses")
    shared = {pair: sorted(seeds[first][pair] & seeds[second].get(pair, set())) for pair in seeds[first]}
    refuse(not any(shared.values()), "", f"no data set and model has a seed with both {first} and {second}")
    return {
        pair: [_pair(results, pair, (first, second), seed) for seed in both] for pair, both in shared.items() if both
    }


def _pair(results: Path, pair: str, losses: tuple[str, str], seed: str) -> Pair:
    first, second = (read_cell(results, f"{pair}/{loss}/{seed}") for loss in losses)
    return first, second


def _written(moved: pd.DataFrame, form: str) -> str:
    """Return a table of changes as the text of a CSV, JSON or LaTeX file, without row numbers."""
    if form == "json":
        return f"{moved.to_json(orient='records', indent=1)}\n"
    return moved.to_csv(index=False) if form == "csv" else moved.to_latex(index=False, float_format="%.4g", escape=True)


def _in_both(first: Path, second: Path) -> tuple[list[Pair], list[RenderableType]]:
    """Return the cells that two results folders share, and remarks on other cells and changed specs."""
    names = [cell_names(folder) for folder in (first, second)]
    pairs = [(read_cell(first, name), read_cell(second, name)) for name in names[0] if name in set(names[1])]
    same = sum(a.metrics.equals(b.metrics) for a, b in pairs)
    lines = [f"Cells in both: {len(pairs)}, {same} of them with the same metrics."]
    for side, cells, others in zip("AB", names, reversed(names), strict=True):
        alone = [name for name in cells if name not in set(others)]
        lines += [f"Only in {side}: {_listed(alone)}"] if alone else []
    changed = [a.name for a, b in pairs if a.spec != b.spec]
    lines += [f"Different specs in {count(len(changed), 'cell')}: {_listed(changed)}"] if changed else []
    return pairs, list(map(Text, lines))


def _listed(names: Sequence[str], most: int = 5) -> str:
    """List the first `most` names, and say how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _with_equal_seeds(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of names of two losses' cells, for the seeds that both losses have."""
    a, b = ({name.rpartition("/")[2]: name for name in names} for names in (first, second))
    has = "; ".join(", ".join(seeds) for seeds in (a, b))
    refuse(not a.keys() & b.keys(), "", f"the two losses have no seed in common ({has}); compare two cells instead")
    return [(a[seed], b[seed]) for seed in a if seed in b]


def _spec_differences(pairs: Sequence[Pair]) -> RenderableType:
    """Return a table of the differences between the specs of two cells or losses."""
    specs: list[tuple[str, Any, Any]] = differing(pairs[0][0].spec, pairs[0][1].spec)
    if not specs:
        return Text("Their specs are the same.")
    rows = [[key, console.value_text(a), console.value_text(b)] for key, a, b in specs]
    shown = terminal.table("Specs", ["", "A", "B"], rows, right=3)
    # Label noise changes only the drawn labels.
    other = any(key == "seed" or (key.startswith("dataset.") and ".noise" not in key) for key, _, _ in specs)
    return Group(Text(OTHER_SAMPLES), shown) if other else shown


def changes(pairs: Sequence[Pair], cells: bool = False) -> pd.DataFrame:
    """Return the means of test scores over pairs of cells, and the mean change from the first cell to the second.

    Changes are averaged over the cells of a seed. Groups of cells that differ only in seed are left out, as in claims,
    if they don't have all the seeds chosen for averaging; ``left_out`` counts them. With at least two seeds, the mean
    change has a 95% t interval, which is widened as in claims if seeds share samples. ``lower`` says whether lower
    values of the metric are better, and is None if this isn't known. ``better`` is "A" or "B" if ``lower`` is known and
    the interval excludes 0 or, for a single pair of `cells`, if the two bootstrap intervals over test samples don't
    overlap. Otherwise, ``better`` is "".
    """
    correction, plugged = _correction(pairs), _plugged(pairs)
    both = pd.concat([*map(_joined, pairs), pd.DataFrame(columns=["split", *SCORE_KEYS])])
    rows, groups = [], both[both["split"] == "test"].groupby(SCORE_KEYS, sort=False)
    key: Any
    for key, group in groups:
        seeds, left_out = _by_seed(group)
        change, low, high = t_interval(seeds["change"].to_numpy(float), correction)
        only: Any = group.iloc[0]
        apart = only["low_b"] > only["high_a"] or only["low_a"] > only["high_b"]
        clear = apart if cells else low > 0 or high < 0
        lower = of_metric(plugged.get(key[2], METRIC_PARTS.get(key[2], key[2]))).lower_is_better
        better = "" if lower is None or not clear else "AB"[(change > 0) != lower]
        means = seeds[["value_a", "value_b"]].mean()
        rows.append((*key, *means, change, low, high, len(seeds), left_out, correction, lower, better))
    numbers = ["a", "b", "change", "low", "high", "seeds", "left_out", "correction"]
    return pd.DataFrame(rows, columns=[*SCORE_KEYS, *numbers, "lower", "better"]).astype({"lower": object})


def _joined(pair: Pair) -> pd.DataFrame:
    """Return the scores that two cells share, with their seed and the group of cells that differ only in seed."""
    group, _, seed = pair[0].name.rpartition("/")
    joined = pair[0].metrics.merge(pair[1].metrics, on=["split", *SCORE_KEYS], suffixes=("_a", "_b"))
    return joined.assign(group=group, seed=seed)


def _by_seed(group: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the mean scores and changes by seed, over the groups and seeds that keep the most cells.

    Every group that is kept has a change in every seed that is kept, as in a claim's mean over pairs. The second value
    returned is the number of groups that are left out.
    """
    equal = (group["value_a"] == group["value_b"]) | (group["value_a"].isna() & group["value_b"].isna())
    group = group.assign(change=(group["value_b"] - group["value_a"]).mask(equal, 0.0))
    present = group.pivot(index="group", columns="seed", values="change").notna()
    seeds = common_seeds(frozenset(row.index[row]) for _, row in present.iterrows())
    whole = present.index[present[list(seeds)].all(axis=1)]
    kept = group[group["seed"].isin(seeds) & group["group"].isin(whole)]
    return kept.groupby("seed")[["value_a", "value_b", "change"]].mean(), len(present) - len(whole)


def _correction(pairs: Sequence[Pair]) -> float:
    """Return the largest correction for seeds that share samples, over the data sets of both sides, as for claims."""
    sides = [
        pd.DataFrame(
            [{"dataset": cell.name.split("/")[0], "seed": cell.train["seed"]} | sampling(cell.train) for cell in side]
        )
        for side in zip(*pairs, strict=True)
    ]
    return max((float(with_seed_correction(runs)["seed_correction"].max()) for runs in sides), default=0.0)


def _plugged(pairs: Iterable[Pair]) -> dict[str, str]:
    """Return the metric plug-ins that the cells' configurations list, by the metrics' names in tables."""
    specs = [cell.records["calibrate"]["spec"] for pair in pairs for cell in pair if "calibrate" in cell.records]
    entries = [entry for spec in specs for entry in spec.get("also", ()) if isinstance(entry, Mapping)]
    return {name: metric["name"] for entry in entries for name, metric in entry.items()}


def chosen(moved: pd.DataFrame) -> pd.DataFrame:
    """Return the changes after optimal TS, judged by the known posterior if there is one, without the ECE floor."""
    moved = moved[(moved["calibrator"] == FITTED) & ~moved["metric"].isin(HIDDEN)]
    pairs = moved.get("pair", pd.Series("", moved.index))
    judges = (
        moved["labels"].groupby(pairs).transform(lambda labels: "noisy" if "noisy" in set(labels) else labels.iloc[0])
    )
    return moved[moved["labels"] == judges]


def tables(moved: pd.DataFrame, cells: bool = False, everything: bool = False) -> list[RenderableType]:
    """Return tables of all changes if `everything` is True, or else of the `chosen` changes, with remarks."""
    if moved.empty:
        return [Text("They aren't calibrated in both yet.")]
    moved = moved if everything else chosen(moved)
    parts: list[RenderableType] = []
    groups: Iterable[Any] = moved.groupby(["labels", "calibrator"], sort=False)
    for (labels, calibrator), rows in groups:
        title = f"Test scores after {calibrator_label(calibrator)}, judged by\n{LABELS.get(labels, labels)}"
        each, shown = "pair" in rows, []
        row: Any
        for row in (rows.sort_values("metric", kind="stable", key=_order) if each else rows).itertuples():
            change = terminal.scored(row.change, row.low, row.high)
            name = [row.pair] if each else []
            shown.append([metric_label(row.metric), *name, number(row.a), number(row.b), change, row.better or "–"])
        heading = ["metric", *(["data set and model"] if each else []), "A", "B", "B - A", "better"]
        parts.append(terminal.table(f"{title}\n({_replicates(rows, cells)})", heading, shown))
    if not cells and moved["seeds"].max() < 2:
        parts.append(Text("One seed has no interval over seeds, so neither side is called better."))
    if len(unknown := moved.loc[[value is None for value in moved["lower"]], "metric"].unique()):
        parts.append(Text(f"{', '.join(map(metric_label, unknown))}: {UNKNOWN}"))
    return parts


def _order(metrics: pd.Series) -> pd.Series:
    """Return each metric's rank by first appearance, by which the rows of several pairs are sorted."""
    return pd.Series(pd.factorize(metrics)[0], metrics.index)


def _replicates(rows: pd.DataFrame, cells: bool) -> str:
    """Say whether a table's intervals are over seeds (and how many) or over test samples."""
    if cells:
        return f"better: by the {OVER_SAMPLES}"
    fewest, most = rows["seeds"].min(), rows["seeds"].max()
    seeds = count(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    if most < 2:
        return f"from {seeds}"
    widened = ", widened since they share samples" if rows["correction"].iloc[0] else ""
    without = int(rows["left_out"].max())
    left_out = f", without {count(without, 'group')} of cells with other seeds" if without else ""
    return f"95% t interval of the change over {seeds}{widened}{left_out}"
