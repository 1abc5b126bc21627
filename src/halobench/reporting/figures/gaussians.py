"""Show Gaussian classes by separation and Mixup size: KL to the posterior, without and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, Sizes, draw_grid, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import Style, loss_styles

SHOWS = ("gaussians",)
TITLE = "Gaussian classes: how far from the posterior, by separation and number of points mixed"
HEADINGS = {"none": "no TS", "released": "TS, the released fit", "exact": "TS, the exact optimum"}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL against the distance between means: a row per model, a column per calibrator, a line per loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on Gaussians are shown.
    """
    separation = runs[runs["separation"].notna()].drop_duplicates("dataset").set_index("dataset")["separation"]
    table = metrics[(metrics["metric"] == "kl") & (metrics["split"] == "test") & (metrics["loss"] != "reference")]
    table = table[table["calibrator"].isin(HEADINGS) & table["dataset"].isin(separation.index)]
    if table.empty:
        return empty_page(TITLE, "No model was trained on Gaussian classes.")
    table = table.assign(separation=table["dataset"].map(separation))
    models = labels.ordered(table["model"], labels.MODELS)
    styles = loss_styles(table_views.losses_in(table))
    calibrators = [name for name in HEADINGS if name in set(table["calibrator"])]
    note = (
        "KL from the exact posterior to the model on test points against the distance between two means in standard "
        f"deviations (both axes logarithmic; {seeds_note(table)}). Mixup trains on convex combinations of 2 or "
        "more points."
    )
    grid = draw_grid(
        PageText(TITLE, note, artists.loss_keys(styles, styles), "distance between means (standard deviations)"),
        {model: labels.model_label(model) for model in models},
        {name: HEADINGS[name] for name in calibrators},
        [(model, name) for model in models for name in calibrators],
        Sizes(panel=(2.1, 1.7), gap=(0.25, 0.5), left=0.75),
    )
    means = over_seeds(table, ["model", "calibrator", "loss", "separation"], "value")
    floor = max(float(means.loc[means["mean"] > 0, "mean"].min()) / 2, 1e-5)
    for (model, calibrator), ax in grid.axes.items():
        _draw_panel(ax, means[(means["model"] == model) & (means["calibrator"] == calibrator)], styles, floor)
        ax.set(ylim=(floor * 0.8, float(np.nanmax(means["mean"])) * 1.6))
        if grid.left(model, calibrator):
            ax.set_ylabel("KL (nats)")
        else:
            ax.set_yticklabels([])
    return grid.figure


def _draw_panel(ax: Axes, means: pd.DataFrame, styles: Mapping[str, Style], floor: float) -> None:
    """Draw the means and intervals of each loss, cut at `floor` nats, on logarithmic axes."""
    for loss, style in styles.items():
        line = means[means["loss"] == loss].sort_values("separation")
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "ms": 4, "mew": 0}
        ax.plot(line["separation"], line["mean"].clip(lower=floor), lw=1.2, zorder=3, **look)
        low, high = line["low"].clip(lower=floor), line["high"].clip(lower=floor)
        ax.vlines(line["separation"], low, high, color=style.color, lw=1, zorder=2)
    ax.set(xscale="log", yscale="log")
    ticks = sorted(set(means["separation"]))
    ax.set_xticks(ticks, [f"{t:.2g}" for t in ticks])
    ax.set_xticks([], minor=True)
