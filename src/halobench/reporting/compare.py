"""Compare two cells, two losses over their seeds, or two results folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from halobench.core import console
from halobench.core.errors import SpecError
from halobench.core.formatting import count
from halobench.reporting import terminal
from halobench.results.cell import (
    CellResults,
    cell_names,
    changes,
    differing,
    find_cell,
    find_seeds,
    paired_changes,
    read_cell,
)

SEVERAL = 40  # most rows of changes printed
FIRST = ("nll", "ece", "error", "kl")  # the metrics compared by default
OTHER_POINTS = "They are scored on different test points, since their data sets or seeds differ."


@dataclass(frozen=True)
class Folders:
    """The differences between two results folders.

    Attributes
    ----------
    only : pair of lists
        Cells that are only in the first folder, and cells that are only in the second.
    specs : mapping of cell to list
        For each shared cell whose specs differ: the differences, as (key, first, second).
    same : list
        Shared cells whose metrics are all the same.
    changes : DataFrame
        The metrics that differ, as `halobench.results.cell.changes` returns them, with a column ``cell`` added.
    """

    only: tuple[list[str], list[str]]
    specs: dict[str, list]
    same: list[str]
    changes: pd.DataFrame


def compare(first: str, second: str, results: Path, everything: bool = False) -> None:
    """Print how two cells of `results`, two losses over their shared seeds, or two results folders differ.

    Raises
    ------
    SpecError
        If either doesn't exist, or if one is a cell and the other a folder.
    """
    folders = [Path(name, "runs").is_dir() for name in (first, second)]
    if folders[0] != folders[1]:
        other = second if folders[0] else first
        raise SpecError(
            "compare", [first, second], f"two cells or two results folders, but {other} has no `runs` folder"
        )
    if all(folders):
        said = of_folders((first, second), compare_folders(Path(first), Path(second)))
    elif shared := _shared_seeds(results, first, second):
        said = of_losses(shared, everything)
    else:
        cells = [read_cell(results, find_cell(results, name)) for name in (first, second)]
        said = of_cells(cells[0], cells[1], everything)
    console.console().print(said)


def _shared_seeds(results: Path, first: str, second: str) -> list[tuple[CellResults, CellResults]]:
    """Pair the cells of two losses by seed; return an empty list if they share fewer than two seeds."""
    seeds = [{name.rpartition("/")[2]: name for name in find_seeds(results, loss)} for loss in (first, second)]
    shared = [seed for seed in seeds[0] if seed in seeds[1]]
    if len(shared) < 2:
        return []
    return [(read_cell(results, seeds[0][seed]), read_cell(results, seeds[1][seed])) for seed in shared]


def of_losses(pairs: Sequence[tuple[CellResults, CellResults]], everything: bool = False) -> RenderableType:
    """Format two losses side by side, over pairs of cells with the same seed: the `FIRST` metrics, or all metrics."""
    first, second = pairs[0]
    lines = [f"{side}: {cell.name.rpartition('/')[0]}" for side, cell in (("A", first), ("B", second))]
    scored = [pair for pair in pairs if len(pair[0].metrics) and len(pair[1].metrics)]
    lines.append(
        f"Compared over the seeds that both have: {', '.join(pair[0].name.rpartition('seed')[2] for pair in scored)}."
    )
    if len(scored) < 2:
        return Group(*map(Text, lines), Text("Fewer than two seeds are calibrated in both."))
    metrics = [{str(i): pair[side].metrics for i, pair in enumerate(scored)} for side in (0, 1)]
    moved = paired_changes(*metrics)
    if not everything:
        moved = moved[moved["metric"].isin(FIRST) & (moved["change"] != 0)]
    specs = [entry for entry in differing(first.spec, second.spec) if entry[0] != "seed"]
    lines += [OTHER_POINTS] if _other_points(specs) else []
    return Group(
        *map(Text, lines),
        Text(),
        terminal.spec_differences(("A", "B"), specs),
        terminal.loss_changes(("A", "B"), moved),
    )


def _other_points(specs: Sequence[tuple[str, Any, Any]]) -> bool:
    """Return whether these differences change the test points. Label noise changes only which labels are drawn."""
    keys = {key for key, _, _ in specs if not key.startswith("dataset.noise")}
    return any(key == "seed" or key.startswith("dataset.") for key in keys)


def of_cells(first: CellResults, second: CellResults, everything: bool = False) -> RenderableType:
    """Format two cells side by side: the `FIRST` metrics that differ, or all metrics if `everything` is true."""
    names, moved = ("A", "B"), changes(first.metrics, second.metrics)
    if not everything:
        moved = moved[(moved["split"] == "test") & (moved["change"] != 0) & moved["metric"].isin(FIRST)]
    lead = ["split"] if everything else []
    lines = [f"A: {first.name}", f"B: {second.name}"]
    specs = differing(first.spec, second.spec)
    lines += [OTHER_POINTS] if _other_points(specs) else []
    missing = [f"{card.name} is not calibrated yet." for card in (first, second) if card.metrics.empty]
    return Group(
        *map(Text, lines),
        Text(),
        terminal.spec_differences(names, specs),
        terminal.fits_beside(names, first.fits, second.fits),
        terminal.metric_changes(names, moved, lead),
        *map(Text, missing),
    )


def compare_folders(first: Path, second: Path) -> Folders:
    """Compare the cells of two results folders."""
    names = [cell_names(folder) for folder in (first, second)]
    shared = [name for name in names[0] if name in set(names[1])]
    alone, others = ([name for name in each if name not in set(shared)] for each in names)
    specs, same, parts = {}, [], []
    for name in shared:
        cards = [read_cell(folder, name) for folder in (first, second)]
        if differences := differing(cards[0].spec, cards[1].spec):
            specs[name] = differences
        moved = changes(cards[0].metrics, cards[1].metrics)
        moved = moved[(moved["split"] == "test") & (moved["change"] != 0)]
        if moved.empty:
            same.append(name)
        else:
            parts.append(moved.assign(cell=name))
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return Folders((alone, others), specs, same, joined)


def of_folders(names: Sequence[str], folders: Folders) -> RenderableType:
    """Format two results folders side by side."""
    moved = folders.changes["cell"].nunique() if len(folders.changes) else 0
    beyond = folders.changes[folders.changes["beyond"].eq(True)] if len(folders.changes) else folders.changes
    lines = [f"A: {names[0]}", f"B: {names[1]}", ""]
    lines.append(
        f"Cells in both: {len(folders.same) + moved}, {len(folders.same)} with the same test metrics and {moved} with"
        " different ones."
    )
    for which, cells in zip("AB", folders.only, strict=True):
        if cells:
            more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
            lines.append(f"Only in {which}: {', '.join(cells[:5])}{more}")
    if len(folders.specs):
        lines.append(f"Different specs in {count(len(folders.specs), 'cell')}:")
        for cell, differences in list(folders.specs.items())[:5]:
            said = "; ".join(f"{key} {console.value_text(a)} → {console.value_text(b)}" for key, a, b in differences)
            lines.append(f"  {cell}: {said}")
    if moved:
        lines.append(f"In {len(beyond)} of {len(folders.changes)} changes, the intervals don't overlap.")
    shown = beyond if len(beyond) else folders.changes
    if len(shown) > SEVERAL:
        lines.append(f"The {SEVERAL} largest:")
    order: Any = shown["change"].abs().sort_values(ascending=False).index[:SEVERAL] if len(shown) else []
    parts: list[RenderableType] = list(map(Text, lines))
    if len(order):
        parts.append(terminal.metric_changes(("A", "B"), shown.loc[order], ["cell"]))
    return Group(*parts)
