"""KL after temperature scaling against the number of classes, on a logarithmic axis: who grows like log k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.calibration.overlap_theory import nearest_neighbour_kl, uniform_kl
from halobench.reporting import labels, seed_statistics, table_views
from halobench.reporting.plotting import artists, class_families, page_layout
from halobench.reporting.plotting.style import INK, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import Style, loss_styles

SHOWS = ("overlap", "image_overlap")
TITLE = "Does temperature scaling fail like log k?"
CLOSED: dict[str, Any] = {"color": INK, "lw": 1.0}
GUESS: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": (0, (1, 1.5))}


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel a family of distributions and model, a line a loss, beside the closed form of 1-NN.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated; cells on distributions with regions are shown.

    Returns
    -------
    Figure
    """
    table = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    trained = table[(table["loss"] != "reference") & (table["model"] != "nearest")]
    if trained.empty:
        return artists.nothing(TITLE, "No model was trained on a distribution of overlapping classes.")
    losses = table_views.losses_in(trained)
    styles = loss_styles(losses)
    models = labels.ordered(trained["model"], labels.MODELS)
    present = set(trained[["family", "model"]].itertuples(index=False, name=None))
    grid = page_layout.grid(
        TITLE,
        "KL from the exact posterior to the model after exact temperature scaling, against the number of classes k "
        f"({seeds_note(trained)}). A straight rising line is growth like log k. Hollow: fewer than all seeds "
        "interpolate the training labels.",
        {name: class_families.family_label(name) for name in class_families.families(trained)},
        {name: labels.model_label(name) for name in models},
        present,
        panel=(1.9, 1.7),
        gap=(0.3, 0.62),
        legend=[
            *artists.loss_keys(losses, styles),
            artists.key("1-NN, closed form", **CLOSED),
            artists.key("1-NN, measured", INK, marker="x", ls="", ms=4),
            artists.key("uniform guess", **GUESS),
        ],
        xlabel="classes k (logarithmic)",
    )
    for (family, model), ax in grid.axes.items():
        rows = table[table["family"] == family]
        draw_panel(ax, rows[rows["model"].isin((model, "nearest"))], model, losses, styles)
        if grid.left(family, model):
            ax.set_ylabel("KL (nats)")
    return grid.figure


def draw_panel(ax: Axes, rows: pd.DataFrame, model: str, losses: Sequence[str], styles: Mapping[str, Style]) -> None:
    """KL of one model on one family against k, on a logarithmic axis, beside what is known of 1-NN.

    `rows` has, as `classes.scores` gives it, the model's cells, and those of nearest neighbours.
    """
    draw_closed_forms(ax, rows)
    own = rows[(rows["model"] == model) & (rows["loss"] != "reference")]
    if model != "nearest":
        own = own[own["model"] != "nearest"]
    if "nearest" in set(rows["model"]):
        near = rows[(rows["model"] == "nearest")].groupby("classes")["kl"].mean()
        ax.plot(near.index, near, marker="x", ls="", ms=4, color=INK, zorder=2)
    means = seed_statistics.over_seeds(own, ["loss", "classes"], "kl")
    fits = own.groupby(["loss", "classes"])["interpolates"].all()
    for loss in losses:
        line = means[means["loss"] == loss].sort_values("classes")
        if line.empty:
            continue
        style, k = styles[loss], line["classes"].to_numpy(dtype=float)
        ax.plot(k, line["mean"], color=style.color, lw=1.2, zorder=3)
        ax.vlines(k, line["low"], line["high"], color=style.color, lw=1, zorder=3)
        for full in (True, False):
            at = np.array([bool(fits[loss, c]) is full for c in line["classes"]])
            face = style.color if full else "white"
            ax.plot(
                k[at],
                line["mean"][at],
                color=style.color,
                marker=style.marker,
                ms=4,
                mfc=face,
                mew=0.9,
                ls="",
                zorder=4,
            )
    ks = sorted(set(rows["classes"].astype(int)))
    ax.set_xscale("log")
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.set_xticks([], minor=True)
    top = max([rows["kl"].max(), *closed_forms(rows)[1]]) if len(own) else 1
    ax.set_ylim(min(0, own["kl"].min()) - 0.03, top * 1.12 + 0.03)


def closed_forms(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k, the closed form of 1-NN, and the KL of the uniform guess, of a table's distributions with equal shares."""
    laws = rows.drop_duplicates("dataset").sort_values("classes")[["classes", "beta", "group"]]
    laws = laws.dropna()  # groups have no size in the table where shares are unequal
    known = [(int(k), float(b), int(m)) for k, b, m in laws.itertuples(index=False)]
    nearest = np.array([nearest_neighbour_kl(*law) for law in known])
    return np.array([k for k, _, _ in known]), nearest, np.array([uniform_kl(*law) for law in known])


def draw_closed_forms(ax: Axes, rows: pd.DataFrame) -> None:
    """The lines of what is known: 1-NN at its best temperature, and the uniform guess."""
    k, nearest, uniform = closed_forms(rows)
    dash: dict[str, Any] = {"marker": "_", "ms": 10} if len(k) == 1 else {}  # a line of one point can't be seen
    ax.plot(k, nearest, zorder=2, **CLOSED, **dash)
    ax.plot(k, uniform, zorder=1, **GUESS, **dash)
