"""Draw a model's NLL as stacked bars, split by what could repair each part (the repair ladder)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from halobench.analysis.names import NO_LOSS, REPAIRS
from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import wrapped
from halobench.reporting.plotting.style import GREY, INK

BAR = 0.24  # height of a bar, in inches
LABEL = 1.7  # width of a data set's name, in inches
ROOM = 1.15  # ratio of the horizontal axis's length to the longest bar without its temperature part


def ladders(metrics: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return ladders of one loss (cross-entropy or else the first) and of models not trained here, and that loss."""
    rows = metrics[metrics["metric"].astype(str).str.startswith("repair_")]
    wide = rows.assign(part=rows["metric"].str.removeprefix("repair_"))
    wide = wide.pivot_table("value", ["dataset", "model", "loss", "seed"], "part")
    best = rows[rows["metric"] == "repair_best_map"].set_index(["dataset", "model", "loss", "seed"])[["low", "high"]]
    parts = wide.reindex(columns=["nll", *REPAIRS]).join(best).reset_index()
    losses = [name for name in table_views.losses_in(parts) if name != NO_LOSS]
    loss = "cross_entropy" if "cross_entropy" in losses else (losses or [NO_LOSS])[0]
    return parts[parts["loss"].isin((loss, NO_LOSS))], loss


def axis_end(parts: pd.DataFrame) -> float:
    """Return the end of the horizontal axis, which leaves room for all parts of a bar except the temperature's part."""
    means = parts.groupby(["dataset", "model"])[list(REPAIRS)[:-1]].mean().clip(lower=0).sum(axis=1)
    return ROOM * float(means.max())


def draw_bars(ax: Axes, parts: pd.DataFrame, datasets: list[str], end: float) -> None:
    """Draw the bars of a model; the axis ends at `end` nats, where the NLL of longer bars is printed."""
    means = parts.groupby("dataset")[["nll", *REPAIRS, "low", "high"]].mean()
    means = means.reindex(datasets).fillna({part: 0.0 for part in REPAIRS})
    at = pd.Series(np.arange(len(datasets)), datasets)
    left = np.zeros(len(means))
    for part, name in REPAIRS.items():
        width = means[part].clip(lower=0).to_numpy()  # a part that is slightly below 0 by chance is drawn as 0
        if name.style:
            ax.barh(at, width, left=left, height=0.72, color=name.style.color, lw=0, zorder=2)
        left = left + width
    estimated = means[means["high"].notna()]
    best = estimated["noise"] + estimated["training"]
    ax.hlines(at[estimated.index], estimated["low"], estimated["high"].clip(upper=end), color=INK, lw=1.2, zorder=3)
    ax.vlines(best, at[estimated.index] - 0.2, at[estimated.index] + 0.2, color=INK, lw=1.2, zorder=3)
    for place, nll in zip(at, means["nll"], strict=True):
        if nll > end:
            ax.text(1.01 * end, place, f"→ {nll:.1f}", va="center", size=7, color=GREY)
    ax.set(xlim=(0, end), ylim=(len(datasets) - 0.5, -0.5))
    ax.set_yticks(at, [wrapped(labels.dataset_label(name), LABEL, 7) for name in datasets])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")


def repair_keys() -> list[Line2D]:
    """Return legend entries for the parts of a bar, and for the best map's NLL."""
    keys = [
        artists.key(f"repaired by {name.label}", name.style.color, marker="s", ls="", ms=8)
        for name in REPAIRS.values()
        if name.style
    ]
    return [*keys, artists.key("the best map's NLL, 95% range", INK, marker="|", lw=1.2, ms=7)]
