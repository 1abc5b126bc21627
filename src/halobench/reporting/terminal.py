"""Print the results and comparisons of cells in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from halobench.analysis.names import LABELS, METRICS, OVER_SAMPLES, REGION_METRICS, REPAIRS
from halobench.core.console import console, value_text
from halobench.core.formatting import interval, number
from halobench.core.specs.calibrator import CALIBRATORS
from halobench.reporting import table_views
from halobench.reporting.labels import CALIBRATORS as CALIBRATOR_LABELS
from halobench.reporting.labels import calibrator_label, metric_label
from halobench.results.cell_results import CellResults, commands, read_source_spec
from halobench.storage.provenance import short

SHORT = 20  # terminal columns that a text may take up before it is wrapped; no number in one is longer
FOUR, TWO = ".4g", ".2g"  # significant digits


def scored(value: float, low: float, high: float) -> str:
    """Format a score with its interval, if any, on the line below, so that tables don't wrap inside its brackets."""
    return number(value) + ("" if math.isnan(low) else "\n" + interval(low, high))


@dataclass(frozen=True)
class Rows:
    """Rows of a table whose columns from index `right` on, except `loose`, hold numbers.

    Texts in the other columns are wrapped, but numbers are never cut or wrapped. A terminal that is still too narrow
    shows a list with one line per entry instead of the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: int = 1
    loose: str = ""

    @property
    def headings(self) -> list[str]:
        """Return the headings of the columns; headings of numbers are broken before brackets."""
        return [name if i < self.right else name.replace(" (", "\n(") for i, name in enumerate(self.columns)]

    @property
    def least_width(self) -> int:
        """Return the fewest terminal columns in which the table fits."""
        return sum(least for _, least in self._limits) + self._between

    @property
    def _between(self) -> int:
        """Return the number of terminal columns between the table's columns and at its edges."""
        return 3 * len(self.columns) - 1

    @property
    def _limits(self) -> list[tuple[int, int]]:
        """Return each column's width with unwrapped lines, and its smallest width; columns of numbers never shrink."""
        limits = []
        for index, column in enumerate(zip(self.headings, *self.rows, strict=True)):
            longest = max(cell_len(line) for entry in column for line in entry.split("\n"))
            word = min(SHORT, max((cell_len(word) for entry in column for word in entry.split()), default=0))
            fixed = index >= self.right and self.columns[index] != self.loose
            limits.append((longest, longest if fixed else word))
        return limits

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table or, if it doesn't fit, the list."""
        width = options.max_width
        yield self._table(width) if self.least_width <= width else self._list(width)

    def _table(self, width: int) -> Table:
        widths, least = map(list, zip(*self._limits, strict=True))
        while sum(widths) + self._between > width:  # narrow the widest column that can be narrowed
            widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=widths.__getitem__)
            widths[widest] -= 1
        shown = Table(title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, heading in enumerate(self.headings):
            justify: Literal["left", "right"] = "right" if index >= self.right else "left"
            shown.add_column(heading, overflow="fold", width=widths[index], justify=justify)
        for row in self.rows:
            texts = zip(row, widths, strict=True)  # a text that is too long is broken before a bracket, not within it
            shown.add_row(*(text.replace(" (", "\n(") if cell_len(text) > most else text for text, most in texts))
        return shown

    def _list(self, width: int) -> Group:
        parts: list[RenderableType] = [Text(self.title, style="bold")]
        parts.append(Text(f"(a list, since a terminal of {width} columns is too narrow for the table)"))
        for first, *others in self.rows:
            parts.append(Text("\n" + first.replace("\n", " "), style="bold", overflow="fold"))
            lines = (f"{name}: {entry}" for name, entry in zip(self.columns[1:], others, strict=True))
            parts += [Text(line.replace("\n", " "), overflow="fold") for line in lines]
        return Group(*parts, Text())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 1, loose: str = "") -> Rows:
    """Return `Rows`, which print as a table or, in a narrow terminal, as a list."""
    return Rows(title, columns, list(rows), right, loose)


def certificate(fit: Mapping[str, Any]) -> str:
    """Return, in words, whether a fit is known to be optimal; only temperature fits come with a proof."""
    name = fit["calibrator"]
    if "reason" in fit:
        return f"failed: {fit['reason']}"
    if name not in CALIBRATOR_LABELS:
        return "a plug-in's"
    if name not in CALIBRATORS:
        return "converged" if fit["converged"] else "did not converge"
    if name == "paper" and fit["beta"] is None:
        return "none: its gradient is NaN at logits of -inf"
    if (fit["T"] or 0) < 0:
        return "not the optimum: fit below 0"
    if fit["separable"]:
        return "no finite optimum: separable"
    if fit["beta"] == 0:
        return "optimum at 1/T = 0"
    return "optimum proved" if fit["converged"] else "not the optimum"


def temperature(fit: Mapping[str, Any]) -> str:
    """Return the T of a fit in JSON form as text, ∞ if 1 / T is 0."""
    return "∞" if fit["T"] is None and fit["beta"] == 0 else number(fit["T"], FOUR)


