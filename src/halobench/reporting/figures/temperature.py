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
For each pair of data set and model, the figure shows the test NLL (in nats) minus the known posterior's NLL or, if no
posterior is known, the NLL itself. The dots of a row show the model uncalibrated, at the temperature that the paper's
code fits, and at the optimal temperature. If Mixup has rows of its own, they are below a row in bold for the same pair.
The bold row is for cross-entropy or, in a pair without cross-entropy, the first loss. A heading in italics says what
the pairs below it have in common. If the posterior is known, predictions at 0 would equal the posterior.
"""


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw the answer with a row of joined dots per data set, model and loss."""
    return answer_page(temperature(metrics, runs))
