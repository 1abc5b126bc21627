"""Show how far certainty reaches around training samples: as proved, under attack and in random directions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.answers.reach import RANDOM
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.plotting.survival import (
    SHOWN,
    WORST,
    draw_survival,
    probe_styles,
    survival_keys,
    survival_shares,
    unequal_note,
)
from halobench.reporting.seed_statistics import seeds_note
from halobench.storage.columns import SURVIVAL_COLUMNS

SHORT = "Halos in the worst direction"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
Each curve shows, by distance from training points, for what share of points or random rays the model is still certain
of the point's training label. A distance of 1 is the distance to the nearest training point with a different label. In
the worst direction, the true share lies between the *certified* curve, a proved bound, and the *attacked* curve. The
amber region shows the share of random rays if certainty ended at flat boundaries at the attacked distances. Its upper
edge is for a single boundary, and no linear model can exceed it; its lower edge is for one boundary per other class.
The number of input dimensions alone can explain a curve within this region. The Kaplan-Meier estimator accounts for
rays that ended while the model was still certain. A pair of data set and model is left out if the model is certain of
almost no point, whatever its loss, unless this is so for every pair. If attacks end certainty around at least half of
the points that each model is certain of, the title says within what distance.
"""

SHOWS = ("adversarial", "certified")  # the figure is drawn if either of these probes was used

TITLE = "How far certainty reaches: proved, attacked and in random directions"
LEAST_CERTAIN_SHARE = 0.05  # a row is left out if the share of certain points is below this in all its panels
MOST_PANELS = 24  # maximum; data sets with the most label noise come first


@styled
def draw(radii: pd.DataFrame) -> Figure:
    """Draw the share of certainty radii above each distance, for each data set, model and loss."""
    table = table_views.by_kind(radii[radii["quantity"].isin(SHOWN)])
    table, around = table_views.with_evaluation_as_train(table)
    random = next((name for name in RANDOM if name in set(table["probe"])), "")
    shown = table["probe"].isin((*WORST, random)) & ((random == "sphere") | (table["quantity"] == "certainty"))
    table = table[(table["points"] == "train") & shown]
    searched = table[table["probe"].isin(WORST) & (table["quantity"] == "certainty")]
    if searched.empty:
        return empty_page(TITLE, "No probe looked for the nearest point at which certainty is lost.")
    certain = searched[searched[SURVIVAL_COLUMNS[1]] >= LEAST_CERTAIN_SHARE]
    visited = set((certain if len(certain) else searched)[["dataset", "model"]].itertuples(index=False, name=None))
    table = table[pd.MultiIndex.from_frame(table[["dataset", "model"]]).isin(visited)]
    table, chosen = table_views.noisiest_cells(table, ["loss"], "radii.csv", MOST_PANELS)
    shares = survival_shares(table)
    styles = probe_styles(shares["probe"])
    losses = {loss: labels.loss_label(loss) for loss in table_views.losses_in(table)}
    groups = table_views.groups_of(shares, ["dataset", "model", "loss"])
    level = " or ".join(f"{threshold:g}" for threshold in sorted(table["threshold"].dropna().unique()))
    note = (
        f"Share of points whose label confidence stays above {level} up to this distance, {around}, "
        f"uncalibrated. Certified: proved on the whole ball around a point. Lines: {seeds_note(table)}. "
        f"{unequal_note(shares)}{_unbounded(shares)}{chosen}"
    )
    keys, share = survival_keys(styles, shares), f"share still certain\n(confidence > {level})"
    text = PageText(_title(shares), note, keys, labels.RELATIVE, share, shared=True)
    rows: dict[Any, str] = {cell: labels.cell_label(*cell) for cell in table_views.cells_in(table)}
    columns: dict[Any, str] = losses
    panels = {(dataset, model, loss): ((dataset, model), loss) for dataset, model, loss in groups}
    if len(losses) == 1:
        rows, columns = table_views.dataset_and_model_headings(table)
        panels = {(dataset, model, loss): (dataset, model) for dataset, model, loss in groups}
    figure, axes = draw_grid(text, rows, columns, panels.values(), (2.3, 1.75))
    for group, panel in panels.items():
        draw_survival(axes[panel], groups[group], styles)
    return figure


def _title(shares: pd.DataFrame) -> str:
    """Return a title with the distance within which half of certain points lose certainty under attack, or `TITLE`."""
    attacked = shares[(shares["probe"] == "adversarial") & (shares["quantity"] == "certainty")]
    attacked, ends = attacked[attacked["calibrator"] == "none"], []
    for _, curve in attacked.groupby(["dataset", "model", "loss"]):
        distances, means = curve.sort_values("distance")[["distance", "mean"]].to_numpy().T
        if means[0] >= LEAST_CERTAIN_SHARE:
            ends.append(_half_way(distances, means))
    if not ends or np.isinf(ends).any():
        return TITLE
    farthest = f"{math.ceil(100 * max(ends))}% of the distance to another label"
    return f"Under attack, half the certain points lose certainty within {farthest}"


def _half_way(distances: np.ndarray, shares: np.ndarray) -> float:
    """Return the distance (interpolated) at which a falling share has halved, or infinity if it never halves."""
    half = shares[0] / 2
    after = int(np.argmax(shares <= half))
    if shares[after] > half:
        return np.inf
    step = (shares[after - 1] - half) / (shares[after - 1] - shares[after])
    return float(distances[after - 1] + step * (distances[after] - distances[after - 1]))


def _unbounded(shares: pd.DataFrame) -> str:
    """Return a sentence if some cells, but not all, have a certified curve, or "" otherwise."""
    probes = shares.groupby(["dataset", "model", "loss"])["probe"].agg(set)
    missing = sum("certified" not in probe for probe in probes)
    return "No blue line: no certificate was computed. " if 0 < missing < len(probes) else ""