def fits(fitted: Sequence[Mapping[str, Any]]) -> Rows:
    """Return a table of the fits of a cell's calibrators."""
    rows = [
        [
            calibrator_label(fit["calibrator"]),
            f"{fit['split']}, {fit['labels']}",
            temperature(fit),
            number(fit["nll"], FOUR),
            number(fit["gradient"], TWO),
            certificate(fit),
        ]
        for fit in fitted
    ]
    return table("Calibrators", ["", "fitted to", "T", "NLL", "gradient", "optimum?"], rows, 2, "optimum?")


def metrics(scores: pd.DataFrame, width: int | None = None) -> list[Rows]:
    """Return tables of a cell's test metrics, except `REGION_METRICS`, for each kind of label.

    A table has as many calibrators as fit into `width` terminal columns, by default the width of the terminal.
    """
    width = width or console().width
    scores = table_views.without_void_floors(scores.assign(dataset=""))
    tables = []
    for labels, part in scores[scores["split"] == "test"].groupby("labels", sort=False):
        present = dict.fromkeys(part["metric"])
        listed = [name for name in {**METRICS, **present} if name in present and name not in REGION_METRICS]
        texts = [scored(*values) for values in part[["value", "low", "high"]].to_numpy()]
        cells = part.assign(text=texts).pivot(index="metric", columns="calibrator", values="text")
        cells = cells.reindex(index=listed, columns=part["calibrator"].unique()).fillna("–")
        title = f"test, judged by {LABELS.get(str(labels), labels)}\nin brackets the {OVER_SAMPLES}"
        calibrators = list(cells)
        while calibrators:
            sizes = range(1, len(calibrators) + 1)
            several = [_scores(title, cells[calibrators[:size]]) for size in sizes]
            most = max((size for size in sizes if several[size - 1].least_width <= width), default=1)
            tables.append(several[most - 1])
            calibrators = calibrators[most:]
    return tables


def _scores(title: str, cells: pd.DataFrame) -> Rows:
    """Return the table of formatted scores, with a row per metric and a column per calibrator."""
    rows = [[metric_label(metric), *values] for metric, *values in cells.itertuples(name=None)]
    return table(title, ["", *map(calibrator_label, cells)], rows)


def ladder(rows: pd.DataFrame) -> Rows:
    """Return a table of a cell's repair ladder: its test NLL, and how much each remedy would remove."""
    parts = rows.set_index("metric")[["value", "low", "high"]]
    words = {"repair_nll": "the model as it is"}
    words |= {f"repair_{name}": f"repaired by {REPAIRS[name].label}" for name in reversed(REPAIRS)}
    if "repair_noise" not in parts.index:
        words["repair_training"] += ", or noise"
    shown = [[text, scored(*parts.loc[name])] for name, text in words.items() if name in parts.index]
    title = f"What could repair it? judged by\n{LABELS[rows['labels'].iloc[0]]},\nin brackets the {OVER_SAMPLES}"
    return table(title, ["", "test NLL (nats)"], shown)


def facts(rows: Sequence[tuple[str, str]], width: int | None = None) -> RenderableType:
    """Return names and values as a table, or as lines if less than `SHORT` terminal columns are left for values."""
    if max(cell_len(name) for name, _ in rows) + 2 + SHORT > (width or console().width):
        return Group(*(Text(f"{name}: {value}", overflow="fold") for name, value in rows))
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def card(cell: CellResults) -> RenderableType:
    """Return what `show` prints about a cell before its commands."""
    train = cell.train
    lines = [("folder", str(cell.results / "runs" / cell.name))]
    lines += [(key, value_text(value)) for key, value in cell.spec.items()]
    verdict = "interpolates" if train["interpolates"] else "does not interpolate"
    lines.append(("training", f"{train['steps']} steps, {train['parameters']:,} parameters, {train['device']}"))
    lines.append(("train accuracy", f"{train['train_accuracy']:.4f} on the labels trained on: {verdict}"))
    if len(cell.history):
        loss = cell.history["train_loss"].tolist()
        lines.append(("train loss", f"{number(loss[0], FOUR)} after one epoch, {number(loss[-1], FOUR)} at the end"))
    lines.append(("took", ", ".join(f"{stage} {record['seconds']:.1f} s" for stage, record in cell.records.items())))
    commit = short(train["commit"] or "unknown")
    lines.append(("made", f"{train['finished']}, commit {commit}, {train['hardware']['processor']}"))
    lines.append(("versions", ", ".join(f"{name} {version}" for name, version in train["versions"].items())))
    missing = [stage for stage in ("probe", "calibrate") if stage not in cell.records]
    if missing:
        lines.append(("missing", " and ".join(missing)))
    parts: list[RenderableType] = [Text(cell.name, style="bold"), facts(lines), Text()]
    parts += [fits(cell.fits)] if cell.fits else []
    parts += metrics(cell.metrics)
    parts += [ladder(cell.ladder)] if len(cell.ladder) else []
    return Group(*parts, Text("Commands to reproduce", style="bold"))


def show(cell: CellResults) -> None:
    """Print a cell's results and its commands; commands aren't wrapped, so that they can be copied."""
    out = console()
    out.print(card(cell))
    for line in commands(cell, read_source_spec(cell.results, cell.source)):
        out.print(Text(line), soft_wrap=True)
