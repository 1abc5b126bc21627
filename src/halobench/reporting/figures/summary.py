"""Combine the essentials on one page: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, panel_grid
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.reporting.summary_page import parts
from halobench.reporting.summary_page.selection import Selection, select
from halobench.results.finding import finding
from halobench.results.names import NO_LOSS

WHAT = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"
WIDTHS, TOP, FOOT = (6.9, 4.6), 3.9, 2.9  # widths of the columns of parts, and heights of A, D and F, in inches


@styled
def draw(
    neighbourhood: pd.DataFrame,
    radii: pd.DataFrame,
    metrics: pd.DataFrame,
    reliability: pd.DataFrame,
    runs: pd.DataFrame,
    claims: pd.DataFrame,
) -> Figure:
    """Draw the summary page from the aggregated and judged tables, with the outcome as its title.

    For large grids, the curves show one model on up to three data sets and the dots up to twelve cells, and the page
    says so.
    """
    neighbourhood, around = table_views.with_evaluation_as_train(neighbourhood)
    radii, _ = table_views.with_evaluation_as_train(radii)
    all_styles = loss_styles(table_views.losses_in(runs))
    selection = select(runs)
    styles = {loss: all_styles[loss] for loss in selection.losses}
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    growing = parts.growth_models(overlap)

    foot = FOOT if growing else 0.0
    rows = max(3.0, (0.3 + 0.08 * len(styles)) * len(selection.shown) + 1.5, parts.verdicts_height(claims) - foot)
    heights = [TOP, rows, foot] if growing else [TOP, rows]
    figure = panel_grid.blank_figure(sum(WIDTHS), sum(heights))
    places = figure.add_gridspec(len(heights), 2, width_ratios=WIDTHS, height_ratios=heights)
    left = [figure.add_subfigure(places[i, 0]) for i in range(len(heights))]
    samples = around.split(",")[0].split(" (")[0]
    what = WHAT.replace(labels.around("train").split(",")[0], samples)
    title = finding(claims.to_dict("records")) or what
    note = _facts(runs, selection) if title == what else f"{what}. {_facts(runs, selection)}"
    panel_grid.add_head(figure, title, note, artists.loss_keys(styles, styles))
    watched = "label trained on" if around == labels.around("train") else "its own label"
    parts.draw_curves(left[0], neighbourhood, watched, selection, styles)
    parts.draw_repair(left[1], radii, table_views.preferred_labels(metrics), selection, styles)
    parts.draw_diagrams(figure.add_subfigure(places[0, 1]), reliability, selection)
    parts.draw_verdicts(figure.add_subfigure(places[1:, 1]), claims)
    if growing:
        parts.draw_growth(left[2], overlap, growing, all_styles)
    return figure


def _facts(runs: pd.DataFrame, selection: Selection) -> str:
    """Return one line that says what the page is based on."""
    trained = runs[table_views.trained_here(runs)]
    fits = int(trained["interpolates"].astype(bool).sum())
    models = f"model{'s' * (len(runs) != 1)}"
    all_here = len(trained) == len(runs)
    count = f"{len(runs)} trained {models}" if all_here else f"{len(runs)} {models}, {table_views.given_models(runs)}"
    cells, losses = len(table_views.cells_in(runs)), len(set(runs["loss"]) - {NO_LOSS})
    text = (
        f"{count}: {cells} pair{'s' * (cells != 1)} of data set and model, "
        f"{losses} loss{'es' * (losses != 1)}; {fits} of {len(trained)} interpolate the training labels. "
        f"Shown: {seeds_note(runs)}."
    )
    shown, pictured = len(selection.shown), len(selection.cells)
    return text + (f" B and C: {shown} of {pictured} pairs." if shown < pictured else "")
