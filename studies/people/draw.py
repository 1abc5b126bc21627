"""Draw what networks that learn from people's labels reach at each length, and where TS leaves them certain.

From the table of ``measure``, for the networks of the tests.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from halobench.analysis import names
from halobench.analysis.t_intervals import t_interval
from halobench.reporting import labels
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.style import INK, styled
from studies.people.judge import BASE, FULL, MIXED
from studies.people.measure import ORACLE, OUT

NETWORKS = {"mlp_bn": "o", "resnet": "s", "convnext": "^"}  # with their markers
AGREEING = ("none of two", "one of two", "both")
SHARES = {agreeing: agreeing / 2 for agreeing in range(3)}
TITLE = "At training images, one temperature can't separate agreement from dispute"


@styled
def draw(table: pd.DataFrame | None = None) -> Figure:
    """Draw two panels: certainty at training images by people's agreement, and NLL after TS by length of training.

    The table is ``cells.csv`` unless another is passed. Dots are means over blocks, and bars their 95% t intervals.
    Confidence is what `measure.certainty` calls unwarranted, plus the share of people, which it should equal.
    """
    table = pd.read_csv(OUT) if table is None else table
    table = table[(table["arm"] == "N") & (table["labels"] == "person")]
    figure, (certainty, lengths) = plt.subplots(1, 2, figsize=(7.4, 3.6), dpi=150, layout="constrained")
    places = artists.dodge(len(NETWORKS), 0.5)
    for place, (network, marker) in zip(places, NETWORKS.items(), strict=True):
        for loss in (BASE, MIXED):
            rows = table[(table["network"] == network) & (table["loss"] == loss)]
            means = rows.groupby("length")["nll_TS"].mean()
            lengths.plot(means.index, means, color=names.LOSSES[loss].style.color, marker=marker, ms=4.5, lw=1.1)
        full = table[(table["network"] == network) & (table["loss"] == BASE) & (table["length"] == FULL)]
        for agreeing, share in SHARES.items():
            mean, low, high = t_interval(share + full.groupby("block")[f"unwarranted_{agreeing}"].mean().to_numpy())
            certainty.plot([agreeing + place] * 2, [low, high], color=INK, lw=1)
            certainty.plot(agreeing + place, mean, marker=marker, ms=5.5, color=names.LOSSES[BASE].style.color)
    oracle = pd.read_csv(ORACLE).mean()
    for agreeing, share in SHARES.items():
        ends = agreeing - 0.35, agreeing + 0.35
        certainty.hlines(share, *ends, color=INK, lw=2.5)
        certainty.hlines(share + oracle[f"unwarranted_{agreeing}"], *ends, color=INK, lw=1.3, ls=":")
    lengths.set(
        xlabel="epochs, in % of those that fit all labels",
        ylabel="NLL of people's labels after TS\n(nats; lower is better)",
    )
    lengths.set_xticks([10, 25, 50, 100])
    lengths.set_title("New images: stopping earlier helps")
    certainty.set(xlabel="other people who give the label trained on", ylabel="confidence in that label after TS")
    certainty.set_xticks([*SHARES], AGREEING)
    certainty.set_yticks([0, 0.25, 0.5, 0.75, 1])
    certainty.set_title("Training images (cross-entropy that fits all labels)")
    keys = [artists.key(labels.loss_label(loss), names.LOSSES[loss].style.color, lw=1.5) for loss in (BASE, MIXED)]
    keys += [artists.key(labels.model_label(name), INK, marker=marker, ls="") for name, marker in NETWORKS.items()]
    below: dict[str, Any] = {"xytext": (0, -4), "textcoords": "offset points", "ha": "right", "va": "top"}
    certainty.annotate("share of the two people", (2.35, 1), **below)
    certainty.annotate("what the class alone predicts", (2.35, 1 + oracle["unwarranted_2"]), **below)
    figure.legend(handles=keys, loc="outside lower center", ncols=5, columnspacing=1.2)
    figure.suptitle(TITLE, size=9.5, weight="bold")
    return figure
