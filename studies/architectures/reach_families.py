"""Show how far certainty and decisions reach in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import table_views
from halobench.reporting.answers.answer import base_label, with_base
from halobench.reporting.answers.reach import reach
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS
from studies.architectures import forest

SHORT = "Reach, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
Median distances around training samples, relative to the distance to the nearest training point of another label, at
which the confidence falls to the level of certainty. An attack finds an upper bound. Each family of networks has its
mean over seeds with a 95% t interval. Only models that interpolate when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "How far does certainty reach? By family of networks"
AXIS = "distance / distance to nearest other label"
WAYS = {"sphere": "random direction", "adversarial": "worst direction"}


@styled
def draw(radii: pd.DataFrame, runs: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Draw a panel per data set and direction, below the take-away of the answer on certainty."""
    note, title = "Before calibration", reach(radii, runs, metrics).takeaway or TITLE
    return forest.draw_forest(title, note, AXIS, _effects(radii, runs), runs)


def _effects(radii: pd.DataFrame, runs: pd.DataFrame) -> forest.Effects:
    rows = table_views.by_kind(radii)
    rows = rows[(rows["points"] == "train") & (rows["calibrator"] == "none")]
    if rows.empty:
        return {}
    named = base_label(with_base(rows).set_index("base"))
    effects: dict[str, pd.Series] = {}
    for probe, way in WAYS.items():
        chosen = rows[(rows["probe"] == probe) & (rows["quantity"] == "certainty")]
        medians = forest.fitted(chosen.set_index(KEYS)[["relative_median"]], runs, "")["relative_median"]
        effects[f"Certainty, {way}\n{named}"] = medians
    return {heading: values for heading, values in effects.items() if values.notna().any()}
