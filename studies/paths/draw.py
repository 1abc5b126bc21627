"""Draw what each loss reaches as it is trained for longer, from the table of `studies.paths.lengths`."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from halobench.analysis import names
from halobench.reporting import labels
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import INK, styled
from studies.paths.lengths import OUT, best

LOSSES = {"cross_entropy": "cross_entropy", "mixup2": "mixup2", "mixup5": "mixup5", "forward": "forward_correction"}
NETWORKS = ("mlp", "cnn", "resnet", "convnext")
TITLE = "Each at its best length, cross-entropy beats Mixup; knowing the noise beats both"


@styled
def draw(table: pd.DataFrame | None = None) -> Figure:
    """Draw a panel per network: KL after TS against the number of epochs, a line per loss.

    The table is ``lengths.csv`` unless another is passed. Values are means over seeds; a ring marks the
    median of the lengths that validation samples choose for the seeds.
    """
    table = pd.read_csv(OUT) if table is None else table
    chosen = best(table).groupby(["network", "loss"])["epochs"].median()
    figure, panels = plt.subplots(1, len(NETWORKS), figsize=(7.4, 3.3), dpi=150, sharey=True, layout="constrained")
    for axes, network in zip(panels, NETWORKS, strict=True):
        for loss, name in LOSSES.items():
            style = names.LOSSES[name].style
            rows = table[(table["network"] == network) & (table["loss"] == loss)]
            means = rows.groupby("epochs")["kl_exact"].mean()
            axes.plot(means.index, means, color=style.color, marker=style.marker, ms=3.5, lw=1.1)
            length = chosen[network, loss]
            axes.plot(length, means[length], "o", mfc="none", mec=INK, ms=9, mew=1.1, zorder=4)
        axes.set_title(labels.model_label(network))
        axes.set_xlabel("epochs")
        artists.log_ticks(axes, table.loc[table["network"] == network, "epochs"])
    panels[0].set_yscale("log")
    panels[0].yaxis.set(major_formatter=StrMethodFormatter("{x:g}"), minor_formatter=StrMethodFormatter("{x:g}"))
    panels[0].set_ylabel("KL after TS\n(nats; lower is better)")
    keys = [
        artists.key(labels.loss_label(name), names.LOSSES[name].style.color, marker=names.LOSSES[name].style.marker)
        for name in LOSSES.values()
    ]
    ring = artists.key("best length", INK, marker="o", mfc="none", ls="", ms=9)
    figure.legend(handles=[*keys, ring], loc="outside lower center", ncols=5)
    figure.suptitle(f"{TITLE}\nFashion-MNIST, 3,000 training images, 50% pair flips", size=9.5)
    return figure
