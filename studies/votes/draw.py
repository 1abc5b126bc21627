"""Draw what each fit of the temperature costs, from this study's table: `python docs/pictures.py published votes`."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import GREY, styled
from studies.votes.compare import OTHERS, OUT, UNIFORM

BASE = "TS, votes"
SAID = "Fitting the temperature to easier items costs far more than fitting it to majority labels"
ROWS = {
    UNIFORM: "uniform guess",
    OTHERS: "temperature fitted to other, easier items",
    "TS, majority": "temperature fitted to majority labels",
    "TS, one vote": "temperature fitted to one vote per item",
    "partner, one vote": "partner scaling fitted to one vote per item",
}
PANELS = {"MNLI": "MNLI, 1,569 items", "SNLI": "SNLI, 1,514 items", "CIFAR-10H": "CIFAR-10H, 10,000 images"}
LOOKS = {  # by a part of the network's name
    "bert-base-uncased": ("BERT", "#d55e00", "s"),
    "roberta": ("RoBERTa", "#0072b2", "o"),
    "lenet": ("LeNet-5", "#009e73", "^"),
    "wideresnet": ("WRN-16-4", "#cc79a7", "D"),
    "cleanlab": ("cleanlab's", "#e69f00", "v"),
}
LIMITS, SPREAD = (-0.1, 0.4), 0.26


@styled
def draw(table: pd.DataFrame | None = None) -> Figure:
    """Draw each network's NLL minus that of the temperature fitted to all votes, a panel for each set of items.

    The table is ``networks.csv`` unless another is passed.
    """
    table = pd.read_csv(OUT / "networks.csv", keep_default_na=False) if table is None else table
    chosen = table[(table["score"] == "nll") & (table["minus"] == "") & table["row"].isin([*ROWS, BASE])]
    nll = chosen.pivot(index=["items", "network"], columns="row", values="value")
    above = nll.sub(nll[BASE], axis=0)
    figure, panels = plt.subplots(
        1, len(PANELS), figsize=(7.4, 2.9), dpi=150, sharex=True, sharey=True, layout="constrained"
    )
    for axes, (items, title) in zip(panels, PANELS.items(), strict=True):
        networks = [name for name in above.loc[items].index if not name.endswith("mean")]
        for place, network in enumerate(networks):
            _, colour, marker = next(look for part, look in LOOKS.items() if part in network)
            shift = SPREAD * (2 * place / (len(networks) - 1) - 1)
            heights = [row + shift for row in range(len(ROWS))]
            axes.plot(above.loc[items, network][list(ROWS)], heights, marker, color=colour, ms=4)
        axes.axvline(0, color=GREY, lw=0.8, zorder=0)
        axes.set_title(title)
    for row, why in enumerate(("beyond the scale", "has no other items")):
        panels[-1].annotate(
            why, (LIMITS[1], row), (-2, 0), textcoords="offset points", ha="right", va="center", color=GREY
        )
    panels[0].set(xlim=LIMITS, ylim=(len(ROWS) - 0.5, -0.5), yticks=range(len(ROWS)), yticklabels=ROWS.values())
    panels[1].set_xlabel("NLL minus that of the temperature fitted to all votes (nats; left is better)")
    keys = [artists.key(label, colour, marker=marker, ls="") for label, colour, marker in LOOKS.values()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    figure.suptitle(SAID, size=10)
    return figure
