"""Show how close the KL that the two-level formula predicts comes to the KL measured after temperature scaling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from scipy.stats import spearmanr

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import artists, class_families
from halobench.reporting.plotting.panel_grid import PageText, draw_panels, empty_page
from halobench.reporting.plotting.style import FAINT, GREY, styled
from halobench.reporting.styles import loss_styles, model_markers
from halobench.storage.columns import REFERENCE

SHORT = "Predicted and measured KL"
CATEGORY = "5 Theory"
CAPTION = """\
The figure shows the measured KL (in nats) after TS (optimal) against the KL that a formula predicts from the same
model's mean logit gaps on own and shared regions of the test data. Scatter of the logits around their means adds to the
KL, so most points lie above the diagonal. The note gives the median ratio of measured to predicted KL over trained
models.
"""

SHOWS = ("overlap", "image_overlap", "collage")
TITLE = "What temperature scaling leaves, as predicted by a formula and as measured"
CLOSE = "A formula predicts what temperature scaling leaves within a factor of {:.1f}"
RANKED, FACTOR = 0.9, 2.0  # least rank correlation and largest factor of a prediction that is close
LEAST_KL_DRAWN = 1e-4  # nats; a smaller KL is drawn at the border


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw each cell's KL after the optimal TS against the KL of two-level logits with the same mean gaps."""
    measures = {"predicted": ("kl_two_level", "none"), "measured": ("kl", "exact")}
    table = class_families.scores(metrics, runs, measures).dropna(subset=list(measures))
    table = table[table["loss"] != REFERENCE]
    if table.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    styles, markers = loss_styles(table_views.losses_in(table)), model_markers(table["model"])
    keys = artists.model_keys(markers) + artists.loss_keys(styles, marker="o", ls="")
    trained = table[table["model"] != "nearest"]
    rank = spearmanr(trained["predicted"], trained["measured"])[0] if len(trained) > 2 else float("nan")
    ratios = trained["measured"].clip(lower=LEAST_KL_DRAWN) / trained["predicted"].clip(lower=LEAST_KL_DRAWN)
    factor = math.ceil(10 * max(ratios.max(), 1 / ratios.min())) / 10 if len(trained) else math.inf
    hollow = "" if table["interpolates"].all() else " Hollow: the model doesn't interpolate."
    note = (
        f"{len(trained)} trained models, Spearman correlation {rank:.3f}; measured KL is {ratios.median():.2f} times "
        "the predicted one (median). The formula's input is three means of the model's logit gaps on test points; on "
        f"the diagonal, it is exact.{hollow}"
    )
    ylabel = f"measured KL after {labels.calibrator_label('exact')} (nats)"
    title = CLOSE.format(factor) if rank >= RANKED and factor <= FACTOR else TITLE
    text = PageText(title, note, keys, "predicted KL (nats)", ylabel)
    figure, axes = draw_panels(text, {("", ""): ""}, (5.4, 4.6))
    ax = axes["", ""]
    shown = table.assign(**{name: table[name].clip(lower=LEAST_KL_DRAWN) for name in measures})
    for (model, loss, full), rows in table_views.groups_of(shown, ["model", "loss", "interpolates"]).items():
        color, marker = styles[loss].color, markers[model]
        look: dict[str, Any] = {"color": color, "mfc": color if full else "white", "marker": marker, "ms": 4}
        ax.plot(rows["predicted"], rows["measured"], ls="", mew=0.8, **look)
    ends = np.array([shown[list(measures)].min().min() / 1.5, shown[list(measures)].max().max() * 1.5])
    ax.plot(ends, ends, color=FAINT, lw=1, zorder=1)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set(major_locator=LogLocator(10, (1, 2, 5)), major_formatter=StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    ax.annotate("exact", (ends[1], ends[1]), (-14, -6), textcoords="offset points", ha="right", color=GREY)
    return figure
