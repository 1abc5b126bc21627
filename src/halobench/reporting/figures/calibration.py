"""Show test NLL and ECE by calibrator and loss, next to the Bayes posterior and other untrained predictors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.analysis.names import Style
from halobench.core.formatting import count
from halobench.core.specs.calibrator import CALIBRATORS
from halobench.reporting import labels, table_views
from halobench.reporting.leaders import preferred_labels
from halobench.reporting.plotting import artists, score_panels
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page, wrapped
from halobench.reporting.plotting.style import GREY, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.storage.columns import REFERENCE

SHORT = "Calibration"
CATEGORY = "3 Calibration"
CAPTION = """\
The figure shows the test NLL (in nats) and the expected calibration error (ECE) by calibrator and training loss. Lower
values are better. Horizontal lines show predictors that need no training: the known posterior itself, which no model
can beat in expected NLL; a uniform guess; and the label of the nearest training point, after TS. If the posterior is
known, scores are expectations under it. If the figure shows ECE floors (``ece_floor`` in the table of metrics), ECEs
near their floor are too small to rank. A temperature is fitted to minimise NLL, so it can worsen ECE. Notes below the
panels count models with no optimal temperature (all their validation points are classified correctly), with a negative
temperature from the paper's code, or with an infinite NLL (a label that occurs gets probability 0).
"""

TITLE = "What temperature scaling changes on test data"
OTHER_TITLE = "What calibration changes on test data"  # the title if some calibrators aren't temperatures
PANEL_METRICS = {name: labels.metric_axis(name) for name in ("nll", "ece")}
MOST_CELLS = 4


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw NLL and ECE by calibrator: means over seeds with t intervals, a marker per loss, and references as lines."""
    table = table_views.without_void_floors(preferred_labels(metrics))
    table = table[table["metric"].isin((*PANEL_METRICS, "ece_floor"))]
    table, chosen = table_views.noisiest_cells(table, [], "the explorer", MOST_CELLS)
    trained = table[(table["metric"] != "ece_floor") & (table["loss"] != REFERENCE)]
    if trained.empty:
        return empty_page(TITLE, "No NLL or ECE was computed on a test set.")
    calibrators = labels.ordered(trained["calibrator"], labels.CALIBRATORS)
    styles = loss_styles(table_views.losses_in(trained))
    others = _others(calibrators)
    note = (
        f"Points: {seeds_note(trained)}, on {table_views.label_note(trained)}; wide intervals may leave their panel. "
        f"{_temperatures(calibrators)}{others}Lower is better. {chosen}"
    )
    values = table_views.groups_of(trained, ["dataset", "model", "metric"])
    wide = max(2.6, 0.6 * len(calibrators) + 0.5)
    with_references = table[table["dataset"].isin(trained["dataset"])]  # includes the references of the data sets shown
    figure, axes = draw_grid(
        PageText(OTHER_TITLE if others else TITLE, note, _legend_keys(with_references, styles)),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(trained)},
        PANEL_METRICS,
        {(key[:2], key[2]) for key in values},
        (wide, 2.3),
    )
    means = score_panels.means_of(table)
    of_panel = table_views.groups_of(means, ["dataset", "model", "metric"])
    fits = table_views.groups_of(runs, ["dataset", "model"])
    none = means.iloc[:0]
    for (cell, metric), ax in axes.items():
        shown = of_panel.get((*cell, metric), none)
        floor = of_panel.get((*cell, "ece_floor"), none) if metric == "ece" else none
        references = means[(means["dataset"] == cell[0]) & (means["metric"] == metric) & (means["loss"] == REFERENCE)]
        remarks = score_panels.draw_panel(ax, shown, references, styles, calibrators, floor)
        if metric == "nll":
            remarks += fits_below_0(fits.get(cell, runs.iloc[:0])) + missing_fits(values[*cell, metric])
        ax.set_xlabel(wrapped("; ".join(remarks), wide - 0.6, 7), loc="right", size=7, color=GREY)
    return figure


def _legend_keys(table: pd.DataFrame, styles: Mapping[str, Style]) -> list[Line2D]:
    named = set(table["model"].unique())
    keys = artists.loss_keys(styles, ls="") + score_panels.reference_keys(named)
    if (table["metric"] == "ece_floor").any():
        floor = "ECE floor: perfectly calibrated, same sample size"
        keys.append(artists.key(floor, GREY, marker="_", ms=8, mew=1.5, ls=""))
    return keys


def _temperatures(calibrators: Collection[str]) -> str:
    """Return sentences about the data to which the displayed temperatures are fitted, or "" if none is fitted."""
    words = {"paper": "by the paper's code", "exact": "at the optimum"}
    how = [text for name, text in words.items() if name in calibrators]
    fitted = f"Temperature scaling (TS) is fitted on validation data, {' or '.join(how)}" if how else ""
    oracle = "the test-set oracle is fitted on the test data" if "oracle" in calibrators else ""
    sentence = "; ".join(filter(None, (fitted, oracle)))
    return f"{sentence[0].upper()}{sentence[1:]}. " if sentence else ""


def _others(calibrators: Iterable[str]) -> str:
    """Return a sentence that lists the calibrators other than TS, or "" if there are no others."""
    names = [labels.calibrator_label(name) for name in calibrators if name not in CALIBRATORS]
    return f"Also fitted on validation data: {', '.join(names)}. " if names else ""


def fits_below_0(runs: pd.DataFrame) -> list[str]:
    """Return a remark on how often the paper's fit ended below 0, in a list that is empty if it never did."""
    fits = runs["temperature_paper"].dropna()
    below = int((fits < 0).sum())
    return (
        [f"{labels.calibrator_label('paper')}: fit below 0 for {below} of {count(len(fits), 'model')}"] if below else []
    )


def missing_fits(rows: pd.DataFrame) -> list[str]:
    """Return remarks on how often calibrators have no optimum or no finite NLL, merging identical remarks."""
    remarks: dict[str, list[str]] = {}
    for calibrator, group in rows.groupby("calibrator", sort=True):
        optimum = "T" if calibrator in CALIBRATORS else "optimum"
        absent, infinite = int(group["value"].isna().sum()), int(np.isposinf(group["value"]).sum())
        for affected, problem in ((absent, f"no finite {optimum}"), (infinite, "infinite")):
            if affected:
                remark = f"{problem} for {affected} of {count(len(group), 'model')}"
                remarks.setdefault(remark, []).append(labels.calibrator_label(str(calibrator)))
    return [f"{', '.join(names)}: {remark}" for remark, names in remarks.items()]
