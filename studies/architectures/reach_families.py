"""Show how far certainty and decisions reach in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import base_label, mixup_losses, with_base
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS
from studies.architectures import forest

SHORT = "Reach, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
Median distances around training samples, relative to the distance to the nearest training point of another label, at
which the confidence falls to the level of certainty, and at which the decision changes, which no temperature alters. An
attack finds an upper bound. Each family of networks has its mean over seeds with a 95% t interval. Only models that
interpolate when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "How far does certainty reach? By family of networks"
AXIS = "distance / distance to nearest other label"
WAYS = {"sphere": "random direction", "adversarial": "worst direction", "nearest_other": "to other label"}


@styled
def draw(radii: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set for certainty in each way, and for decisions with the base loss minus with Mixup."""
    note = "Of differences to the right of 0, the first named reaches farther"
    return forest.draw_forest(TITLE, note, AXIS, _effects(radii, runs), runs)


def _effects(radii: pd.DataFrame, runs: pd.DataFrame) -> forest.Effects:
    rows = table_views.by_kind(radii)
    rows = rows[(rows["points"] == "train") & (rows["calibrator"] == "none")]
    effects: dict[str, pd.Series] = {}

    def medians(probe: str, quantity: str, loss: str) -> pd.Series:
        chosen = rows[(rows["probe"] == probe) & (rows["quantity"] == quantity)]
        return forest.fitted(chosen.set_index(KEYS)[["relative_median"]], runs, loss)["relative_median"]

    if rows.empty:
        return effects
    named = base_label(with_base(rows).set_index("base"))
    for probe in ("sphere", "adversarial"):
        effects[f"Certainty, {WAYS[probe]}\n{named}"] = medians(probe, "certainty", "")
    for loss in sorted(mixup_losses(runs)):
        for probe in ("nearest_other", "adversarial"):
            heading = f"Decision, {WAYS[probe]}\n{named} - {labels.loss_label(loss)}"
            effects[heading] = medians(probe, "decision", "") - medians(probe, "decision", loss)
    return {heading: values for heading, values in effects.items() if values.notna().any()}
