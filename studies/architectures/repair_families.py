"""Show what temperature scaling leaves, and what richer maps repair, in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels
from halobench.reporting.plotting.style import styled
from studies.architectures import forest

SHORT = "Repair, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
What TS (optimal) leaves of the test NLL above that of the known posterior (of the NLL itself, if no posterior is
known), and how richer maps change it. Each family of networks has its mean over seeds with a 95% t interval. Only
models that interpolate when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "What does a temperature leave, and what can repair the rest? By family of networks"
MAPS = ("partner", "auto", "matrix")


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set for what TS leaves and for each richer map."""
    note = "To the left of 0, the richer map has the lower NLL"
    return forest.draw_forest(TITLE, note, "test NLL (nats)", _effects(metrics, runs), runs)


def _effects(metrics: pd.DataFrame, runs: pd.DataFrame) -> forest.Effects:
    _, base, named = forest.scored(metrics, runs)
    if base.empty:
        return {}
    effects = {f"TS leaves\n({named})": base["exact"].dropna()}
    for fit in (fit for fit in MAPS if fit in base):
        effects[f"{labels.calibrator_label(fit)}\nagainst TS ({named})"] = (base[fit] - base["exact"]).dropna()
    return effects
