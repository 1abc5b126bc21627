"""Show label confidence against relative distance for each probe."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.confidence_curves import draw_confidence
from halobench.reporting.plotting.style import styled


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and model and a column per probe; see `draw_confidence`."""
    return draw_confidence(neighbourhood, "Confidence in a point's own label on the way out from it", "relative")
