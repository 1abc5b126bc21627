"""Combine the answers to the four questions on one page."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.answers.answers import answers
from halobench.reporting.plotting.answer_panels import answers_page
from halobench.reporting.plotting.style import styled

SHORT = "The four questions on one page"
CATEGORY = "1 Answers"
CAPTION = """\
The figure sums up the experiment on one page. It shows how far certainty reaches around training points, what a
temperature repairs, whether training with Mixup (or, without it, another loss) does better than a temperature, and what
can repair the rest. Each panel is also a figure of its own, whose caption explains it.
"""


@styled
def draw(radii: pd.DataFrame, metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per question that the experiment answers."""
    return answers_page(answers({"radii": radii, "metrics": metrics, "runs": runs}))
