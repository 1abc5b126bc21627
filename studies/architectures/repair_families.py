"""Show what temperature scaling leaves, and what richer maps repair, in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels
from halobench.reporting.answers.maps import maps
from halobench.reporting.plotting.style import styled
from studies.architectures import forest

SHORT = "Repair, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
What TS (optimal) leaves of the test NLL above that of the known posterior (of the NLL itself, if no posterior is
known), and how partner scaling changes it. Each family of networks has its mean over seeds with a 95% t interval. Only
models that interpolate when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "What does a temperature leave, and what can repair the rest? By family of networks"
MAP = "partner"


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set for what TS leaves and for partner scaling, below the answer's take-away."""
    note, title = "To the left of 0, partner scaling has the lower NLL", maps(metrics, runs).takeaway or TITLE
    return forest.draw_forest(title, note, "test NLL (nats)", _effects(metrics, runs), runs)


def _effects(metrics: pd.DataFrame, runs: pd.DataFrame) -> forest.Effects:
    _, base, named = forest.scored(metrics, runs)
    if base.empty:
        return {}
    effects = {f"TS leaves\n({named})": base["exact"].dropna()}
    if MAP in base:
        effects[f"{labels.calibrator_label(MAP)}\nagainst TS ({named})"] = (base[MAP] - base["exact"]).dropna()
    return effects
