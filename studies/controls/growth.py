"""Show how much of KL's growth with the number of classes is due to planted overlap: its slopes with and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halobench.core.formatting import within
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import with_base
from halobench.reporting.answers.takeaways import most
from halobench.reporting.plotting import artists, class_families
from halobench.reporting.plotting.panel_grid import PageText, draw_panels, empty_page
from halobench.reporting.plotting.style import GREY, INK, styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.storage.columns import KEYS

SHORT = "Growth with and without planted overlap"
CATEGORY = "5 Theory"
CAPTION = """\
Growth of the KL (in nats) that TS (optimal) leaves: its least-squares slope on log k, the logarithm of the number of
classes, with its 95% t interval over seeds. A control has the same regions and inputs as its distribution of
overlapping classes, but each shared region belongs to one class. Only the growth that the control doesn't show, the
*effect of planted overlap* (paired by seed), can be due to the overlap that was planted. The control may still overlap
naturally, as halves of images do: *experts* know how a collage is made and classify its halves, so growth that they
show as well (`studies/controls/half_expert.py`) may be due to natural overlap. If all samples are classified correctly,
there is no optimal temperature: the KL tends to 0 as T falls, and counts as 0. Hollow marks: not all seeds interpolate
at every k. A data set's control has the same name with `-control` before the number of classes.
"""
SHOWS = ()  # only in experiments that name it, since it needs controls
TITLE = "Growth of KL with the number of classes, with and without planted overlap"
TITLE_IF_LITTLE = "On {}, KL grows about as fast without planted overlap"
GROWS, LITTLE = 0.05, 0.25  # nats per log k; a share of the slope with overlap
CONTROL = "-control"
PAD = 0.02  # nats
WITH, WITHOUT, EFFECT, EXPERTS = "with", "without", "effect", "experts"
LOOKS: dict[str, dict[str, Any]] = {
    WITH: {"label": "with planted overlap", "color": INK, "marker": "o"},
    WITHOUT: {"label": "without (control)", "color": GREY, "marker": "s"},
    EFFECT: {"label": "effect of planted overlap", "color": "#b2182b", "marker": "D"},
    EXPERTS: {"label": "experts on the control", "color": "#2166ac", "marker": "^"},
}
BY_EXPERTS = Path(__file__).with_name("half_expert.csv")


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per model, with a row per distribution, its slopes with and without overlap and their difference."""
    by_seed = slopes(metrics, runs)
    if by_seed.empty:
        return empty_page(TITLE, f"No family of distributions has a control ({CONTROL}) at three numbers of classes.")
    group = ["dataset", "model", "part"]
    means = over_seeds(by_seed, group, "slope")
    means = means.merge(by_seed.groupby(group)["interpolates"].all().reset_index())
    hollow = "" if means["interpolates"].all() else " Hollow: not all seeds interpolate at every k."
    note = (
        f"Slope of the KL after {labels.calibrator_label('exact')} on log k ({seeds_note(by_seed)}). To the right of 0,"
        f" KL grows with the number of classes k.{hollow}"
    )
    legend = [artists.key(ls="", **look) for part, look in LOOKS.items() if part in {*means["part"]}]
    models = {model: labels.model_label(model) for _, model in table_views.cells_in(by_seed)}
    by_part = means.pivot(index=["dataset", "model"], columns="part", values="mean")
    growing = by_part[by_part[WITHOUT] > GROWS]
    little = most(growing[EFFECT].abs() <= LITTLE * growing[WITH].abs())
    of_growing = labels.ordered(growing.index.get_level_values("dataset"), labels.DATASETS)
    distributions = dict.fromkeys(within(labels.dataset_label(name).split(",")[0]) for name in of_growing)
    title = TITLE_IF_LITTLE.format(" and ".join(distributions)) if little else TITLE
    text = PageText(title, note, legend, "growth of KL per unit of log k (nats; left is better)")
    figure, axes = draw_panels(text, models, (3.2, 0.6 + 0.42 * by_seed.groupby("model")["dataset"].nunique().max()))
    ends = means[["low", "high", "mean"]].to_numpy(float)
    for model, ax in axes.items():
        rows = means[means["model"] == model]
        ax.set_xlim(np.nanmin(ends) - PAD, np.nanmax(ends) + PAD)  # the same everywhere
        families = labels.ordered(rows["dataset"], labels.DATASETS)
        _draw_rows(ax, rows, families)
        ax.set_yticks(range(len(families)), list(map(labels.dataset_label, families)))
        ax.set_ylim(len(families) - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
    return figure


def slopes(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return slopes of the KL after TS on log k for families of data sets that have a control.

    Returns
    -------
    DataFrame
        `dataset`, the family's name; model, loss and seed; `part`, one of `LOOKS`; `slope` in nats per unit of log k;
        and `interpolates`, true if all models behind it fit their training labels. Control and family have the same k.
    """
    table = class_families.scores(metrics, runs, {"kl": ("kl", "exact"), "error": ("error", "none")})
    table["kl"] = table["kl"].fillna(0.0).where(table["kl"].notna() | table["error"].eq(0))  # its limit as T falls
    table = with_base(table.dropna(subset=["kl"]))
    table = table[table["loss"] == table["base"]]
    rows = []
    for (family, *cell), cells in table.groupby(["family", "model", "loss", "seed"]):
        if class_families.shows_growth(cells):
            ks, slope_of_kl = tuple(sorted(cells["classes"])), class_families.slope(cells)
            rows.append((family, *cell, ks, slope_of_kl, cells["interpolates"].all()))
    of_cells = pd.DataFrame(rows, columns=[*KEYS, "ks", "slope", "interpolates"])
    control = of_cells["dataset"].str.endswith(CONTROL)
    without = of_cells[control].assign(dataset=of_cells["dataset"].str.removesuffix(CONTROL))
    both = of_cells[~control].merge(without, on=[*KEYS, "ks"], suffixes=("", "_without"))
    slope, other = both["slope"], both["slope_without"]
    fitted, also = both["interpolates"], both["interpolates_without"]
    kl = pd.read_csv(BY_EXPERTS)
    of_experts = []
    for family, ks in zip(both["dataset"], both["ks"], strict=True):
        rows_of_ks = kl[(kl["family"] == family) & kl["classes"].isin(ks)]
        of_experts.append(class_families.slope(rows_of_ks) if len(rows_of_ks) == len(ks) else np.nan)
    experts = pd.Series(of_experts, both.index, float)
    parts = {
        WITH: (slope, fitted),
        WITHOUT: (other, also),
        EFFECT: (slope - other, fitted & also),
        EXPERTS: (experts, experts.notna()),
    }
    shown = [both[KEYS].assign(part=part, slope=value, interpolates=full) for part, (value, full) in parts.items()]
    return pd.concat(shown, ignore_index=True).dropna(subset="slope")


def _draw_rows(ax: Axes, means: pd.DataFrame, families: list[str]) -> None:
    ax.axvline(0, color="#8a8a8a", lw=0.8, zorder=1)
    for offset, (part, look) in zip(artists.dodge(len(LOOKS), 0.72), LOOKS.items(), strict=True):
        rows = means[means["part"] == part]
        y = rows["dataset"].map(families.index).to_numpy(float) + offset
        ax.hlines(y, rows["low"], rows["high"], color=look["color"], lw=1, zorder=2)
        fitted = rows["interpolates"].to_numpy(bool)
        ax.plot(rows["mean"][fitted], y[fitted], ls="", ms=4.5, zorder=3, **look)
        ax.plot(rows["mean"][~fitted], y[~fitted], ls="", ms=5, mfc="white", zorder=3, **look)
