"""Show test NLL and ECE by calibrator and loss, next to the Bayes posterior and other predictors without training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.core.specs import CALIBRATORS
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import Style, loss_styles

TITLE = "What temperature scaling changes on test data"
OTHER_TITLE = "What calibration changes on test data"  # if some of the calibrators are no temperature
HIGH = 1.35  # of a panel, inches
LINE = 0.125  # height of a line of the words in a panel, inches
METRICS = {"nll": "NLL (nats)", "ece": "Expected calibration error (ECE)"}
REFERENCE_DASHES = {"bayes": "-", "nearest": (0, (4, 2)), "uniform": (0, (1, 1.5))}


@styled
def draw(metrics: pd.DataFrame) -> Figure:
    """Draw NLL and ECE: means over seeds with t intervals by calibrator, a marker per loss, and references as lines.

    Parameters
    ----------
    metrics : DataFrame
        As aggregated; test rows, against noisy labels in expectation if a data set has them.
    """
    table = table_views.preferred_labels(metrics)
    trained = table[table["metric"].isin(METRICS) & (table["loss"] != "reference")]
    if trained.empty:
        return empty_page(TITLE, "No NLL or ECE was computed on a test set.")
    calibrators = labels.ordered(trained["calibrator"], labels.CALIBRATORS)
    styles = loss_styles(table_views.losses_in(trained))
    by = ["dataset", "model", "loss", "calibrator", "metric"]
    means = over_seeds(table[table["metric"].isin([*METRICS, "ece_floor"])], by, "value")
    means_of, trained_of = (table_views.groups_of(rows, ["dataset", "model"]) for rows in (means, trained))
    intervals = bool(means["low"].notna().any())
    text = PageText(
        OTHER_TITLE if others(calibrators) else TITLE,
        _note(trained, calibrators, intervals),
        _legend_keys(styles, set(table["model"].unique())),
    )
    grid = draw_grid(
        text,
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(trained)},
        METRICS,
        {(key[:2], key[2]) for key in table_views.groups_of(trained, ["dataset", "model", "metric"])},
        Sizes(
            (max(3.0, 0.82 * len(calibrators)), HIGH), (0.55, 0.55), left=0.5, bottom=0.35
        ),  # a name under each group
    )
    references = {metric: all_reference_values(means[means["metric"] == metric]) for metric in METRICS}
    for (cell, metric), ax in grid.axes.items():
        panel = means_of.get(cell, means.iloc[:0])
        nll = trained_of[cell][trained_of[cell]["metric"] == "nll"]
        shown = panel[panel["metric"].isin([metric, "ece_floor"] if metric == "ece" else [metric])]
        missing = missing_fits(nll) if metric == "nll" else []
        top = _limits_and_references(ax, shown, references[metric].get(cell[0], {}), missing)
        _draw_losses(ax, _columns(panel, calibrators), metric, styles, top)
        ax.set_xlim(-0.5, len(calibrators) - 0.5)
        page_layout.set_ticks(ax.xaxis, range(len(calibrators)), [labels.calibrator_label(c) for c in calibrators])
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", length=0)
    return grid.figure


def _note(trained: pd.DataFrame, calibrators: Sequence[str], intervals: bool) -> str:
    """Return the sentences under the title."""
    cut = " (an arrow: it goes on)" if intervals else ""
    return (
        f"Points: {seeds_note(trained)}{cut}, on {table_views.label_note(trained)}. TS is fitted on validation data, "
        f"released (the fit of the paper's code) or exact (the optimum); oracle TS is fitted on the test data. "
        f"{others(calibrators)}Lower is better."
    )


def _legend_keys(styles: Mapping[str, Style], models: Collection[str]) -> list[Line2D]:
    """Return the legend entries of losses, of the references among `models`, and of the ECE floor."""
    return [
        *artists.loss_keys(styles, styles),
        *(
            artists.key(label, INK, ls=REFERENCE_DASHES[name], lw=1)
            for name, label in labels.REFERENCES.items()
            if name in models
        ),
        artists.key("ECE floor: calibrated perfectly, as many points", GREY, marker="_", ms=8, mew=1.5, ls=""),
    ]


def others(calibrators: Iterable[str]) -> str:
    """Return a sentence that names the calibrators besides TS; empty if there is none."""
    names = [labels.calibrator_label(name) for name in calibrators if name not in CALIBRATORS]
    return f"On validation data, as exact TS: {', '.join(names)}. " if names else ""


def all_reference_values(means: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return `reference_values` of each data set that has reference rows."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = means[means["loss"] == "reference"].groupby("dataset")
    return {dataset: reference_values(rows) for dataset, rows in groups}


def reference_values(rows: pd.DataFrame) -> dict[str, float]:
    """Return the means of the predictors that need no training, from one data set's reference rows.

    ``nearest`` counts after exact TS, if it was fitted, and the others before.
    """
    values = {}
    for name in labels.REFERENCES:
        means = rows[rows["model"] == name].set_index("calibrator")["mean"]
        order = ("exact", "none") if name == "nearest" else ("none", "exact")
        fits = [fit for fit in (*order, *means.index) if fit in means.index]
        if fits:
            values[name] = float(means[fits[0]])
    return values


def missing_fits(rows: pd.DataFrame) -> list[str]:
    """Return lines that say for how many models a calibrator has no optimum or no finite NLL; equal ones share one."""
    lines: dict[str, list[str]] = {}
    groups: Iterable[tuple[Any, pd.DataFrame]] = rows.groupby("calibrator", sort=True)
    for calibrator, group in groups:
        what = "T" if calibrator in CALIBRATORS else "optimum"
        absent, infinite = int(group["value"].isna().sum()), int(np.isposinf(group["value"]).sum())
        for count, problem in ((absent, f"no finite {what}"), (infinite, "infinite")):
            if count:
                line = f"{problem} for {count} of {len(group)} models"
                lines.setdefault(line, []).append(labels.calibrator_label(calibrator))
    return [f"{', '.join(names)}: {line}" for line, names in lines.items()]


def _columns(panel: pd.DataFrame, calibrators: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of a panel in the order of calibrators, as arrays; `x` is a calibrator's place."""
    places = {calibrator: float(i) for i, calibrator in enumerate(calibrators)}
    x = panel["calibrator"].map(places).to_numpy(dtype=float)
    order = np.argsort(x, kind="stable")[: int(np.isfinite(x).sum())]
    names = {name: panel[name].to_numpy(dtype=object)[order] for name in ("loss", "metric")}
    return names | {name: panel[name].to_numpy()[order] for name in ("mean", "low", "high")} | {"x": x[order]}


