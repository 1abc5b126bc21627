"""Answer in one figure: how far does certainty reach around training samples?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.answers.reach import reach
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.style import styled

SHORT = "How far does certainty reach?"
CATEGORY = "1 Answers"
CAPTION = """\
For each pair of data set and model, the figure shows the median distances from training points at which certainty ends
and the decision changes. Distances are in % of the distance to the nearest training point with another label. Hollow
squares show where certainty ends in the worst direction probed after TS (optimal). At the default threshold, a
temperature above 1 never makes certainty reach farther. No positive temperature affects the distance at which the
decision changes (diamonds). In random directions, MLPs have a colour of their own if there are other networks and each
network's kind is known. The amber bars begin where certainty would end in random directions if each other class had a
flat boundary at the distance that the attack found; with fewer boundaries, certainty would reach farther. The number of
input dimensions alone can explain a dot within a bar.
"""
SHOWS = ("sphere", "manifold", "mixup_line", "nearest_other", "adversarial")


@styled
def draw(radii: pd.DataFrame, runs: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Draw the answer with a row per data set and model."""
    return answer_page(reach(radii, runs, metrics))
