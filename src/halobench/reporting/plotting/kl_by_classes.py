"""Draw the KL that temperature scaling leaves against the number of classes, next to closed forms for 1-NN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from halobench.calibration.overlap_theory import nearest_neighbour_kl, uniform_kl
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import INK
from halobench.reporting.seed_statistics import over_seeds
from halobench.reporting.styles import Style

CLOSED_FORM: dict[str, Any] = {"color": INK, "lw": 1.0}
UNIFORM: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": (0, (1, 1.5))}


def legend_keys(losses: Iterable[str], styles: Mapping[str, Style]) -> list[Line2D]:
    """Return the legend entries of `draw_panel`."""
    return [
        *artists.loss_keys(losses, styles),
        artists.key("1-NN, closed form", **CLOSED_FORM),
        artists.key("1-NN, measured", INK, marker="x", ls="", ms=4),
        artists.key("uniform guess", **UNIFORM),
    ]


def draw_panel(ax: Axes, rows: pd.DataFrame, model: str, styles: Mapping[str, Style]) -> None:
    """Draw KL against k of one model on one family, on a logarithmic axis, a line per loss of `styles`.

    Parameters
    ----------
    rows : DataFrame
        As `class_families.scores` returns it with a column ``kl`` (nats): the model's cells, and those of nearest
        neighbours.
    model : str
    styles : mapping of str to Style
    """
    _draw_closed_forms(ax, rows)
    trained = rows[(rows["model"] == model) & (rows["loss"] != "reference")]
    if "nearest" in set(rows["model"]):
        near = rows[(rows["model"] == "nearest")].groupby("classes")["kl"].mean()
        ax.plot(near.index, near, marker="x", ls="", ms=4, color=INK, zorder=2)
    means = over_seeds(trained, ["loss", "classes"], "kl")
    interpolates = trained.groupby(["loss", "classes"])["interpolates"].all()
    for loss, style in styles.items():
        line = means[means["loss"] == loss].sort_values("classes")
        if len(line):
            _draw_loss(ax, line, np.array([bool(interpolates[loss, k]) for k in line["classes"]]), style)
    ks = sorted(set(rows["classes"].astype(int)))
    ax.set_xscale("log")
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.set_xticks([], minor=True)
    top = max([rows["kl"].max(), *closed_forms(rows)[1]]) if len(trained) else 1
    ax.set_ylim(min(0, trained["kl"].min()) - 0.03, top * 1.12 + 0.03)


def _draw_loss(ax: Axes, line: pd.DataFrame, interpolates: np.ndarray, style: Style) -> None:
    """Draw the means and intervals of one loss; marks are hollow if not every seed interpolates."""
    k = line["classes"].to_numpy(dtype=float)
    ax.plot(k, line["mean"], color=style.color, lw=1.2, zorder=3)
    ax.vlines(k, line["low"], line["high"], color=style.color, lw=1, zorder=3)
    look: dict[str, Any] = {"color": style.color, "marker": style.marker, "ms": 4, "mew": 0.9, "ls": "", "zorder": 4}
    for at, face in ((interpolates, style.color), (~interpolates, "white")):
        ax.plot(k[at], line["mean"][at], mfc=face, **look)


def closed_forms(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return k, the closed form of 1-NN, and the KL of the uniform guess, each (n,), in nats.

    Distributions with unequal shares are left out: their groups have no size in the table.
    """
    laws = rows.drop_duplicates("dataset").sort_values("classes")[["classes", "beta", "group"]].dropna()
    parameters = [(int(k), float(beta), int(group)) for k, beta, group in laws.itertuples(index=False)]
    nearest = np.array([nearest_neighbour_kl(*law) for law in parameters])
    return np.array([k for k, _, _ in parameters]), nearest, np.array([uniform_kl(*law) for law in parameters])


def _draw_closed_forms(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw the lines of what is known: 1-NN at its best temperature, and the uniform guess."""
    k, nearest, uniform = closed_forms(rows)
    dash: dict[str, Any] = {"marker": "_", "ms": 10} if len(k) == 1 else {}  # a line of one point can't be seen
    ax.plot(k, nearest, zorder=2, **CLOSED_FORM, **dash)
    ax.plot(k, uniform, zorder=1, **UNIFORM, **dash)
