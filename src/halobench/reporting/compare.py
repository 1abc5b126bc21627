"""Compare two cells, two losses over their seeds, or two results folders over their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from halobench.core import console
from halobench.core.errors import SpecError
from halobench.core.formatting import count, number
from halobench.reporting import terminal
from halobench.reporting.labels import calibrator_label, metric_label
from halobench.results.cell import CellResults, cell_names, differing, find_cell, find_seeds, read_cell
from halobench.results.names import LABELS, OVER_SAMPLES
from halobench.results.t_intervals import t_interval

KEYS = ["labels", "calibrator", "metric"]
FITTED = "exact"  # the calibrator whose results are compared
WITHOUT_DIRECTION = ("ece_floor",)  # for all other metrics, lower values are better
OTHER_SAMPLES = "They are scored on different test samples, since their data sets or seeds differ."
Pair = tuple[CellResults, CellResults]


def compare(first: str, second: str, results: Path, everything: bool = False) -> None:
    """Print which of two cells or losses in `results`, or of two results folders, is better, and how they differ."""
    folders = [Path(name, "runs").is_dir() for name in (first, second)]
    if folders[0] != folders[1]:
        other = second if folders[0] else first
        what = f"two cells or two results folders, but {other} has no `runs` folder"
        raise SpecError("compare", [first, second], what)
    if all(folders):
        pairs, about = _in_both(Path(first), Path(second))
    else:
        pairs = _with_equal_seeds(results, first, second)
        about = [_spec_differences(pairs)]
    moved = changes((a.metrics, b.metrics) for a, b in pairs)
    lines = [Text(f"A: {first}"), Text(f"B: {second}"), Text()]
    console.console().print(Group(*lines, *about, *tables(moved, len(pairs), everything)))


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
    """List the first names and the number of others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _with_equal_seeds(results: Path, first: str, second: str) -> list[Pair]:
    """Return the pairs of cells of two losses for the seeds that both have, or a single pair of cells."""
    seeds = [{name.rpartition("/")[2]: name for name in find_seeds(results, loss)} for loss in (first, second)]
    names = [(seeds[0][seed], seeds[1][seed]) for seed in seeds[0] if seed in seeds[1]]
    names = names if len(names) > 1 else [(find_cell(results, first), find_cell(results, second))]
    return [(read_cell(results, a), read_cell(results, b)) for a, b in names]


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


def changes(pairs: Iterable[tuple[pd.DataFrame, pd.DataFrame]]) -> pd.DataFrame:
    """Return the means of test scores over pairs of metrics tables, and the mean change from the first to the second.

    If there are several pairs, the change has a 95% t interval. ``better`` is "A" or "B" if 0 lies outside this
    interval or, with one pair, if the intervals of the two values don't overlap; otherwise, it is empty.
    """
    joined = [a.merge(b, on=["split", *KEYS], suffixes=("_a", "_b")) for a, b in pairs]
    both = pd.concat([*joined, pd.DataFrame(columns=["split", *KEYS])])
    rows = []
    for key, group in both[both["split"] == "test"].groupby(KEYS, sort=False):
        equal = (group["value_a"] == group["value_b"]) | (group["value_a"].isna() & group["value_b"].isna())
        change, low, high = t_interval((group["value_b"] - group["value_a"]).mask(equal, 0.0).to_numpy(float))
        only: Any = group.iloc[0]
        apart = only["low_b"] > only["high_a"] or only["low_a"] > only["high_b"]
        clear = apart if len(group) == 1 else low > 0 or high < 0
        better = "" if not clear or key[2] in WITHOUT_DIRECTION else "A" if change > 0 else "B"
        rows.append((*key, group["value_a"].mean(), group["value_b"].mean(), change, low, high, better))
    return pd.DataFrame(rows, columns=[*KEYS, "a", "b", "change", "low", "high", "better"])


def tables(moved: pd.DataFrame, pairs: int, everything: bool = False) -> list[RenderableType]:
    """Tabulate changes: all with `everything`, else those after optimal TS, by the known posterior if there is one."""
    if moved.empty:
        return [Text("They aren't calibrated in both yet.")]
    judges = list(dict.fromkeys(moved["labels"]))
    if not everything:
        moved = moved[(moved["calibrator"] == FITTED) & ~moved["metric"].isin(WITHOUT_DIRECTION)]
        judges = [judges[0]] if "noisy" not in judges else ["noisy"]
    clear = f"over {pairs} pairs, 95% t interval of the change" if pairs > 1 else f"better: by the {OVER_SAMPLES}"
    parts: list[RenderableType] = []
    groups: Iterable[Any] = moved.groupby(["labels", "calibrator"], sort=False)
    for (labels, calibrator), rows in groups:
        if labels in judges:
            title = f"Test scores after {calibrator_label(calibrator)}, judged by\n{LABELS.get(labels, labels)}"
            cells = []
            row: Any
            for row in rows.itertuples():
                change = terminal.scored(row.change, row.low, row.high)
                cells.append([metric_label(row.metric), number(row.a), number(row.b), change, row.better or "–"])
            parts.append(terminal.table(f"{title}\n({clear})", ["metric", "A", "B", "B - A", "better"], cells))
    return parts
