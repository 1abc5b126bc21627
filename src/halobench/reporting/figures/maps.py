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
Change of the test NLL (in nats) from the optimal temperature to each richer map of the logits, per pair of data set and
model, with 95% t intervals over seeds. To the left of 0, the map has the lower NLL. The black tick marks the most that
any map could gain: the whole excess over the known posterior (if no posterior is known, the whole NLL).
"""
BEYOND = ("none", "paper", "exact", "oracle")  # the figure is drawn if there are calibrators other than these


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row per data set and model."""
    return answer_page(maps(metrics, runs))
