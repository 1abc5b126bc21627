"""Group distributions that differ only in the number of classes into families, and draw their scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from halobench.analysis.names import DATASETS, Style
from halobench.calibration.overlap_theory import nearest_neighbour_kl, uniform_kl
from halobench.reporting import labels
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import GREY, INK
from halobench.reporting.seed_statistics import over_seeds
from halobench.storage.columns import KEYS, REFERENCE

GROWTH = 3  # fewer class counts aren't joined by lines, since two points always lie on a line

CLOSED_FORM: dict[str, Any] = {"color": INK, "lw": 1.0}
UNIFORM: dict[str, Any] = {"color": INK, "lw": 0.9, "ls": (0, (1, 1.5))}


def family(dataset: str) -> str:
    """Return a data set's name without its number of classes, e.g. ``overlap-m4`` for ``overlap-m4-k8``."""
    return re.sub(r"-?k\d+(?=-|$)", "", dataset) or dataset


def scores(metrics: pd.DataFrame, runs: pd.DataFrame, measures: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Return test scores, a row per cell or reference with regions; `measures` maps columns to a metric and a fit."""
    facts = runs[runs["beta"].notna()].drop_duplicates("dataset")[["dataset", "classes", "beta", "group"]]
    rows = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy")]
    table = facts.merge(rows[KEYS].drop_duplicates())
    for column, (metric, calibrator) in measures.items():
        values = rows[(rows["metric"] == metric) & (rows["calibrator"] == calibrator)]
        table = table.merge(values[[*KEYS, "value"]].rename(columns={"value": column}), "left", KEYS)
    table = table.dropna(subset=list(measures), how="all").merge(runs[[*KEYS, "interpolates"]], "left", KEYS)
    table["interpolates"] = table["interpolates"].ne(False)  # untrained predictors aren't among the runs
    return table.assign(family=table["dataset"].map(family))


def families(table: pd.DataFrame) -> list[str]:
    """Return the families of a table in the order of a figure's panels."""
    return labels.ordered(table["family"], DATASETS)


def shows_growth(rows: pd.DataFrame) -> bool:
    """Return whether the rows of a family have enough different numbers of classes to show growth."""
    return rows["classes"].nunique() >= GROWTH


def slope(rows: pd.DataFrame) -> float:
    """Return the least-squares slope of the KL on log k, in nats per unit of log k."""
    return float(np.polyfit(np.log(rows["classes"].to_numpy(float)), rows["kl"].to_numpy(float), 1)[0])


def legend_keys(styles: Mapping[str, Style], joined: bool = True) -> list[Line2D]:
    """Return the legend entries of `draw_panel`; `joined` says whether lines join the marks."""
    return [
        *artists.loss_keys(styles, **({} if joined else {"ls": ""})),
        artists.key("1-NN, closed form", **CLOSED_FORM),
        artists.key("1-NN, measured", INK, marker="x", ls="", ms=4),
        artists.key("uniform guess", **UNIFORM),
    ]


def draw_panel(ax: Axes, rows: pd.DataFrame, model: str, styles: Mapping[str, Style]) -> None:
    """Draw one model's KL against k with a line per loss, from a family's rows of `scores` with a column ``kl``.

    Marks are hollow unless every seed interpolates. Fewer than `GROWTH` values of k aren't joined by a line.
    """
    rows = rows[rows["model"].isin((model, "nearest"))]
    trained = rows[(rows["model"] == model) & (rows["loss"] != REFERENCE)]
    near = rows[rows["model"] == "nearest"].groupby("classes")["kl"].mean()
    ax.plot(near.index, near, marker="x", ls="", ms=4, color=INK, zorder=2)
    nearest, uniform = _draw_closed_forms(ax, rows)
    top = 1.12 * max([rows["kl"].max(), *nearest]) + 0.03
    full = trained.groupby(["loss", "classes"])["interpolates"].all().rename("full").reset_index()
    means = over_seeds(trained, ["loss", "classes"], "kl", (0, np.inf)).merge(full)
    for loss, style in styles.items():
        line = means[means["loss"] == loss].sort_values("classes")
        if shows_growth(trained):
            ax.plot(line["classes"], line["mean"], color=style.color, lw=1.2, zorder=3)
        ax.vlines(line["classes"], line["low"], line["high"], color=style.color, lw=1, zorder=3)
        look: dict[str, Any] = {"color": style.color, "marker": style.marker, "ls": ""}
        ax.plot(*line.loc[line["full"], ["classes", "mean"]].to_numpy().T, ms=4, mew=0.9, zorder=4, **look)
        # Marks are large enough to show the white inside, even in a plus or a star.
        ax.plot(
            *line.loc[~line["full"], ["classes", "mean"]].to_numpy().T, mfc="white", ms=7, mew=0.8, zorder=4, **look
        )
    artists.log_ticks(ax, rows["classes"])
    ax.set_ylim(min(0, trained["kl"].min()) - 0.03, top)
    if beyond := [value for value in uniform if value > top]:
        note = ax.text(0.99, 1, f"↑ uniform guess, up to {max(beyond):.2f}", size=7, color=GREY, transform=ax.transAxes)
        # Its curve passes behind it.
        note.set(ha="right", va="top", zorder=5, bbox={"fc": "white", "ec": "none", "pad": 1})


def _draw_closed_forms(ax: Axes, rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Draw the KL of 1-NN at its best temperature and of the uniform guess, and return both curves."""
    laws = rows.drop_duplicates("dataset").sort_values("classes")[["classes", "beta", "group"]].dropna()
    parameters = [(int(k), float(beta), int(group)) for k, beta, group in laws.itertuples(index=False)]
    k, nearest = [law[0] for law in parameters], [nearest_neighbour_kl(*law) for law in parameters]
    uniform = [uniform_kl(*law) for law in parameters]
    marks: dict[str, Any] = {} if shows_growth(laws) else {"marker": "_", "ms": 10, "ls": ""}
    ax.plot(k, nearest, zorder=2, **(CLOSED_FORM | marks))
    ax.plot(k, uniform, zorder=1, **(UNIFORM | marks))
    return nearest, uniform
