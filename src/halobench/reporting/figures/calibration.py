"""Test NLL and ECE by calibrator and loss, against the Bayes posterior and other predictors that need no training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.core.specs import CALIBRATORS
from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import Style, loss_styles

TITLE = "What temperature scaling changes on test data"
OTHER_TITLE = "What calibration changes on test data"  # where some of the calibrators are no temperature
HIGH = 1.35  # of a panel, inches
LINE = 0.125  # height of a line of the words in a panel, inches
METRICS = {"nll": "NLL (nats)", "ece": "Expected calibration error (ECE)"}
REFERENCE_DASHES = {"bayes": "-", "nearest": (0, (4, 2)), "uniform": (0, (1, 1.5))}


@styled
def draw(metrics: pd.DataFrame) -> Figure:
    """Draw NLL and ECE: mean over seeds with t interval, a group a calibrator, a marker a loss, references as lines.

    Parameters
    ----------
    metrics : DataFrame
        As aggregated; test rows, against noisy labels in expectation where a data set has them.

    Returns
    -------
    Figure
    """
    table = table_views.preferred_labels(metrics)
    wanted = table[table["metric"].isin(METRICS) & (table["loss"] != "reference")]
    if wanted.empty:
        return artists.nothing(TITLE, "No NLL or ECE was computed on a test set.")
    losses, cells = table_views.losses_in(wanted), table_views.cells_in(wanted)
    calibrators = labels.ordered(wanted["calibrator"], labels.CALIBRATORS)
    styles = loss_styles(losses)
    by = ["dataset", "model", "loss", "calibrator", "metric"]
    means = seed_statistics.over_seeds(table[table["metric"].isin([*METRICS, "ece_floor"])], by, "value")
    panels, own = (table_views.groups_of(rows, ["dataset", "model"]) for rows in (means, wanted))
    known = set(table["model"].unique())
    cut = " (an arrow: it goes on)" if means["low"].notna().any() else ""
    grid = page_layout.grid(
        OTHER_TITLE if others(calibrators) else TITLE,
        f"Points: {seeds_note(wanted)}{cut}, on {label_note(wanted)}. TS is fitted on validation data, released "
        f"(the fit of the paper's code) or exact (the optimum); oracle TS is fitted on the test data. "
        f"{others(calibrators)}Lower is better.",
        {cell: labels.cell_label(*cell) for cell in cells},
        METRICS,
        {(key[:2], key[2]) for key in table_views.groups_of(wanted, ["dataset", "model", "metric"])},
        panel=(max(3.0, 0.82 * len(calibrators)), HIGH),  # room for a name under each
        gap=(0.55, 0.55),
        left=0.5,
        bottom=0.35,
        legend=[
            *artists.loss_keys(losses, styles),
            *(
                artists.key(labels.REFERENCES[name], INK, ls=REFERENCE_DASHES[name], lw=1)
                for name in labels.REFERENCES
                if name in known
            ),
            artists.key("ECE floor: calibrated perfectly, as many points", GREY, marker="_", ms=8, mew=1.5, ls=""),
        ],
    )
    references = {metric: all_reference_values(means[means["metric"] == metric]) for metric in METRICS}
    for (cell, metric), ax in grid.axes.items():
        panel = panels.get(cell, means.iloc[:0])
        there = [loss for loss in losses if loss in set(panel["loss"])]
        shown = panel[panel["metric"].isin([metric, "ece_floor"] if metric == "ece" else [metric])]
        missing = missing_fits(own[cell][own[cell]["metric"] == "nll"]) if metric == "nll" else []
        top = _limits_and_references(ax, shown, references[metric].get(cell[0], {}), missing)
        columns = _columns(panel, calibrators)
        segments: list[Any] = []
        colors: list[str] = []
        for offset, loss in zip(artists.dodge(len(there), 0.62), there, strict=True):
            own_rows = columns["loss"] == loss
            points = {name: values[own_rows & (columns["metric"] == metric)] for name, values in columns.items()}
            segments += _points(ax, points, offset, styles[loss], top)
            colors += [styles[loss].color] * (len(segments) - len(colors))
            if metric == "ece":
                floor = {
                    name: values[own_rows & (columns["metric"] == "ece_floor")] for name, values in columns.items()
                }
                _floor(ax, floor, offset, styles[loss])
        artists.add_segments(ax, segments, colors, lw=1, zorder=2)
        ax.set_xlim(-0.5, len(calibrators) - 0.5)
        page_layout.set_ticks(ax.xaxis, range(len(calibrators)), [labels.calibrator_label(c) for c in calibrators])
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", length=0)
    return grid.figure


def others(calibrators: list[str]) -> str:
    """What the calibrators that are no TS of the logits are, in words."""
    there = [labels.calibrator_label(c) for c in calibrators if c not in CALIBRATORS]
    return f"On validation data, as exact TS: {', '.join(there)}. " if there else ""


def label_note(table: pd.DataFrame) -> str:
    """Which labels the rows of `table` are scored against, in words."""
    words = {
        "noisy": "test labels with the noise trained on (in expectation)",
        "drawn": "test labels with noise drawn",
        "clean": "clean test labels",
    }
    return " or ".join(words.get(kind, kind) for kind in labels.ordered(table["labels"], words))


def all_reference_values(means: pd.DataFrame) -> dict[str, dict[str, float]]:
    """`reference_values` of each data set that has such rows."""
    rows = means[means["loss"] == "reference"]
    groups: Iterable[tuple[Any, pd.DataFrame]] = rows.groupby("dataset")
    return {dataset: reference_values(own, dataset) for dataset, own in groups}


def reference_values(means: pd.DataFrame, dataset: str) -> dict[str, float]:
    """Values of the predictors that need no training on one data set; `nearest` after exact TS where there is one."""
    rows = means[(means["dataset"] == dataset) & (means["loss"] == "reference")]
    found = {}
    for name in labels.REFERENCES:
        values = rows[rows["model"] == name].set_index("calibrator")["mean"]
        order = ("exact", "none") if name == "nearest" else ("none", "exact")
        kinds = [kind for kind in (*order, *values.index) if kind in values.index]
        if kinds:
            found[name] = float(values[kinds[0]])
    return found


def missing_fits(rows: pd.DataFrame) -> list[str]:
    """Lines that say how many models a calibrator has no optimum or no finite NLL for; equal ones share a line."""
    found: dict[str, list[str]] = {}
    groups: Iterable[tuple[Any, pd.DataFrame]] = rows.groupby("calibrator", sort=True)
    for calibrator, group in groups:
        what = "T" if calibrator in CALIBRATORS else "optimum"
        absent, infinite = int(group["value"].isna().sum()), int(np.isposinf(group["value"]).sum())
        for count, told in ((absent, f"no finite {what}"), (infinite, "infinite")):
            if count:
                line = f"{told} for {count} of {len(group)} models"
                found.setdefault(line, []).append(labels.calibrator_label(calibrator))
    return [f"{', '.join(who)}: {line}" for line, who in found.items()]


def _columns(panel: pd.DataFrame, calibrators: list[str]) -> dict[str, np.ndarray]:
    """The rows of a panel in the order of calibrators, as arrays; `x` is a calibrator's place."""
    places = {calibrator: float(i) for i, calibrator in enumerate(calibrators)}
    x = panel["calibrator"].map(places).to_numpy(dtype=float)
    order = np.argsort(x, kind="stable")[: int(np.isfinite(x).sum())]
    found = {name: panel[name].to_numpy(dtype=object)[order] for name in ("loss", "metric")}
    return found | {name: panel[name].to_numpy()[order] for name in ("mean", "low", "high")} | {"x": x[order]}