def _draw_losses(
    ax: Axes, columns: Mapping[str, np.ndarray], metric: str, styles: Mapping[str, Style], top: float
) -> None:
    """Draw each loss's means and intervals side by side at each calibrator, for ECE with its floor."""
    present = set(columns["loss"])
    losses = [loss for loss in styles if loss in present]
    segments: list[list[tuple[float, float]]] = []
    colors: list[str] = []
    for offset, loss in zip(artists.dodge(len(losses), 0.62), losses, strict=True):
        of_loss = columns["loss"] == loss
        points = {name: values[of_loss & (columns["metric"] == metric)] for name, values in columns.items()}
        segments += _draw_points(ax, points, offset, styles[loss], top)
        colors += [styles[loss].color] * (len(segments) - len(colors))
        if metric == "ece":
            floor = {name: values[of_loss & (columns["metric"] == "ece_floor")] for name, values in columns.items()}
            _draw_floor(ax, floor, offset, styles[loss])
    artists.add_segments(ax, segments, colors, lw=1, zorder=2)


def _draw_points(
    ax: Axes, rows: Mapping[str, np.ndarray], offset: float, style: Style, top: float
) -> list[list[tuple[float, float]]]:
    """Draw one loss: a dot per calibrator, joined by a thin line.

    Return its intervals; those that reach beyond `top` end there, with an arrow.
    """
    x, low, high = rows["x"] + offset, rows["low"], rows["high"]
    artists.add_line(ax, x, rows["mean"], color=style.color, marker=style.marker, ms=4, mew=0, lw=0.7, zorder=3)
    finite = np.isfinite(low)
    look = {"color": style.color, "marker": "^", "ms": 2.5, "mew": 0, "ls": "", "zorder": 2, "clip_on": False}
    for at in x[finite & (high > top)]:
        artists.add_line(ax, [at], [top], **look)
    ends = zip(x[finite], low[finite], high[finite], strict=True)
    return [[(at, min(start, top)), (at, min(end, top))] for at, start, end in ends]


def _draw_floor(ax: Axes, rows: Mapping[str, np.ndarray], offset: float, style: Style) -> None:
    """Draw as ticks the ECE that a perfectly calibrated model would show at this number of samples."""
    look = {"marker": "_", "ms": 6, "mew": 1.4, "ls": "", "alpha": 0.7, "zorder": 2}
    artists.add_line(ax, rows["x"] + offset, rows["mean"], color=style.color, **look)


def _limits_and_references(ax: Axes, shown: pd.DataFrame, references: Mapping[str, float], notes: list[str]) -> float:
    """Set the vertical limits, draw references within them, and write `notes` and the other references as words.

    Limits follow the means, since an interval of few seeds may be wider. The words are above the data; returned is how
    far up data may be drawn.
    """
    low, high, span = _limits(shown, references)
    beyond = []
    for name, value in references.items():
        if value <= high + 0.25 * span:
            ax.axhline(value, color=INK, ls=REFERENCE_DASHES[name], lw=0.9, zorder=1)
            high = max(high, value)
        else:
            beyond.append(f"↑ {labels.REFERENCES[name]} {f'{value:.2f}' if np.isfinite(value) else '∞'}")
    beyond += notes
    pad = 0.06 * (high - low) or 0.01
    share = min((LINE * len(beyond) + 0.04) / HIGH, 0.6) if beyond else 0.0
    ax.set_ylim(low - pad, high + pad + (high - low + 2 * pad) * share / (1 - share))
    if beyond:
        # No grid behind the words.
        page_layout.set_ticks(ax.yaxis, [tick for tick in ax.get_yticks() if low - pad <= tick <= high + pad])
        corner: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "top"}
        ax.text(0.995, 0.99, "\n".join(beyond), size=7, color=GREY, linespacing=1.05, **corner)
    return high + pad


def _limits(shown: pd.DataFrame, references: Mapping[str, float]) -> tuple[float, float, float]:
    """Return limits that hold the means and the Bayes posterior, and the span of those.

    Intervals extend the limits by at most 30% of the span on each side.
    """
    finite = shown["mean"][np.isfinite(shown["mean"])]
    values = [*finite, *(value for name, value in references.items() if name == "bayes")]
    low, high = min(values), max(values)
    span = max(high - low, 1e-3 * max(abs(high), 1e-6), 1e-9)
    edges = shown.loc[np.isfinite(shown["low"]), ["low", "high"]]
    if len(edges):
        low = min(low, max(edges["low"].min(), low - 0.3 * span))
        high = max(high, min(edges["high"].max(), high + 0.3 * span))
    return low, high, span
