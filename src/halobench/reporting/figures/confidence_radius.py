"""Show mean label confidence against distance in normalised inputs, as in the first version of the paper.

Logit gaps, which are more informative where confidence is 1, are in ``logit_gaps``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.confidence_curves import draw_confidence
from halobench.reporting.plotting.style import styled


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and a column per model; see `draw_confidence`."""
    return draw_confidence(neighbourhood, "Confidence in a point's own label by distance from it", "absolute")
