"""Answer in one figure: what can a temperature repair?"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.answers.temperature import temperature
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.style import styled

SHORT = "What can a temperature repair?"
CATEGORY = "1 Answers"
CAPTION = """\
The figure shows the test NLL (in nats) minus the known posterior's NLL (if no posterior is known, simply the NLL) for
each pair of data set and model. The dots of a row show the model uncalibrated, at the temperature that the paper's code
fits, and at the optimal temperature. If Mixup has its own rows, each row in bold is for cross-entropy (in a pair
without it, the first loss), and the rows below it are for Mixup. A heading in italics says what the pairs below it have
in common. If the posterior is known, predictions at 0 would equal it.
"""


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row of joined dots per data set, model and loss."""
    return answer_page(temperature(metrics, runs))
