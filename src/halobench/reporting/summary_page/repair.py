"""Draw parts B and C of the summary page: certainty radii, and the NLL before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import GREY, INK
from halobench.reporting.seed_statistics import over_seeds
from halobench.reporting.styles import Style
from halobench.reporting.summary_page.page import LEFT, PROBES

REFERENCES: dict[str, Any] = {"bayes": "-", "uniform": (0, (1, 1))}  # and their dashes

Cell = tuple[str, str]  # data set and model
Values = Mapping[str, list[tuple[int, float]]]  # of each reference: row of the part, and value


def line_radii(radii: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return certainty radii around training samples without TS, of one probe, and the probe's name.

    The probe is the line to the nearest sample of another label, or else another one.
    """
    rows = radii[(radii["quantity"] == "certainty") & (radii["calibrator"] == "none") & (radii["points"] == "train")]
    probed = set(rows["probe"].unique())
    probe = next((p for p in ("nearest_other", "mixup_line", "manifold", "sphere") if p in probed), None)
    return rows[rows["probe"] == probe], str(probe)


def draw_repair(
    figure: Figure,
    radii: tuple[pd.DataFrame, str],
    metrics: pd.DataFrame,
    cells: Sequence[Cell],
    styles: Mapping[str, Style],
    box: tuple[float, float],
) -> None:
    """Draw a row per data set and model, with a dot (B) and a pair of dots (C) per loss.

    Parameters
    ----------
    figure : Figure
    radii : (DataFrame, str)
        As `line_radii` returns them.
    metrics : DataFrame
        As aggregated.
    cells : sequence of (data set, model)
    styles : mapping of str to Style
        The losses, in order.
    box : (float, float)
        Top and height of the parts, in inches.
    """
    top, high = box
    rows, probe = radii
    nll = table_views.preferred_labels(metrics)
    scores = over_seeds(nll[nll["metric"] == "nll"], ["dataset", "model", "loss", "calibrator"], "value")
    places = _places(scores, cells, styles)
    right = page_layout.place(figure, 3.95, top, LEFT - 3.95, high)
    if len(rows):
        left = page_layout.place(figure, 1.72, top, 1.95, high)
        _stripe(left, len(cells))
        _draw_radii(left, rows, places, styles)
        left.set_xlim(left=min(-0.03, left.get_xlim()[0]))
        left.set_xlabel(f"radius ({PROBES.get(probe, probe)}, relative)")
        left.set_yticklabels(_names(cells))
    _stripe(right, len(cells))
    _draw_changes(right, scores, places, styles)
    values = _reference_values(scores, cells)
    _draw_references(right, values)
    right.set_yticklabels([] if len(rows) else _names(cells))
    right.set_xlabel("NLL (nats)")
    drawn = {name for name, pairs in values.items() if any(np.isfinite(value) for _, value in pairs)}
    drawn |= set(scores.loc[pd.MultiIndex.from_frame(scores[["dataset", "model"]]).isin(cells), "calibrator"])
    page_layout.draw_legend(figure, [_legend_keys(drawn)], 2.4, top + high + 0.45)


def _places(scores: pd.DataFrame, cells: Iterable[Cell], losses: Iterable[str]) -> dict[Cell, dict[str, float]]:
    """Return the height of each loss with scores, by cell; cells are 1 apart."""
    scored = set(scores[["dataset", "model", "loss"]].itertuples(index=False, name=None))
    places: dict[Cell, dict[str, float]] = {}
    for y, cell in enumerate(cells):
        present = [loss for loss in losses if (*cell, loss) in scored]
        places[cell] = dict(zip(present, y + artists.dodge(len(present), 0.78), strict=True))
    return places


def _names(cells: Iterable[Cell]) -> list[str]:
    """Return the names of rows: data set and model, a line each."""
    return [
        f"{page_layout.shortened(labels.dataset_label(dataset).replace(' label noise', ' noise'), 1.5, 7)}\n"
        f"{page_layout.shortened(labels.model_label(model), 1.5, 7)}"
        for dataset, model in cells
    ]


