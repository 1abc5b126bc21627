"""Combine the essentials on one page: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, panel_grid
from halobench.reporting.plotting import summary_parts as parts
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.results.finding import finding
from halobench.results.leaders import preferred_labels
from halobench.results.names import NO_LOSS

CATEGORY = "1 Claims"
CAPTION = """\
The experiment on one page: how far certainty reaches around training points, what temperature scaling (TS) repairs, and
which tests of the claims hold. A shows the share of points around which the model is still certain, by distance, as in
the figure ``halo``. B shows test NLL by calibration, C how often confident answers are right, and D the tests. Outlined
signs in D mark our own checks, which aren't in the count at the top. E shows what TS leaves as the number of
overlapping classes grows, and F what it would take to repair each model.
"""

WIDTHS = (6.9, 4.6)  # widths of the two columns, in inches


@styled
def draw(
    radii: pd.DataFrame, metrics: pd.DataFrame, reliability: pd.DataFrame, runs: pd.DataFrame, claims: pd.DataFrame
) -> Figure:
    """Draw the summary page; for large grids, it shows one model on up to three data sets, and says so."""
    radii, around = table_views.with_evaluation_as_train(table_views.by_kind(radii))
    watched = "label trained on" if around == labels.around("train") else "its own label"
    all_styles, selection = loss_styles(table_views.losses_in(runs)), parts.select(runs)
    styles = {loss: all_styles[loss] for loss in selection.losses}
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    left = [
        parts.reach(radii, watched, selection),
        parts.scores(preferred_labels(metrics), selection, styles),
        parts.growth(overlap, all_styles),
        parts.ladders(metrics),
    ]
    columns = [[*filter(None, left)], [*filter(None, (parts.diagrams(reliability, selection), parts.verdicts(claims)))]]
    reach = around.split(",")[0].split(" (")[0]
    title = f"How far certainty reaches {reach}, and what temperature scaling (TS) repairs"
    note = " ".join(filter(None, (finding(claims.to_dict("records")), _facts(runs))))
    return _page(columns, title, note, artists.loss_keys(styles))


def _page(columns: Sequence[Sequence[parts.Part]], title: str, note: str, keys: Sequence[Line2D]) -> Figure:
    """Draw columns of parts side by side, leaving out those without parts."""
    shown = [(width, column) for width, column in zip(WIDTHS, columns, strict=True) if column]
    heights = [sum(height for height, _ in column) for _, column in shown]
    widths = [width for width, _ in shown]
    figure = panel_grid.blank_figure(sum(widths), max(heights))
    panel_grid.add_head(figure, title, note, keys)
    places = figure.subfigures(1, len(shown), width_ratios=widths, squeeze=False)[0]
    for place, (width, column), height in zip(places, shown, heights, strict=True):
        ratios, rest = [part_height for part_height, _ in column], max(heights) - height
        if width == max(widths):  # panels fill a shorter column, but a column that ends in rows of signs stays short
            ratios[-1] += rest
        elif rest:
            ratios.append(rest)
        subfigures = place.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        for subfigure, (_, draw_part) in zip(subfigures, column, strict=False):
            draw_part(subfigure)
    return figure


def _facts(runs: pd.DataFrame) -> str:
    trained = runs[table_views.trained_here(runs)]
    fits, all_here = int(trained["interpolates"].astype(bool).sum()), len(trained) == len(runs)
    models = f"model{'s' * (len(runs) != 1)}"
    trained_models = f"trained {models}" if all_here else f"{models}, {table_views.given_models(runs)}"
    pairs, losses = len(table_views.cells_in(runs)), len(set(runs["loss"]) - {NO_LOSS})
    return (
        f"{len(runs)} {trained_models}: {count(pairs, 'pair')} of data set and model, "
        f"{count(losses, 'loss', 'losses')}; {fits} of {len(trained)} interpolate the training labels. "
        f"Shown: {seeds_note(runs)}."
    )
