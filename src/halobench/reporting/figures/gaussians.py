"""Gaussian classes by separation and Mixup size: KL to the posterior, raw and after temperature scaling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, page_layout
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import loss_styles

SHOWS = ("gaussians",)
TITLE = "Gaussian classes: how far from the posterior, by separation and number of points mixed"
WORDS = {"none": "no TS", "released": "TS, the released fit", "exact": "TS, the exact optimum"}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL against the distance between means: a row a model, a column a calibrator, a line a loss.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on Gaussians are shown.

    Returns
    -------
    Figure
    """
    facts = runs[runs["separation"].notna()].drop_duplicates("dataset").set_index("dataset")["separation"]
    table = metrics[(metrics["metric"] == "kl") & (metrics["split"] == "test") & metrics["dataset"].isin(facts.index)]
    table = table[table["calibrator"].isin(WORDS) & (table["loss"] != "reference")]
    if table.empty:
        return artists.nothing(TITLE, "No model was trained on Gaussian classes.")
    table = table.assign(separation=table["dataset"].map(facts))
    losses, models = table_views.losses_in(table), labels.ordered(table["model"], labels.MODELS)
    styles = loss_styles(losses)
    calibrators = [c for c in WORDS if c in set(table["calibrator"])]
    means = seed_statistics.over_seeds(table, ["model", "calibrator", "loss", "separation"], "value")
    grid = page_layout.grid(
        TITLE,
        "KL from the exact posterior to the model on test points against the distance between two means in standard "
        f"deviations (both axes logarithmic; {seeds_note(table)}). Mixup trains on convex combinations of 2 or "
        "more points.",
        {m: labels.model_label(m) for m in models},
        {c: WORDS[c] for c in calibrators},
        [(m, c) for m in models for c in calibrators],
        panel=(2.1, 1.7),
        gap=(0.25, 0.5),
        left=0.75,
        legend=artists.loss_keys(losses, styles),
        xlabel="distance between means (standard deviations)",
    )
    floor = max(float(means.loc[means["mean"] > 0, "mean"].min()) / 2, 1e-5)
    for (model, calibrator), ax in grid.axes.items():
        panel = means[(means["model"] == model) & (means["calibrator"] == calibrator)]
        for loss in losses:
            line = panel[panel["loss"] == loss].sort_values("separation")
            style = styles[loss]
            look: dict[str, Any] = {"color": style.color, "marker": style.marker, "ms": 4, "mew": 0}
            ax.plot(line["separation"], line["mean"].clip(lower=floor), lw=1.2, zorder=3, **look)
            low, high = line["low"].clip(lower=floor), line["high"].clip(lower=floor)
            ax.vlines(line["separation"], low, high, color=style.color, lw=1, zorder=2)
        ax.set(xscale="log", yscale="log", ylim=(floor * 0.8, float(np.nanmax(means["mean"])) * 1.6))
        ticks = sorted(set(panel["separation"]))
        ax.set_xticks(ticks, [f"{t:.2g}" for t in ticks])
        ax.set_xticks([], minor=True)
        if grid.left(model, calibrator):
            ax.set_ylabel("KL (nats)")
        else:
            ax.set_yticklabels([])
    return grid.figure