def _points(
    ax: Axes, rows: dict[str, np.ndarray], offset: float, style: Style, top: float
) -> list[list[tuple[float, float]]]:
    """One loss: a dot a calibrator, joined by a thin line; returns its intervals, which above `top` end in an arrow."""
    x, low, high = rows["x"] + offset, rows["low"], rows["high"]
    artists.add_line(ax, x, rows["mean"], color=style.color, marker=style.marker, ms=4, mew=0, lw=0.7, zorder=3)
    known = np.isfinite(low)
    look = {"color": style.color, "marker": "^", "ms": 2.5, "mew": 0, "ls": "", "zorder": 2, "clip_on": False}
    for at in x[known & (high > top)]:
        artists.add_line(ax, [at], [top], **look)
    ends = zip(x[known], low[known], high[known], strict=True)
    return [[(at, min(start, top)), (at, min(end, top))] for at, start, end in ends]


def _floor(ax: Axes, rows: dict[str, np.ndarray], offset: float, style: Style) -> None:
    """The ECE that a perfectly calibrated model would show at this number of points, as ticks."""
    look = {"marker": "_", "ms": 6, "mew": 1.4, "ls": "", "alpha": 0.7, "zorder": 2}
    artists.add_line(ax, rows["x"] + offset, rows["mean"], color=style.color, **look)


def _limits_and_references(ax: Axes, shown: pd.DataFrame, references: dict[str, float], notes: list[str]) -> float:
    """Limits from the means (an interval of few seeds may be wider); `notes`, and references beyond them, as words.

    Returns how far up data may be drawn: the words are above.
    """
    finite = shown["mean"][np.isfinite(shown["mean"])]
    values = [*finite, *(v for name, v in references.items() if name == "bayes")]
    low, high = min(values), max(values)
    span = max(high - low, 1e-3 * max(abs(high), 1e-6), 1e-9)
    edges = shown.loc[np.isfinite(shown["low"]), ["low", "high"]]
    if len(edges):
        low = min(low, max(edges["low"].min(), low - 0.3 * span))
        high = max(high, min(edges["high"].max(), high + 0.3 * span))
    beyond = []
    for name, value in references.items():
        if value <= high + 0.25 * span:
            ax.axhline(value, color=INK, ls=REFERENCE_DASHES[name], lw=0.9, zorder=1)
            high = max(high, value)
        else:
            beyond.append(
                f"↑ {labels.REFERENCES[name]} {value:.2f}" if np.isfinite(value) else f"↑ {labels.REFERENCES[name]} ∞"
            )
    beyond += notes
    pad = 0.06 * (high - low) or 0.01
    share = min((LINE * len(beyond) + 0.04) / HIGH, 0.6) if beyond else 0.0
    ax.set_ylim(low - pad, high + pad + (high - low + 2 * pad) * share / (1 - share))
    if beyond:
        page_layout.set_ticks(
            ax.yaxis, [tick for tick in ax.get_yticks() if low - pad <= tick <= high + pad]
        )  # no grid there
        ax.text(
            0.995,
            0.99,
            "\n".join(beyond),
            transform=ax.transAxes,
            ha="right",
            va="top",
            size=7,
            color=GREY,
            linespacing=1.05,
        )
    return high + pad
