"""Combine the essentials on one page: how far certainty reaches, what temperature scaling repairs, and the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families, panel_grid
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles
from halobench.reporting.summary_page import parts
from halobench.reporting.summary_page.selection import Selection, select
from halobench.results.finding import by_theme, finding
from halobench.results.names import NO_LOSS

CATEGORY = "1 Claims"
CAPTION = """\
The experiment on one page. It shows how far certainty reaches around training points, what temperature scaling (TS)
repairs, and which tests of the claims hold. The title summarises the verdicts by their counts. If probes searched for
the worst direction, the curves (A) show the share of training points around which certainty reaches a given distance:
in every direction, by proof (blue); until an attack ends it (red), with the truth between the two; and in a random
direction (black), next to how far it would reach if boundaries at the attacked distances were flat (amber).
Otherwise, they show confidence in a point's own label as the distance from the point grows, and are solid for
training points and dashed for held-out ones. The dots (B) show how far certainty lasts, relative to the distance to
the nearest training point with a different label. Panel C shows test NLL without TS, with TS (paper's code) and with
TS (optimal), next to the true posterior's score. Panel D shows how often confident answers are right, for one data
set and model. The tests (E) are grouped by theme, with a sign for each test and a row for each calibration; compare
rows to see whether the verdicts depend on how the temperature was fitted. Outlined signs are checks, which are not
claims of the paper and don't count in the title. If classes overlap, panel F shows what TS leaves as their number
grows. If cells have repair ladders, the bars (G) show what it would take to repair each model. Bands and bars are 95%
t intervals over seeds. Panels with nothing to show are left out. Large grids are cut to fit the page, and the page
says so; the other figures of this report show all cells.
"""

WHAT = "How far certainty reaches around training points, and what temperature scaling (TS) repairs"
WIDTHS = (6.9, 4.6)  # widths of the two columns, in inches
TOP, GROWTH = 3.9, 2.9  # heights of A and D, and of F


class Column:
    """Parts stacked in a column, each with its height in inches; those that grow share any remaining room."""

    def __init__(self) -> None:
        self.parts: list[tuple[float, bool, Callable[[SubFigure], None]]] = []

    def add(self, height: float, draw: Callable[..., None], *arguments: Any, grows: bool = False) -> None:
        """Append a part that ``draw(subfigure, *arguments)`` draws."""
        self.parts.append((height, grows, lambda part: draw(part, *arguments)))

    @property
    def height(self) -> float:
        """Return the height that the parts need."""
        return sum(height for height, _, _ in self.parts)

    def draw(self, place: SubFigure, height: float) -> None:
        """Draw the parts in `place`, which has this height."""
        growing = sum(grows for _, grows, _ in self.parts)
        room = (height - self.height) / max(growing, 1)
        heights = [each + room * grows for each, grows, _ in self.parts]
        subfigures = place.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for subfigure, (_, _, draw) in zip(subfigures, self.parts, strict=True):
            draw(subfigure)


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
    radii, searched = table_views.with_evaluation_as_train(radii)
    around = around if len(neighbourhood) else searched
    watched = "label trained on" if around == labels.around("train") else "its own label"
    all_styles = loss_styles(table_views.losses_in(runs))
    selection = select(runs)
    styles = {loss: all_styles[loss] for loss in selection.losses}

    left, right = Column(), Column()
    curves, reach = parts.curves_of(neighbourhood, selection), parts.survival_of(radii, selection)
    if len(reach):
        left.add(TOP, parts.draw_survival, reach, watched, selection)
    elif len(curves):
        left.add(TOP, parts.draw_curves, curves, watched, selection, styles)
    rows = max(3.0, (0.3 + 0.08 * len(styles)) * len(selection.shown) + 1.5)
    scores = table_views.preferred_labels(metrics)
    left.add(rows, parts.draw_repair, radii, scores, selection, styles, grows=True)
    overlap = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    if growing := parts.growth_models(overlap):
        left.add(GROWTH, parts.draw_growth, overlap, growing, all_styles)
    ladders, *of = parts.ladders_of(metrics)
    if len(ladders):
        left.add(parts.ladders_height(ladders), parts.draw_ladders, ladders, *of)
    if len(diagrams := parts.diagrams_of(reliability, selection)):
        right.add(TOP, parts.draw_diagrams, diagrams, selection)
    if by_theme(claims.to_dict("records")):
        right.add(parts.verdicts_height(claims), parts.draw_verdicts, claims, grows=True)

    what = WHAT.replace(labels.around("train").split(",")[0], around.split(",")[0].split(" (")[0])
    title = finding(claims.to_dict("records")) or what
    note = _facts(runs, selection) if title == what else f"{what}. {_facts(runs, selection)}"
    return _page((left, right), title, note, artists.loss_keys(styles, styles))


def _page(columns: Sequence[Column], title: str, note: str, keys: Sequence[Line2D]) -> Figure:
    """Draw columns side by side, leaving out those without parts."""
    shown = [(width, column) for width, column in zip(WIDTHS, columns, strict=True) if column.parts]
    height = max(column.height for _, column in shown)
    widths = [width for width, _ in shown]
    figure = panel_grid.blank_figure(sum(widths), height)
    panel_grid.add_head(figure, title, note, keys)
    places = figure.subfigures(1, len(shown), width_ratios=widths, squeeze=False)[0]
    for place, (_, column) in zip(places, shown, strict=True):
        column.draw(place, height)
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
