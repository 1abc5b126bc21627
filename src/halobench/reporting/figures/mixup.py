"""Answer in one figure: does Mixup, or another loss, avoid the excess NLL that a temperature can't remove?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.answers.mixup import mixup
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.style import styled

SHORT = "Does Mixup do better?"
CATEGORY = "1 Answers"
CAPTION = """\
For each pair of data set and model, the figure shows the test NLL (in nats) of up to four losses, uncalibrated, minus
the NLL of cross-entropy at the optimal temperature. In a pair without cross-entropy, the first loss takes its place.
Lines are 95% t intervals over seeds. To the left of 0, the uncalibrated loss has the lower NLL. MLPs have hollow marks
if there are other networks and each network's kind is known.
"""
LOSSES = 2


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row per data set and model."""
    return answer_page(mixup(metrics, runs))
