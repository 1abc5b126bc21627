"""Draw a grid of reliability diagrams: a row per data set and model, a column per loss or calibrator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, page_layout, reliability_panel
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid
from halobench.reporting.styles import Style


@dataclass(frozen=True)
class Diagrams:
    """What a grid of reliability diagrams shows.

    Attributes
    ----------
    column : {"loss", "calibrator"}
        What the columns of the grid are; the lines of a diagram are the other.
    headings : mapping of str to str
        The grid's columns and their headings, in order.
    styles : mapping of str to Style
        The lines of a diagram, in order.
    counts : bool
        Whether bars below each diagram count the test points per bin.
    remark : str
        Continues the first sentence of the note.
    ending : str
        Ends the note.
    """

    column: str
    headings: Mapping[str, str]
    styles: Mapping[str, Style]
    counts: bool = False
    remark: str = ""
    ending: str = ""

    @property
    def by(self) -> str:
        """The column of the table that separates the lines of a diagram."""
        return "calibrator" if self.column == "loss" else "loss"


def draw_diagrams(table: pd.DataFrame, title: str, diagrams: Diagrams) -> Figure:
    """Draw accuracy against confidence per bin, pooled over seeds; bins of few points are faint.

    Parameters
    ----------
    table : DataFrame
        Rows of ``reliability``, of one kind of labels per data set, with at least one bin that holds points.
    title : str
    diagrams : Diagrams
    """
    pooled = table_views.pooled_bins(table, ["dataset", "model", "loss", "calibrator"])
    groups = table_views.groups_of(pooled, ["dataset", "model", diagrams.column])
    panels = {((dataset, model), column): rows for (dataset, model, column), rows in groups.items()}
    by_loss = diagrams.by == "loss"
    keys = artists.loss_keys(diagrams.styles, diagrams.styles) if by_loss else artists.calibrator_keys(diagrams.styles)
    grid = draw_grid(
        PageText(title, _note(table, diagrams), keys, "confidence"),
        {cell: labels.cell_label(*cell) for cell in table_views.cells_in(pooled)},
        diagrams.headings,
        panels,
        # With room for a count left of the bars.
        Sizes((1.35, 1.35), (0.6, 0.95), bottom=0.85) if diagrams.counts else Sizes((1.35, 1.35), (0.25, 0.55)),
    )
    for (cell, column), ax in grid.axes.items():
        leftmost = grid.left(cell, column)
        if diagrams.counts:
            _draw_counts(ax, panels[cell, column], diagrams, leftmost)
        reliability_panel.draw_reliability(ax, panels[cell, column], diagrams.styles, by=diagrams.by)
        if leftmost:
            ax.set_ylabel("accuracy")
        else:
            ax.tick_params(labelleft=False)
    return grid.figure


def _draw_counts(ax: Axes, pooled: pd.DataFrame, diagrams: Diagrams, leftmost: bool) -> None:
    """Draw the bars below a diagram."""
    bars = ax.inset_axes((0, -0.3, 1, 0.22))
    reliability_panel.draw_counts(bars, pooled, diagrams.styles, diagrams.by)
    ax.tick_params(labelbottom=False)
    top = int(pooled["count"].max())
    bars.set_ylim(0, top * 1.05)
    page_layout.set_ticks(bars.yaxis, (0, top), ["0", short_count(top)])
    bars.grid(visible=False)
    if leftmost:
        bars.set_ylabel("points", labelpad=4)


def _note(table: pd.DataFrame, diagrams: Diagrams) -> str:
    """Return the sentences under the title."""
    seeds = table["seed"].nunique()
    return (
        "Accuracy against mean confidence of the points in each bin of confidence, on "
        f"{table_views.label_note(table)}, pooled over {seeds} seed{'s' * (seeds > 1)}{diagrams.remark}. "
        f"Below the diagonal a model is more confident than it is right. {reliability_panel.noise_caps(table)}"
        f"{diagrams.ending}"
    )


def short_count(count: int) -> str:
    """Return a number of points in at most four letters below ten million.

    Examples
    --------
    >>> short_count(9999), short_count(12345), short_count(1234567)
    ('9999', '12k', '1.2M')
    """
    if count < 10_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"
