"""Show logit gaps around training samples against Euclidean distance, by data set (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import Key, PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import GREY, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles, model_dashes

TITLE = "Logit gap against Euclidean distance"
MOST_LINES = 6  # that can be told apart in a panel
ACROSS = 4  # panels side by side, if there is one per data set


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw mean logit gaps with t bands over seeds: a panel per data set, a line per model and loss.

    If a panel would have too many lines, each model has a column of its own, and each data set a row.

    Parameters
    ----------
    neighbourhood : DataFrame
        As aggregated; the rows of the absolute grid around training samples are drawn, of the sphere probe (or the
        first in order).
    """
    table, around = table_views.with_evaluation_as_train(table_views.absolute_rows(neighbourhood))
    table = table[table["points"] == "train"].dropna(subset=["logit_gap"])
    if table.empty:
        return empty_page(TITLE, "No probe visited absolute distances.")
    losses, cells = table_views.losses_in(table), table_views.cells_in(table)
    models = labels.ordered((model for _, model in cells), labels.MODELS)
    styles = loss_styles(losses)
    lines = table[["dataset", "model", "loss"]].drop_duplicates().groupby("dataset").size()
    together = lines.max() <= MOST_LINES
    dashes = model_dashes(models) if together else dict.fromkeys(models, "-")
    keys = artists.loss_keys(losses, styles)
    if together and len(models) > 1:
        keys += [artists.key(labels.model_label(model), GREY, ls=dash) for model, dash in dashes.items()]
    note = (
        f"Logit of the label less the largest other one, {around}; below 0 the prediction has left the "
        f"label. Probe: {labels.probe_label(table['probe'].iloc[0]).lower()}. Lines: {seeds_note(table)}."
    )
    panels = _one_per_dataset(cells, models) if together else _one_per_cell(cells, models)
    grid = draw_grid(
        PageText(TITLE, note, keys, f"Euclidean {labels.ABSOLUTE}"),
        panels.rows,
        panels.columns,
        panels.cells,
        Sizes(panel=(2.1, 1.5), gap=(0.45, 0.5)),
        panels.headings,
    )
    means = over_seeds(table, ["dataset", "model", "loss", "points", "radius"], "logit_gap")
    means_of = table_views.groups_of(means, ["dataset", "model"])
    ends = table.groupby("dataset")["radius"].max()
    for (row, column), ax in grid.axes.items():
        ax.axhline(0, color=GREY, lw=0.8, zorder=1)
        for cell in panels.cells[row, column]:
            artists.draw_lines(ax, means_of[cell], "radius", styles, dash=dashes[cell[1]])
        ax.set_xlim(0, ends[panels.cells[row, column][0][0]])
        if grid.left(row, column):
            ax.set_ylabel("logit gap")
    return grid.figure


@dataclass(frozen=True)
class _Panels:
    """The panels of the grid: headings of rows and columns, the (data set, model) cells of each, and headings."""

    rows: Mapping[Any, str]
    columns: Mapping[Any, str]
    cells: Mapping[Key, list[tuple[str, str]]]
    headings: Mapping[Key, str] | None = None


def _one_per_dataset(cells: Sequence[tuple[str, str]], models: Sequence[str]) -> _Panels:
    """Return a panel per data set, `ACROSS` side by side."""
    datasets = dict.fromkeys(dataset for dataset, _ in cells)
    places = {dataset: divmod(i, ACROSS) for i, dataset in enumerate(datasets)}
    rows, columns = ({place[i]: "" for place in places.values()} for i in (0, 1))
    cells_of = {place: [(d, model) for model in models if (d, model) in cells] for d, place in places.items()}
    return _Panels(rows, columns, cells_of, {place: labels.dataset_label(d) for d, place in places.items()})


def _one_per_cell(cells: Sequence[tuple[str, str]], models: Sequence[str]) -> _Panels:
    """Return a panel per data set and model."""
    rows = {dataset: labels.dataset_label(dataset) for dataset, _ in cells}
    return _Panels(rows, {model: labels.model_label(model) for model in models}, {cell: [cell] for cell in cells})
