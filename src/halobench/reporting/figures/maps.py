"""Answer in one figure: which maps of the logits remove the excess NLL that a temperature leaves?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.answers.maps import maps
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.style import styled

SHORT = "What can repair the rest?"
CATEGORY = "1 Answers"
CAPTION = """\
For each pair of data set and model, the figure shows the test NLL (in nats) after each of up to five maps of the
logits, minus the NLL at the optimal temperature. Lines are 95% t intervals over seeds. To the left of 0, the NLL is
lower with the map than at the optimal temperature. A row's black tick marks the most that any map could gain: the NLL
at the optimal temperature, minus the posterior's NLL if the posterior is known.
"""
BEYOND = ("none", "paper", "exact", "oracle")  # the figure is drawn if there are calibrators other than these


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row per data set and model."""
    return answer_page(maps(metrics, runs))
