"""Join the essentials on one page: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, page_layout
from halobench.reporting.plotting.style import GREY, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.reporting.summary_page import curves, growth, repair
from halobench.reporting.summary_page.page import LEFT, SPLIT, UNPROBED, WIDTH, heading
from halobench.reporting.summary_page.selection import MOST_LOSSES, Selection, part_of, select
from halobench.reporting.summary_page.verdict_list import verdict_list

TITLE = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"


@styled
def draw(
    neighbourhood: pd.DataFrame,
    radii: pd.DataFrame,
    metrics: pd.DataFrame,
    reliability: pd.DataFrame,
    runs: pd.DataFrame,
    claims: pd.DataFrame,
) -> Figure:
    """Draw the summary page.

    Parameters
    ----------
    neighbourhood, radii, metrics, reliability, runs, claims : DataFrame
        As aggregated and judged. Of large grids the curves show one model on up to three data sets and the dots up to
        twelve cells, and the page says so.
    """
    neighbourhood, around = table_views.with_evaluation_as_train(neighbourhood)
    radii, _ = table_views.with_evaluation_as_train(radii)
    all_styles = loss_styles(table_views.losses_in(runs))
    selection = select(runs)
    styles = {loss: all_styles[loss] for loss in selection.losses}
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    growing = growth.growth_models(overlap)
    verdicts = verdict_list(claims)
    keys = page_layout.legend_lines(artists.loss_keys(styles, styles), LEFT)
    tops = _Tops.of(len(keys), len(selection.losses), len(selection.shown), verdicts.height)

    figure = page_layout.blank_figure(WIDTH, tops.bottom + growth.HEIGHT * bool(growing))
    samples = around.split(",")[0].split(" (")[0]
    title = TITLE.replace(labels.around("train").split(",")[0], samples)
    page_layout.write(figure, 0.15, 0.14, title, size=13, weight="bold")
    page_layout.write(figure, 0.15, 0.42, _facts(runs, selection), color=GREY)
    page_layout.draw_legend(figure, keys, 0.15, 0.72)

    watched = "label trained on" if around == labels.around("train") else "its own label"
    more = f"{watched}; {labels.model_label(selection.model)}"
    more += part_of(len(selection.datasets), len(selection.of_model), "data sets")
    heading(figure, 0.15, tops.head, "A", "How confident is a model in a point's label, this far from the point?", more)
    curves.draw_curves(figure, neighbourhood, selection, styles, tops.curves)
    _draw_reliability(figure, reliability, selection, tops)
    line_radii = repair.line_radii(radii)
    _write_repair_headings(figure, line_radii[0], tops.lower, neighbourhood.empty)
    repair.draw_repair(figure, line_radii, metrics, selection.shown, styles, (tops.lower, tops.rows_high))
    more = "columns: the calibration meant; raw: without TS"
    heading(figure, SPLIT, tops.lower - 0.5, "E", "What comes of the claims?", more)
    verdicts.draw(figure, tops.lower)
    if growing:
        growth.draw_growth(figure, overlap, growing, all_styles, tops.bottom + 0.1)
    return figure


@dataclass(frozen=True)
class _Tops:
    """Where the parts of the page begin, in inches from its top.

    Attributes
    ----------
    head : float
        The headings of A and D.
    curves : float
        The panels of A and D.
    lower : float
        The contents of B, C and E.
    bottom : float
        The end of those.
    rows_high : float
        The height of B and C.
    """

    head: float
    curves: float
    lower: float
    bottom: float
    rows_high: float

    @classmethod
    def of(cls, legend_lines: int, losses: int, rows: int, list_high: float) -> _Tops:
        """Stack the parts: `rows` of B and C with room for `losses` each, next to a list that is `list_high`."""
        head = 0.82 + 0.18 * legend_lines
        top = head + 0.58
        lower = top + 2 * curves.HIGH + 1.3
        rows_high = max(0.34, 0.085 * losses + 0.08) * rows
        # Rows take the room that a long list of claims makes.
        rows_high = min(max(rows_high, list_high - 0.6), 1.6 * rows_high)
        return cls(head, top, lower, lower + max(rows_high + 0.72, list_high) + 0.05, rows_high)


def _facts(runs: pd.DataFrame, selection: Selection) -> str:
    """Return in a line what the page rests on."""
    trained = runs[table_views.trained_here(runs)]
    fits = int(trained["interpolates"].astype(bool).sum())
    models = f"model{'s' * (len(runs) != 1)}"
    all_here = len(trained) == len(runs)
    count = f"{len(runs)} trained {models}" if all_here else f"{len(runs)} {models}, {len(trained)} trained here"
    cells, losses = len(table_views.cells_in(runs)), runs["loss"].nunique()
    text = (
        f"{count}: {cells} pair{'s' * (cells != 1)} of data set and model, "
        f"{losses} loss{'es' * (losses != 1)}; {fits} of {len(trained)} interpolate the training labels. "
        f"Shown: {seeds_note(runs)}."
    )
    shown, pictured = len(selection.shown), len(selection.cells)
    return text + (f" B and C: {shown} of {pictured} pairs." if shown < pictured else "")


def _draw_reliability(figure: Figure, reliability: pd.DataFrame, selection: Selection, tops: _Tops) -> None:
    """Draw part D with its heading."""
    dataset, model = selection.pair
    table = table_views.preferred_labels(reliability[reliability["dataset"] == dataset])
    table = table[table["model"] == model]
    present = set(table["loss"])
    losses = [loss for loss in selection.losses if loss in present]
    more = labels.cell_label(dataset, model) + part_of(min(len(losses), MOST_LOSSES), len(losses), "losses")
    more += f"\n{table_views.label_note(table)}"
    heading(figure, SPLIT, tops.head, "D", "How often are confident answers right?", more)
    curves.draw_reliability(figure, table, losses[:MOST_LOSSES], tops.curves)


def _write_repair_headings(figure: Figure, radii: pd.DataFrame, top: float, unprobed: bool) -> None:
    """Write the headings of parts B and C; if there are no `radii`, write why in the place of B."""
    below = " or ".join(f"{threshold:g}" for threshold in sorted(radii["threshold"].dropna().unique()))
    if radii.empty:
        why = UNPROBED if unprobed else "No certainty radius was measured."
        page_layout.write(figure, 0.32, top, why, color=GREY)
    more = f"median distance where confidence falls below {below}, no TS" if len(radii) else ""
    heading(figure, 0.15, top - 0.5, "B", "How far does certainty reach?", more)
    heading(figure, 3.95, top - 0.5, "C", "What does TS repair?", "test NLL before and after, lower is better")
