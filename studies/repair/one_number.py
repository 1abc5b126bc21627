"""Draw the README's picture from closed forms and the published run `repair`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from published import by_seed

from halobench.analysis.names import CALIBRATIONS

CLASSES = 16
LINES = {  # label: (model, calibrator, line style, where the label is put, in points)
    "kernel classifier, TS": ("attention", "exact", "-", (8, 0)),
    "MLP, TS": ("mlp", "exact", "--", (8, 8)),
    "kernel classifier, partner scaling": ("attention", "partner", "-", (8, 4)),
    "MLP, partner scaling": ("mlp", "partner", "--", (8, 8)),
}


def bars() -> dict[str, np.ndarray]:
    """Probabilities of all classes where classes 5 and 6 overlap, if the nearest training point has label 5."""
    doubt = 0.25  # how often a one-nearest-neighbour classifier is wrong: half of all points are shared by two classes
    rows = {
        name: np.zeros(CLASSES)
        for name in ("the truth", "the classifier", "temperature scaling: doubt spread over all")
    }
    rows["the truth"][4:6] = 0.5
    rows["the classifier"][4] = 1
    rows["temperature scaling: doubt spread over all"][:] = doubt / (CLASSES - 1)
    rows["temperature scaling: doubt spread over all"][4] = 1 - doubt
    rows["partner scaling: doubt goes to the partner"] = np.zeros(CLASSES)
    rows["partner scaling: doubt goes to the partner"][4:6] = 1 - doubt, doubt
    return rows


def draw() -> plt.Figure:
    """Return the picture."""
    plt.rcParams.update({"font.size": 15, "axes.spines.top": False, "axes.spines.right": False})
    figure = plt.figure(figsize=(13, 6), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25), wspace=0.03)
    axes = left.subplots(4, 1, sharex=True, sharey=True)
    for axis, (name, row) in zip(axes, bars().items(), strict=True):
        axis.bar(range(1, CLASSES + 1), row, color=["#1f5f8b" if i in (4, 5) else "#b84a00" for i in range(CLASSES)])
        axis.set_title(name, loc="left", fontsize=15, pad=2)
        axis.set(yticks=[0, 1], xticks=[1, 5, 6, 16], ylim=(0, 1.02))
    axes[-1].set_xlabel("class")
    spread = axes[2]
    spread.annotate(
        f"the 15 others share it: {0.25 / (CLASSES - 1):.3f} each", (11.5, 0.42), ha="center", color="#b84a00"
    )
    for ends in ((1, 4.4), (5.6, 16)):
        spread.annotate(
            "",
            (ends[0] - 0.4, 0.12),
            (ends[1] + 0.4, 0.12),
            arrowprops={"arrowstyle": "|-|", "color": "#b84a00", "mutation_scale": 4, "lw": 2},
        )
    left.suptitle("Where classes 5 and 6 overlap: probabilities", fontsize=17, x=0.02, ha="left")
    axis = right.subplots()
    for label, (model, calibrator, dashes, offset) in LINES.items():
        conditions = {"model": model, "calibrator": calibrator, "loss": "cross_entropy", "labels": "noisy"}
        kl = by_seed(
            "repair",
            "kl",
            {**conditions, "split": "test", "dataset": ",".join(f"overlap-k{2**i}" for i in range(2, 8))},
        )
        kl = kl.groupby("classes").mean().mean(axis=1)
        axis.plot(kl.index, kl, dashes, color=CALIBRATIONS[calibrator].style.color, marker="o", lw=2.5)
        axis.annotate(
            label, (kl.index[-1], kl.iloc[-1]), offset, textcoords="offset points", va="center", annotation_clip=False
        )
    axis.set_xscale("log", base=2)
    axis.set(
        xticks=[4, 8, 16, 32, 64, 128],
        ylim=(0, None),
        xlabel="number of classes",
        ylabel="KL from the posterior, in nats",
    )
    axis.set_xticklabels([4, 8, 16, 32, 64, 128])
    axis.minorticks_off()
    right.suptitle("What it leaves on synthetic classes that overlap in pairs", fontsize=17, x=0.02, ha="left")
    return figure
