"""Show mean label confidence against distance in normalised inputs, as in the first version of the paper.

Logit gaps, which are more informative where confidence is 1, are in ``logit_gaps``.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.confidence_curves import draw_confidence
from halobench.reporting.plotting.style import styled

TITLE = "Confidence by distance in inputs"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The figure from the first version of the paper. It shows the mean softmax confidence in a point's own label, that is,
the label used in training, against the distance from the point in random directions. There is a panel for each data
set and model, and a line for each loss. Distances are measured in normalised inputs: each pixel is normalised by the
mean and standard deviation of its channel, and each feature by those of its own values. Solid lines are for training
points, and dashed lines are for held-out points, which serve as the control. Distances can be compared only within a
data set, since the same distance means different things in different data sets. In many dimensions a random direction
is nearly orthogonal to every direction that matters. A curve that is flat here therefore needn't be flat in other
directions, so compare it with the other probes. Bands are 95% t intervals over seeds, clipped to the range from 0 to
1.
"""


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and a column per model; see `draw_confidence`."""
    return draw_confidence(neighbourhood, "Confidence in a point's own label by distance from it", "absolute")
