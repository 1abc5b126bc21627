"""Draw halos by certainty, and by decisions, from the published runs `halos` and `fashion`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from published import by_seed

from halobench.results.names import LOSSES

PAIRS = {  # label: run, data set, model
    "digits, MLP": ("halos", "digits", "mlp"),
    "digits, CNN": ("halos", "digits", "cnn"),
    "digits, ResNet": ("halos", "digits", "resnet"),
    "MNIST-5k, MLP": ("halos", "mnist5k", "mlp"),
    "Fashion-MNIST, MLP": ("fashion", "fashion", "mlp"),
    "Fashion-MNIST, CNN": ("fashion", "fashion2k", "cnn"),
    "Fashion-MNIST, a quarter noisy, MLP": ("fashion", "fashion-noise25", "mlp"),
    "digits, half the labels noisy, MLP": ("halos", "digits-noise50", "mlp"),
    "digits, half noisy, CNN": ("halos", "digits-noise50", "cnn"),
    "digits, half noisy, ResNet": ("halos", "digits-noise50", "resnet"),
    "MNIST-5k, half noisy, MLP": ("halos", "mnist5k-noise50", "mlp"),
    "Fashion-MNIST, half noisy, MLP": ("fashion", "fashion-noise50", "mlp"),
    "Fashion-MNIST, half flipped in pairs, MLP": ("fashion", "fashion-pairs50", "mlp"),
    "Fashion-MNIST, half noisy, CNN": ("fashion", "fashion2k-noise50", "cnn"),
}
MEASURES = {  # title: probe, quantity
    "Where the confidence falls below .9\n(worst direction, uncalibrated)": ("adversarial", "certainty"),
    "Where it falls to half its value\n(towards the nearest other label)": ("nearest_other", "half_level"),
    "Where the decision changes\n(towards the nearest other label)": ("nearest_other", "decision"),
}
SHOWN = ("cross_entropy", "mixup2", "mixup5")


def draw() -> plt.Figure:
    """Return the picture."""
    plt.rcParams.update({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 3, figsize=(14, 7.4), dpi=100, sharey=True, layout="constrained")
    for axis, (title, (probe, quantity)) in zip(axes, MEASURES.items(), strict=True):
        for y, (run, dataset, model) in enumerate(PAIRS.values()):
            where = {"dataset": dataset, "model": model, "points": "train", "probe": probe, "quantity": quantity}
            rows = by_seed(run, "radii.relative_median", where | {"calibrator": "none", "loss": ",".join(SHOWN)})
            for loss, seeds in rows.groupby("loss"):
                style, place = LOSSES[loss].style, y + 0.22 * (SHOWN.index(loss) - 1)
                radii = seeds.to_numpy().ravel()
                axis.plot(radii, np.full(len(radii), place), "|", color=style.color, ms=8, alpha=0.5)
                mean = np.nanmean(radii)
                marker, face = (style.marker, style.color) if mean <= 1 else (">", "white")  # beyond the axis
                axis.plot([min(mean, 1.0)], [place], marker, color=style.color, mfc=face, ms=8, clip_on=False, zorder=5)
        axis.axvline(0.5, color="#777777", lw=1, dashes=(4, 3), zorder=0)
        axis.axhline(5.5, color="#cccccc", lw=1, zorder=0)
        axis.set_title(title, loc="left", fontsize=13)
        axis.set(xlim=(-0.02, 1.0), xlabel="relative to the nearest other label")
        axis.grid(axis="x", color="#eeeeee")
    axes[0].set_yticks(range(len(PAIRS)), list(PAIRS))
    axes[0].set_ylim(len(PAIRS) - 0.5, -0.5)
    axes[0].text(0.51, len(PAIRS) - 0.65, "1-nearest neighbour", color="#777777", fontsize=10)
    keys = [
        plt.Line2D([], [], ls="", marker=LOSSES[name].style.marker, color=LOSSES[name].style.color, ms=8)
        for name in SHOWN
    ]
    keys += [plt.Line2D([], [], ls="", marker=mark, mfc="white", color="#444444", ms=8) for mark in ("|", ">")]
    names = [*(LOSSES[name].label for name in SHOWN), "single seeds", "beyond the axis"]
    figure.legend(keys, names, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(
        "Mixup lowers the confidence (left) more than it moves the decision (right)",
        fontsize=17,
        x=0.01,
        ha="left",
    )
    return figure
