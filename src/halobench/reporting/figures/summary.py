"""Combine the essentials on one page: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, panel_grid
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.reporting.summary_page import parts
from halobench.reporting.summary_page.selection import select
from halobench.results.finding import by_theme, finding
from halobench.results.names import NO_LOSS

CATEGORY = "1 Claims"
CAPTION = """\
The experiment on one page: how far certainty reaches around training points, what temperature scaling (TS) repairs,
and which tests of the claims hold. A shows the share of points still certain by distance, as the figure ``halo`` does,
or confidence by distance if no probe searched for the worst direction. B shows test NLL by calibration, C how often
confident answers are right, and D the tests. Outlined signs in D are our own checks, which the count at the top leaves
out. E shows what TS leaves as the number of overlapping classes grows, and F what it would take to repair each model.
"""

WHAT = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"
WIDTHS = (6.9, 4.6)  # widths of the two columns, in inches
TOP, SCORES, GROWTH = 3.9, 3.1, 2.9  # heights of A and C, of B, and of E


Part = tuple[float, Callable[[SubFigure], None]]  # its height in inches, and what draws it


@styled
def draw(
    neighbourhood: pd.DataFrame,
    radii: pd.DataFrame,
    metrics: pd.DataFrame,
    reliability: pd.DataFrame,
    runs: pd.DataFrame,
    claims: pd.DataFrame,
) -> Figure:
    """Draw the summary page from the aggregated and judged tables.

    For large grids, it shows one model on up to three data sets, and says so.
    """
    neighbourhood, around = table_views.with_evaluation_as_train(table_views.by_kind(neighbourhood))
    radii, searched = table_views.with_evaluation_as_train(table_views.by_kind(radii))
    around = around if len(neighbourhood) else searched
    watched = "label trained on" if around == labels.around("train") else "its own label"
    all_styles = loss_styles(table_views.losses_in(runs))
    selection = select(runs)
    styles = {loss: all_styles[loss] for loss in selection.losses}

    left: list[Part] = []
    right: list[Part] = []
    curves, reach = parts.curves_of(neighbourhood, selection), parts.survival_of(radii, selection)
    if len(reach):
        left.append((TOP, lambda part: parts.draw_survival(part, reach, watched, selection)))
    elif len(curves):
        left.append((TOP, lambda part: parts.draw_curves(part, curves, watched, selection, styles)))
    scores = table_views.preferred_labels(metrics)
    left.append((SCORES, lambda part: parts.draw_scores(part, scores, selection, styles)))
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    if growing := parts.growth_models(overlap):
        left.append((GROWTH, lambda part: parts.draw_growth(part, overlap, growing, all_styles)))
    ladders, loss, total = parts.ladders_of(metrics)
    if len(ladders):
        left.append((parts.ladders_height(ladders), lambda part: parts.draw_ladders(part, ladders, loss, total)))
    if len(diagrams := parts.diagrams_of(reliability, selection)):
        right.append((TOP, lambda part: parts.draw_diagrams(part, diagrams, selection)))
    if by_theme(claims.to_dict("records")):
        right.append((parts.verdicts_height(claims), lambda part: parts.draw_verdicts(part, claims)))

    title = WHAT.replace(labels.around("train").split(",")[0], around.split(",")[0].split(" (")[0])
    note = " ".join(filter(None, (finding(claims.to_dict("records")), _facts(runs))))
    return _page((left, right), title, note, artists.loss_keys(styles, styles))


def _page(columns: Sequence[list[Part]], title: str, note: str, keys: Sequence[Line2D]) -> Figure:
    """Draw columns of parts side by side, leaving out those without parts."""
    shown = [(width, column) for width, column in zip(WIDTHS, columns, strict=True) if column]
    heights = [sum(height for height, _ in column) for _, column in shown]
    widths = [width for width, _ in shown]
    figure = panel_grid.blank_figure(sum(widths), max(heights))
    panel_grid.add_head(figure, title, note, keys)
    places = figure.subfigures(1, len(shown), width_ratios=widths, squeeze=False)[0]
    for place, (width, column), height in zip(places, shown, heights, strict=True):
        ratios, rest = [each for each, _ in column], max(heights) - height
        if width == max(widths):  # panels fill a shorter column; the foot of one that ends in rows of signs stays empty
            ratios[-1] += rest
        elif rest:
            ratios.append(rest)
        subfigures = place.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        for subfigure, (_, draw_part) in zip(subfigures, column, strict=False):
            draw_part(subfigure)
    return figure


def _facts(runs: pd.DataFrame) -> str:
    trained = runs[table_views.trained_here(runs)]
    fits = int(trained["interpolates"].astype(bool).sum())
    models = f"model{'s' * (len(runs) != 1)}"
    all_here = len(trained) == len(runs)
    count = f"{len(runs)} trained {models}" if all_here else f"{len(runs)} {models}, {table_views.given_models(runs)}"
    cells, losses = len(table_views.cells_in(runs)), len(set(runs["loss"]) - {NO_LOSS})
    return (
        f"{count}: {cells} pair{'s' * (cells != 1)} of data set and model, "
        f"{losses} loss{'es' * (losses != 1)}; {fits} of {len(trained)} interpolate the training labels. "
        f"Shown: {seeds_note(runs)}."
    )
