"""Cards and comparisons as text in a terminal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from halobench.calibration.evaluate import Calibrated
from halobench.core.console import console, value_text
from halobench.core.specs import CALIBRATORS
from halobench.reporting.labels import CALIBRATORS as CALIBRATOR_LABELS
from halobench.results.cell import CellResults, commands, read_source_spec
from halobench.storage.provenance import short

SCORES = ("error", "nll", "kl", "brier", "ece", "ace_average", "classwise_ece", "ece_floor")
BARS = "▁▂▃▄▅▆▇█"
LABELS = {
    "drawn": "labels as drawn",
    "clean": "labels before noise",
    "noisy": "expected under the known posterior",
}


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def scored(value: float, low: float, high: float) -> str:
    """A value with its 95% interval, where it has one."""
    return number(value) + ("" if math.isnan(low) else f" [{number(low)}, {number(high)}]")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 1) -> Table:
    """A table whose columns from number `right` on hold numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < right else "right", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


CLOSED = ("isotonic", "histogram")  # fitted without an iteration


def certificate(fit: Mapping[str, Any]) -> str:
    """What is known of a fit, in words; only those of a temperature come with a proof."""
    name = fit["calibrator"]
    if name in CLOSED or name not in CALIBRATOR_LABELS:
        return "closed form" if name in CLOSED else "a plug-in's"
    if name not in CALIBRATORS and not fit["separable"]:
        return "converged" if fit["converged"] else "did not converge"
    if fit["separable"]:
        return "no finite optimum: separable"
    if fit["beta"] == 0:
        return "optimum at 1/T = 0"
    return "optimum proved" if fit["converged"] else "not the optimum"


def temperature(fit: Mapping[str, Any]) -> str:
    """T of a fit as JSON holds it."""
    return "∞" if fit["T"] is None and fit["beta"] == 0 else number(fit["T"])


def fits(found: Sequence[Mapping[str, Any]]) -> Table:
    """The fits of a cell's calibrators."""
    rows = [
        [
            fit["calibrator"],
            f"{fit['split']}, {fit['labels']}",
            temperature(fit),
            number(fit["nll"]),
            number(fit["gradient"]),
            certificate(fit),
        ]
        for fit in found
    ]
    return table("Calibrators", ["", "fitted to", "T", "NLL there", "gradient", "certificate"], rows, right=2)


def fits_beside(
    names: tuple[str, str], first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> Table:
    """The temperatures of two cells."""
    found = [{(fit["calibrator"], fit["split"], fit["labels"]): fit for fit in each} for each in (first, second)]
    keys = [*found[0], *(key for key in found[1] if key not in found[0])]
    rows = [
        [key[0], f"{key[1]}, {key[2]}", *(temperature(each[key]) if key in each else "–" for each in found)]
        for key in keys
        if any(key in each and (each[key]["T"] is not None or each[key]["beta"] == 0) for each in found)
    ]
    return table("Temperatures", ["", "fitted to", *names], rows, right=2)


def metrics(
    found: pd.DataFrame, split: str = "test", wanted: Sequence[str] = SCORES, words: Mapping[str, str] = LABELS
) -> list[Table]:
    """A split's metrics, a table for each kind of labels, in `words`: metrics by calibrators."""
    tables = []
    there = found[found["split"] == split]
    for labels, part in there.groupby("labels", sort=False):
        calibrators = list(part["calibrator"].unique())
        each: Iterable[Any] = part.itertuples()
        cells = {(row.calibrator, row.metric): scored(row.value, row.low, row.high) for row in each}
        rows = [
            [metric, *(cells.get((calibrator, metric), "–") for calibrator in calibrators)]
            for metric in wanted
            if metric in set(part["metric"])
        ]
        tables.append(table(f"{split}: {words.get(str(labels), labels)}", ["", *calibrators], rows))
    return tables


def curve(values: Sequence[float], most: int = 60) -> str:
    """A line of bars, from the least value to the largest; of each of `most` stretches the mean."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(most, len(finite))
    edges = [len(finite) * i // count for i in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, spread = min(means), (max(means) - min(means)) or 1.0
    return "".join(BARS[round((mean - low) / spread * (len(BARS) - 1))] for mean in means)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    return made


def card(found: CellResults) -> RenderableType:
    """All of a cell but the commands."""
    train = found.train
    lines = [("folder", str(found.results / "runs" / found.name))]
    lines += [(key, value_text(value)) for key, value in found.spec.items()]
    verdict = "interpolates" if train["interpolates"] else "does not interpolate"
    lines.append(("training", f"{train['steps']} steps, {train['parameters']:,} parameters, {train['device']}"))
    lines.append(("train accuracy", f"{train['train_accuracy']:.4f} on the labels trained on: {verdict}"))
    if len(found.history):
        loss = found.history["train_loss"].tolist()
        lines.append(("train loss", f"{number(loss[0])} {curve(loss)} {number(loss[-1])}"))
    seconds = (f"{stage} {made['seconds']:.1f} s" for stage, made in found.records.items())
    lines.append(("took", ", ".join(seconds)))
    commit = short(train["commit"] or "unknown")
    lines.append(("made", f"{train['finished']}, commit {commit}, {train['hardware']['processor']}"))
    lines.append(("versions", ", ".join(f"{name} {version}" for name, version in train["versions"].items())))
    missing = [stage for stage in ("probe", "calibrate") if stage not in found.records]
    if missing:
        lines.append(("not there", " and ".join(missing)))
    parts: list[RenderableType] = [Text(found.name, style="bold"), facts(lines), Text()]
    if found.fits:
        parts.append(fits(found.fits))
    return Group(*parts, *metrics(found.metrics), Text("Commands that make it anew", style="bold"))


def show(found: CellResults) -> None:
    """Print a cell's card; its commands are left in one piece each, to be copied."""
    out = console()
    out.print(card(found))
    for line in commands(found, read_source_spec(found.results, found.source)):
        out.print(Text(line), soft_wrap=True)


def calibrated(path: str, said: str, found: Calibrated) -> RenderableType:
    """What calibrating a file of logits found; `said` tells what of its points was fitted to."""
    words = {"clean": "the labels given", "noisy": "expected under the posterior given"}
    return Group(Text(path, style="bold"), Text(said), Text(), fits(found.fits), *metrics(found.metrics, words=words))


def spec_differences(names: tuple[str, str], found: Sequence[tuple[str, Any, Any]]) -> RenderableType:
    """Keys whose values differ."""
    if not found:
        return Text("Their specs are the same.")
    return table("Specs", ["", *names], [[key, value_text(a), value_text(b)] for key, a, b in found], right=3)


def metric_changes(names: tuple[str, str], found: pd.DataFrame, lead: Sequence[str] = ()) -> RenderableType:
    """Changes of metrics, as `halobench.results.cell.changes` gives them; `lead` names columns that stand first."""
    if found.empty:
        return Text("No metric differs.")
    said = {True: "intervals apart", False: "intervals overlap", None: "no interval"}
    columns = [*lead, "labels", "calibrator", "metric"]
    rows = [
        [
            *(str(row[column]) for column in columns),
            scored(row["value_a"], row["low_a"], row["high_a"]),
            scored(row["value_b"], row["low_b"], row["high_b"]),
            number(row["change"]),
            said[row["beyond"]],
        ]
        for _, row in found.iterrows()
    ]
    return table("Metrics", [*columns, *names, "change", ""], rows, right=len(columns))
