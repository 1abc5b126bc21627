"""Certainty, half-level and decision radii by probe and loss, before and after temperature scaling."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.figures import names, theme

TITLE = "How far out from a point its certainty, half its confidence and its decision last"
COLUMNS = {
    ("certainty", "none"): "Certainty radius\nwithout TS",
    ("certainty", "exact"): "Certainty radius\nafter exact TS",
    ("half_level", "none"): "Half-level radius\nwithout TS",
    ("half_level", "exact"): "Half-level radius\nafter exact TS",
    ("decision", "none"): "Decision radius\n(TS can't change it)",
}
PROBES = names.PROBES | {
    "sphere": "random direction",
    "manifold": "principal comp.",
    "nearest_other": "nearest other",
    "mixup_line": "random other",
}


@theme.styled
def draw(radii: pd.DataFrame) -> Figure:
    """Draw each cell's median relative radius: mean over seeds with its t interval, open where a median is censored.

    Parameters
    ----------
    radii : DataFrame
        As aggregated: quantiles per cell, points, probe, quantity and calibrator.

    Returns
    -------
    Figure
    """
    table = radii.dropna(subset=["relative_median"])
    table = table[[pair in COLUMNS for pair in zip(table["quantity"], table["calibrator"], strict=True)]]
    if table.empty:
        return theme.nothing(TITLE, "No radii were measured.")
    table, own = names.own_points(table)
    losses, cells = names.losses_in(table), names.cells_in(table)
    styles = names.loss_styles(losses)
    probes = names.ordered(table["probe"], names.PROBES)
    means = summarise(table)
    keys = ["dataset", "model", "quantity", "calibrator"]
    groups = {key: group for key, group in means.groupby(keys)}
    thresholds = sorted(table.loc[table["quantity"] == "certainty", "threshold"].dropna().unique())
    below = " or ".join(f"{t:g}" for t in thresholds)
    grid = theme.grid(
        TITLE,
        f"Median over rays {own}; {names.seeds_note(table)}. Certainty radius: where confidence in the label falls "
        f"below {below or 'the threshold'} (0 where it starts below); half-level: below half of its value at the "
        "point; decision: where another label wins. Open with a ›: in some seed more than half of the rays never got "
        "there, so the radius is larger.",
        {cell: names.cell_label(*cell) for cell in cells},
        COLUMNS,
        {(key[:2], key[2:]) for key in groups},
        panel=(1.3, len(probes) * max(0.26, 0.085 * len(losses) + 0.04)),
        left=1.2,
        legend=[
            *theme.loss_keys(losses, styles, ls=""),
            theme.key("more than", theme.GREY, marker="o", mfc="white", ls=""),
            theme.key("held-out control", theme.GREY, marker="|", ms=6, ls=""),
        ],
        xlabel=names.RELATIVE,
    )
    for (cell, column), ax in grid.axes.items():
        panel = groups[(*cell, *column)].set_index(["points", "probe", "loss"])
        there = [loss for loss in losses if loss in set(panel.index.get_level_values("loss"))]
        for i, probe in enumerate(probes):
            for offset, loss in zip(theme.dodge(len(there), 0.78), there, strict=True):
                _dot(ax, panel, probe, loss, i + offset, styles[loss])
        for i in range(1, len(probes)):
            ax.axhline(i - 0.5, color="#dddddd", lw=0.6, zorder=1)
        ax.axvline(1, color=theme.FAINT, lw=0.8, zorder=1)
        ax.grid(axis="y", visible=False)
        largest = means["mean"].max()
        ax.set(xlim=(-0.05 * largest, 1.12 * largest), ylim=(len(probes) - 0.5, -0.5), yticks=range(len(probes)))
        ax.tick_params(axis="y", length=0)
        ax.set_yticklabels([PROBES.get(p, p) for p in probes] if grid.left(cell, column) else [])
    return grid.figure


def summarise(radii: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of the median relative radius; `open` where the median is censored in some seed."""
    keys = ["dataset", "model", "quantity", "calibrator", "points", "probe", "loss"]
    means = names.over_seeds(radii, keys, "relative_median")
    # The median lies on censored rays when fewer than half of the rays are known.
    return means.merge(radii.groupby(keys)["censored"].max().gt(0.5).rename("open").reset_index(), on=keys)


def _dot(ax, panel: pd.DataFrame, probe: str, loss: str, y: float, style: names.Style) -> None:
    """One loss of one probe: control as a tick, then interval and dot."""
    if ("heldout", probe, loss) in panel.index:
        x = panel.loc[("heldout", probe, loss), "mean"]
        ax.plot([x], [y], marker="|", ms=4.5, mew=1, color=style.color, alpha=0.65, ls="", zorder=2)
    if ("train", probe, loss) not in panel.index:
        return
    row = panel.loc[("train", probe, loss)]
    if pd.notna(row["low"]):
        ax.plot([row["low"], row["high"]], [y, y], color=style.color, lw=1, zorder=2)
    face = "white" if row["open"] else style.color
    ax.plot([row["mean"]], [y], marker=style.marker, ms=4, mfc=face, mec=style.color, mew=1, ls="", zorder=4)
    if row["open"]:
        # A caret just right of the marker, whatever the scale of the axis.
        ax.annotate(
            "›",
            (row["mean"], y),
            (3.5, -0.4),
            textcoords="offset points",
            color=style.color,
            size=9,
            weight="bold",
            va="center_baseline",
            annotation_clip=False,
        )
