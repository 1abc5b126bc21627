"""Print the results and comparisons of cells in a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from halobench.core.calibrator_spec import CALIBRATORS
from halobench.core.console import console, value_text
from halobench.core.formatting import interval, number
from halobench.reporting import table_views
from halobench.reporting.labels import CALIBRATORS as CALIBRATOR_LABELS
from halobench.reporting.labels import calibrator_label, metric_label
from halobench.results.cell import CellResults, commands, read_source_spec
from halobench.results.names import LABELS, METRICS, OVER_SAMPLES, REGION_METRICS, REPAIRS
from halobench.storage.provenance import short

SHORT = 20  # terminal columns that a name may take up before it is wrapped
NAMES, SCORED = 16, 18  # terminal columns for names of metrics, and for scores with intervals
SCORES = ("error", "nll", "kl", "brier", "ece", "ace_average", "classwise_ece", "ece_floor")
FOUR, TWO = ".4g", ".2g"  # significant digits


def scored(value: float, low: float, high: float) -> str:
    """Format a score with its interval, if any, on the line below, so that tables don't wrap inside the brackets."""
    return number(value) + ("" if math.isnan(low) else "\n" + interval(low, high))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 1, loose: str = "") -> Table:
    """Return a table whose columns from index `right` on hold numbers, which are never wrapped.

    In a narrow terminal, the column `loose` is wrapped first, and then long entries in the first columns.
    """
    listed = list(rows)
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        longest = max((len(line) for row in listed for line in row[index].split("\n")), default=0)
        style: dict[str, Any] = {"overflow": "fold", "min_width": min(longest, SHORT)}
        if index >= right:
            style = {"justify": "right", "no_wrap": column != loose}
        shown.add_column(column.replace(" (", "\n(") if index >= right else column, **style)
    for row in listed:
        shown.add_row(*row)
    return shown


def certificate(fit: Mapping[str, Any]) -> str:
    """State in words what is known about a fit; only temperature fits come with a proof."""
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
    """Format the T of a fit in JSON form."""
    return "∞" if fit["T"] is None and fit["beta"] == 0 else number(fit["T"], FOUR)


def fits(fitted: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the fits of a cell's calibrators."""
    rows = [
        [
            calibrator_label(fit["calibrator"]).replace(" (", "\n("),
            f"{fit['split']}, {fit['labels']}",
            temperature(fit),
            number(fit["nll"], FOUR),
            number(fit["gradient"], TWO),
            certificate(fit),
        ]
        for fit in fitted
    ]
    return table("Calibrators", ["", "fitted to", "T", "NLL", "gradient", "optimum?"], rows, 2, "optimum?")


def metrics(scores: pd.DataFrame, width: int | None = None) -> list[Table]:
    """Return tables of a cell's test metrics, the usual ones and those of plug-ins, for each kind of label.

    A table has as many calibrators as fit into `width` columns, by default the width of the terminal.
    """
    most = max(1, ((width or console().width) - NAMES) // SCORED)
    scores = table_views.without_void_floors(scores.assign(dataset=""))
    tables = []
    for labels, part in scores[scores["split"] == "test"].groupby("labels", sort=False):
        present = list(part["metric"].unique())
        listed = [name for name in SCORES if name in present]
        listed += [name for name in present if name not in (*METRICS, *REGION_METRICS)]
        texts = [scored(*values) for values in part[["value", "low", "high"]].to_numpy()]
        cells = part.assign(text=texts).pivot(index="metric", columns="calibrator", values="text")
        cells = cells.reindex(index=listed, columns=part["calibrator"].unique()).fillna("–")
        title = f"test, judged by {LABELS.get(str(labels), labels)}\nin brackets the {OVER_SAMPLES}"
        for start in range(0, cells.shape[1], most):
            shown = cells.iloc[:, start : start + most]
            rows = [[metric_label(metric), *values] for metric, *values in shown.itertuples(name=None)]
            tables.append(table(title, ["", *map(calibrator_label, shown)], rows))
    return tables


def ladder(rows: pd.DataFrame) -> Table:
    """Return a table of a cell's repair ladder: its test NLL, and how much each remedy would remove."""
    parts = rows.set_index("metric")[["value", "low", "high"]]
    words = {"repair_nll": "the model as it is"}
    words |= {f"repair_{name}": f"repaired by {REPAIRS[name].label}" for name in reversed(REPAIRS)}
    if "repair_noise" not in parts.index:
        words["repair_training"] += ", or noise"
    shown = [[text, scored(*parts.loc[name])] for name, text in words.items() if name in parts.index]
    title = f"What could repair it? judged by\n{LABELS[rows['labels'].iloc[0]]},\nin brackets the {OVER_SAMPLES}"
    return table(title, ["", "test NLL (nats)"], shown)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of names and values."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim")
    shown.add_column(overflow="fold")
    for row in rows:
        shown.add_row(*row)
    return shown


def card(cell: CellResults) -> RenderableType:
    """Return everything known about a cell except its commands."""
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
    """Print a cell's results and its commands, which aren't wrapped, so that they can be copied."""
    out = console()
    out.print(card(cell))
    for line in commands(cell, read_source_spec(cell.results, cell.source)):
        out.print(Text(line), soft_wrap=True)
