"""Draw how far certainty and decisions reach in the worst direction, from the published runs `halos` and `fashion`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from published import by_seed

from halobench.analysis.names import LOSSES
from halobench.reporting.labels import cell_label

CELLS = {  # with and without label noise: run, data set, model
    "without label noise": (
        ("halos", "digits", "mlp"),
        ("halos", "digits", "cnn"),
        ("halos", "digits", "resnet"),
        ("halos", "mnist5k", "mlp"),
        ("fashion", "fashion", "mlp"),
        ("fashion", "fashion2k", "cnn"),
    ),
    "with label noise": (
        ("halos", "digits-noise50", "mlp"),
        ("halos", "digits-noise50", "cnn"),
        ("halos", "digits-noise50", "resnet"),
        ("halos", "mnist5k-noise50", "mlp"),
        ("fashion", "fashion-noise25", "mlp"),
        ("fashion", "fashion-noise50", "mlp"),
        ("fashion", "fashion-pairs50", "mlp"),
        ("fashion", "fashion2k-noise50", "cnn"),
    ),
}
QUANTITIES = {
    "certainty": "Certainty ends: confidence falls below .9",
    "decision": "The decision changes: another class wins",
}
SHOWN = ("cross_entropy", "mixup2", "mixup5")
AXIS = "attack's distance / that to nearest other label"


def draw() -> plt.Figure:
    """Return the picture."""
    plt.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 2, figsize=(12.4, 7.4), dpi=100, sharex=True, sharey=True, layout="constrained")
    cells = [cell for group in CELLS.values() for cell in group]
    for axis, (quantity, title) in zip(axes, QUANTITIES.items(), strict=True):
        for y, (run, dataset, model) in enumerate(cells):
            where = {
                "dataset": dataset,
                "model": model,
                "points": "train",
                "probe": "adversarial",
                "calibrator": "none",
            }
            losses = {"quantity": quantity, "loss": ",".join(SHOWN)}
            for loss, seeds in by_seed(run, "radii.relative_median", where | losses).groupby("loss"):
                style, place = LOSSES[loss].style, y + 0.22 * (SHOWN.index(loss) - 1)
                radii = seeds.to_numpy().ravel()
                axis.plot(radii, np.full(len(radii), place), "|", color=style.color, ms=8, alpha=0.5)
                axis.plot([np.nanmean(radii)], [place], style.marker, color=style.color, ms=8, clip_on=False, zorder=5)
        split = len(CELLS["without label noise"]) - 0.5
        axis.axhline(split, color="#cccccc", lw=1, zorder=0)
        axis.set_title(title, loc="left", fontsize=13)
        axis.grid(axis="x", color="#eeeeee")
        for place, group in zip((split, len(cells) - 0.5), CELLS, strict=True):
            axis.text(0.295, place, group, color="#777777", ha="right", va="bottom")
        axis.set_xlabel(AXIS)
    axes[0].set_yticks(range(len(cells)), [cell_label(*cell[1:]) for cell in cells])
    axes[0].set(xlim=(-0.008, 0.3), ylim=(len(cells) - 0.5, -0.6))
    keys = [
        plt.Line2D([], [], ls="", marker=LOSSES[name].style.marker, color=LOSSES[name].style.color, ms=8)
        for name in SHOWN
    ]
    keys.append(plt.Line2D([], [], ls="", marker="|", color="#444444", ms=8))
    names = [*(LOSSES[name].label for name in SHOWN), "single seeds"]
    figure.legend(keys, names, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle("Mixup shrinks certainty far more than it moves decisions", fontsize=17, x=0.01, ha="left")
    return figure
