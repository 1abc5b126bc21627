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
Test NLL (in nats) minus that of the known posterior (if no posterior is known, simply the NLL), per data set, model and
loss: uncalibrated, with the temperature that the paper's code fits, and with the optimal one. Rows in bold are for
cross-entropy, and the rows below them for Mixup; headings in italics say what pairs have in common. At 0, predictions
would equal the posterior.
"""


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row of joined dots per data set, model and loss."""
    return answer_page(temperature(metrics, runs))
