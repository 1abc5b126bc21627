"""Compare Mixup with temperature scaling in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels
from halobench.reporting.answers.answer import mixup_losses
from halobench.reporting.answers.mixup import mixup
from halobench.reporting.plotting.style import styled
from studies.architectures import forest

SHORT = "Mixup, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
Test NLL of uncalibrated models trained with Mixup minus that of the base loss with TS. Each family of networks has its
mean over seeds with a 95% t interval. Families also differ in recipe, such as the number of epochs. Only models that
interpolate when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "Does Mixup do better? By family of networks"


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set and form of Mixup, below the take-away of the answer on Mixup."""
    note, title = "At 0, both have the same NLL", mixup(metrics, runs).takeaway or TITLE
    return forest.draw_forest(
        title, note, "difference in test NLL (nats; left: Mixup is better)", _effects(metrics, runs), runs
    )


def _effects(metrics: pd.DataFrame, runs: pd.DataFrame) -> forest.Effects:
    """Return NLL with each form of Mixup, uncalibrated, minus that of the base loss with TS."""
    scores, base, named = forest.scored(metrics, runs)
    if base.empty:
        return {}
    effects: dict[str, pd.Series] = {}
    for loss in sorted(mixup_losses(runs)):
        mixed = forest.fitted(scores, runs, loss)
        if "none" in mixed:
            heading = f"{labels.loss_label(loss)} uncalibrated\nagainst {named} with TS"
            effects[heading] = (mixed["none"] - base["exact"]).dropna()
    return effects
