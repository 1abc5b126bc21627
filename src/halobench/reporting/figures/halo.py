"""Show how far certainty reaches around training samples: what is proved, what an attack finds, what chance finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import calibrator_style
from halobench.results.names import PROBES, Style
from halobench.storage.columns import KEYS, SURVIVAL, SURVIVAL_COLUMNS

SHOWS = ("adversarial", "certified")  # the figure is drawn if there is a probe of one of these kinds

TITLE = "How far certainty reaches around training points: proved, attacked, and in random directions"
WORST = ("certified", "adversarial")
RANDOM = tuple(Style(GREY, "o", dash) for dash in ("-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (5, 1, 1, 1))))
LEAST = 0.05  # a row is left out if all its panels have a smaller share of certain points
AFTER = calibrator_style("exact")
PANELS = 24  # at most; data sets with the most label noise come first


@styled
def draw(radii: pd.DataFrame) -> Figure:
    """Draw the share of certainty radii above each distance, with a row per data set and model and a column per loss.

    Probes are identified by name: ``certified`` and ``adversarial`` bound the truth from below and above, and the space
    between them is shaded. Others are drawn in grey. Radii are those of uncalibrated models around training samples.

    The table is the aggregated one.
    """
    table = radii[radii["quantity"] == "certainty"]
    table, around = table_views.with_evaluation_as_train(table)
    table = table[table["points"] == "train"]
    searched = table[table["probe"].isin(WORST)]
    if searched.empty:
        return empty_page(TITLE, "No probe looked for the nearest point at which certainty is lost.")
    certain = searched[searched[SURVIVAL_COLUMNS[1]] >= LEAST]
    visited = set((certain if len(certain) else searched)[["dataset", "model"]].itertuples(index=False, name=None))
    table = table[pd.MultiIndex.from_frame(table[["dataset", "model"]]).isin(visited)]
    table, chosen = table_views.noisiest_cells(table, ["loss"], "radii.csv", PANELS)
    shares = survival_shares(table)
    styles = probe_styles(shares["probe"])
    losses = {loss: labels.loss_label(loss) for loss in table_views.losses_in(table)}
    groups = table_views.groups_of(shares, ["dataset", "model", "loss"])
    note = _note(table, around) + chosen
    figure, axes = draw_grid(
        PageText(TITLE, note, _keys(styles), labels.RELATIVE, "share still certain", shared=True),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)},
        losses,
        {((dataset, model), loss) for dataset, model, loss in groups},
        (2.3, 1.75),
    )
    for (cell, loss), ax in axes.items():
        _draw_curves(ax, groups[(*cell, loss)], styles)
    return figure


def survival_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean share over seeds at each distance, with its t interval, by cell, probe, fit and distance.

    Parameters
    ----------
    table : DataFrame
        Rows of ``radii`` with the columns `SURVIVAL_COLUMNS`.
    """
    kinds = [*KEYS, "probe", "calibrator"]
    long = table.rename(columns=dict(zip(SURVIVAL_COLUMNS, SURVIVAL, strict=True)))
    long = long.melt(kinds, list(SURVIVAL), "distance", "share").astype({"distance": float})
    return over_seeds(long, [*(kind for kind in kinds if kind != "seed"), "distance"], "share", (0, 1))


def probe_styles(probes: pd.Series) -> dict[str, Style]:
    """Return the styles of probes in order: grey for those whose direction is set by chance or by the data."""
    grey = iter(RANDOM * len(probes))
    names = labels.ordered(probes, [*WORST, *(name for name in PROBES if name not in WORST)])
    return {name: (PROBES[name].style if name in PROBES else None) or next(grey) for name in names}


def _draw_curves(ax: Axes, rows: pd.DataFrame, styles: Mapping[str, Style]) -> None:
    """Draw the curves of a cell's probes, the region between the two bounds, and a mark for what TS leaves."""
    plain = rows[(rows["calibrator"] == "none") & (rows["distance"] > 0)]
    curves = {name: plain[plain["probe"] == name] for name in styles if name in set(plain["probe"])}
    if set(WORST) <= set(curves):
        low, high = (curves[name].set_index("distance")["mean"] for name in WORST)
        ax.fill_between(low.index, low, high.reindex(low.index), color=FAINT, alpha=0.5, lw=0, zorder=1)
    for name, curve in curves.items():
        style, at = styles[name], curve["distance"].to_numpy()
        ax.fill_between(at, curve["low"], curve["high"], color=style.color, alpha=0.1, lw=0, zorder=2)
        ax.plot(at, curve["mean"], color=style.color, ls=style.dash, lw=1.8 if name in WORST else 1.1, zorder=3)
    artists.log_ticks(ax, (0.01, 0.03, 0.1, 0.3, 1))
    ax.axvline(1, color=FAINT, lw=0.8, zorder=1)
    ax.set(xlim=(0.01, 2), ylim=(-0.03, 1.03), yticks=(0, 0.5, 1))
    after = rows[(rows["distance"] == 0) & (rows["calibrator"] == "exact") & rows["probe"].isin(WORST)]
    if len(after):
        ax.plot(SURVIVAL[1], after["mean"].max(), AFTER.marker, color=AFTER.color, clip_on=False, zorder=5)


def _keys(styles: Mapping[str, Style]) -> list[Line2D]:
    keys = [artists.key(labels.probe_label(n), s.color, ls=s.dash, lw=1.8) for n, s in styles.items()]
    if set(WORST) <= set(styles):
        keys.insert(2, artists.key("the truth lies here", FAINT, marker="s", ms=7, alpha=0.6, ls=""))
    words = f"at the point itself, after {labels.calibrator_label('exact')}"
    return [*keys, artists.key(words, AFTER.color, marker=AFTER.marker, ls="")]


def _note(table: pd.DataFrame, around: str) -> str:
    """Return the note under the title."""
    thresholds: Any = sorted(table["threshold"].dropna().unique())
    level = " or ".join(f"{threshold:g}" for threshold in thresholds)
    return (
        f"Share of points whose label confidence stays above {level} as far out as the distance says, {around}, "
        f"uncalibrated. Certified: proved on the whole ball around a point. Lines: {seeds_note(table)}. "
    )