def _stripe(ax: Axes, rows: int) -> None:
    """Shade every other row, and set the rows' limits and ticks."""
    for y in range(0, rows, 2):
        ax.axhspan(y - 0.5, y + 0.5, color="#f4f4f4", lw=0, zorder=0)
    ax.set(ylim=(rows - 0.5, -0.5), yticks=range(rows))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)


def _draw_radii(
    ax: Axes, radii: pd.DataFrame, places: Mapping[Cell, Mapping[str, float]], styles: Mapping[str, Style]
) -> None:
    """Draw the median radius of each cell and loss as a dot with its interval."""
    by = ["dataset", "model", "loss"]
    means = over_seeds(radii, by, "relative_median")
    means = means.merge(radii.groupby(by)["censored"].max().rename("censored").reset_index(), on=by)
    row: Any
    rows = {(row.dataset, row.model, row.loss): row for row in means.itertuples()}
    for cell, heights in places.items():
        for loss, y in heights.items():
            row = rows.get((*cell, loss))
            if row is None:
                continue
            style = styles[loss]
            if np.isfinite(row.low):
                ax.plot([row.low, row.high], [y, y], color=style.color, lw=1, zorder=2)
            # A median among censored rays is a lower bound: hollow, as in the figure of radii.
            face = "white" if row.censored > 0.5 else style.color
            ax.plot([row.mean], [y], color=style.color, marker=style.marker, ms=4, mfc=face, mew=0.8, ls="", zorder=3)


def _draw_changes(
    ax: Axes, scores: pd.DataFrame, places: Mapping[Cell, Mapping[str, float]], styles: Mapping[str, Style]
) -> None:
    """Draw the NLL of each cell and loss before and after TS."""
    groups = table_views.groups_of(scores, ["dataset", "model", "loss"])
    for cell, heights in places.items():
        for loss, y in heights.items():
            _draw_change(ax, groups[(*cell, loss)].set_index("calibrator")["mean"], y, styles[loss])


def _draw_change(ax: Axes, values: pd.Series, y: float, style: Style) -> None:
    """Draw from no TS (hollow) over the released fit (tick) to the exact fit (full)."""
    ends = [values[c] for c in ("none", "released", "exact") if c in values.index and np.isfinite(values[c])]
    if ends:
        ax.plot([min(ends), max(ends)], [y, y], color=style.color, lw=0.8, zorder=2)
    looks: dict[str, dict[str, Any]] = {
        "none": {"marker": style.marker, "ms": 4, "mfc": "white", "mew": 0.9},
        "released": {"marker": "|", "ms": 5, "mew": 1.1},
        "exact": {"marker": style.marker, "ms": 4, "mew": 0},
    }
    for calibrator, look in looks.items():
        if calibrator in values.index:
            ax.plot([values[calibrator]], [y], color=style.color, ls="", zorder=3, **look)


def _reference_values(scores: pd.DataFrame, cells: Iterable[Cell]) -> Values:
    """Return the NLL of predictors that need no training, with the rows whose data set they are on."""
    values: dict[str, list[tuple[int, float]]] = {name: [] for name in REFERENCES}
    for y, (dataset, _) in enumerate(cells):
        for name, pairs in values.items():
            rows = scores[(scores["dataset"] == dataset) & (scores["model"] == name)]
            if len(rows):
                pairs.append((y, float(rows["mean"].iloc[0])))
    return values


def _draw_references(ax: Axes, values: Values) -> None:
    """Draw the references as upright lines across their rows."""
    for name, pairs in values.items():
        for y, value in pairs:
            if np.isfinite(value):
                ax.plot([value, value], [y - 0.44, y + 0.44], ls=REFERENCES[name], color=INK, lw=1.1, zorder=2)


def _legend_keys(drawn: set[str]) -> list[Any]:
    """Return the legend entries of the calibrators and references that are drawn."""
    keys = {
        "none": artists.key("no TS", GREY, marker="o", mfc="white", ls=""),
        "released": artists.key("released", GREY, marker="|", ms=6, ls=""),
        "exact": artists.key("exact", GREY, marker="o", ls=""),
        "bayes": artists.key("Bayes", INK, marker="|", ms=8, mew=1.2, ls=""),
        "uniform": artists.key("uniform guess", INK, lw=1.1, ls=(0, (1, 1))),
    }
    return [key for name, key in keys.items() if name in drawn]
