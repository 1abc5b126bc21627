"""Show the KL from the posterior on Gaussian classes by separation and loss, before and after temperature scaling."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles
from halobench.storage.columns import REFERENCE

SHORT = "Gaussians"
CATEGORY = "5 Theory"
CAPTION = """\
The figure shows the KL (in nats) from the known posterior to the model on two Gaussian classes, against the distance
between the means (in standard deviations). The columns show models without calibration, after TS (paper's code) and
after TS (optimal). If the means are close, labels are little more than noise; for a network that fits them, the optimal
temperature is very high, and removes nearly all of the KL.
"""

SHOWS = ("gaussians",)
TITLE = "Gaussian classes: distance from the posterior, by separation and number of mixed points"
HEADINGS = {name: labels.calibrator_label(name) for name in ("none", "paper", "exact")}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw KL against the distance between means, with a row per model, a column per calibrator and a line per loss."""
    separation = runs[runs["separation"].notna()].drop_duplicates("dataset").set_index("dataset")["separation"]
    table = metrics[(metrics["metric"] == "kl") & (metrics["split"] == "test") & (metrics["loss"] != REFERENCE)]
    table = table[table["calibrator"].isin(HEADINGS) & table["dataset"].isin(separation.index)]
    if table.empty:
        return empty_page(TITLE, "No model was trained on Gaussian classes.")
    table = table.assign(separation=table["dataset"].map(separation))
    styles = loss_styles(table_views.losses_in(table))
    note = (
        "KL from the exact posterior to the model on test points against the distance between two means in standard "
        f"deviations (both axes logarithmic; {seeds_note(table)}). Mixup trains on convex combinations of 2 or "
        "more points."
    )
    means = over_seeds(table, ["model", "calibrator", "loss", "separation"], "value")
    panels = table_views.groups_of(means, ["model", "calibrator"])
    xlabel = "distance between means (standard deviations)"
    figure, axes = draw_grid(
        PageText(TITLE, note, artists.loss_keys(styles), xlabel, "KL (nats)", shared=True),
        {model: labels.model_label(model) for model in labels.ordered(table["model"], labels.MODELS)},
        HEADINGS,
        panels,
        (2.4, 2.2),
    )
    floor = max(float(means.loc[means["mean"] > 0, "mean"].min()) / 2, 1e-5)
    for key, ax in axes.items():
        for loss, line in panels[key].sort_values("separation").groupby("loss"):
            at, style = line["separation"], styles[str(loss)]
            low, mean, high = (line[name].clip(lower=floor) for name in ("low", "mean", "high"))
            ax.plot(at, mean, color=style.color, marker=style.marker, ms=4, mew=0, lw=1.2, zorder=3)
            ax.vlines(at, low, high, color=style.color, lw=1, zorder=2)
        artists.log_ticks(ax, means["separation"])
        ax.set(yscale="log", ylim=(floor * 0.8, means["mean"].max() * 1.6))
    return figure
