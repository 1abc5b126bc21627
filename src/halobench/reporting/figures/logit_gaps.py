"""Show logit gaps around training samples against Euclidean distance, by data set (the paper's Figure 3)."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.absolute_curves import draw_absolute
from halobench.reporting.plotting.style import styled

SHORT = "Logit gaps"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The paper's Figure 3: the logit gap in random directions around training points, against distance in normalised inputs.
The gap is the label's logit minus the largest other logit; below 0 the decision has changed. Unlike confidence, it
still distinguishes models whose confidence is rounded to 1.
"""


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and a column per model; see `draw_absolute`."""
    return draw_absolute(neighbourhood, "Logit gap against Euclidean distance", "logit_gap")
