"""Show mean label confidence against distance in normalised inputs, as in the first version of the paper.

The figure ``logit_gaps`` shows logit gaps, which are more informative where the confidence is 1.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.absolute_curves import draw_absolute
from halobench.reporting.plotting.style import styled

TITLE = "Confidence by distance in inputs"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
The figure from the first version of the paper: mean softmax confidence in a point's training label, against the
distance in random directions. Distances are in normalised inputs, so they can be compared only within a data set. A
curve that is flat here needn't be flat in other directions: in many dimensions a random direction is nearly orthogonal
to every direction that matters.
"""


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and a column per model; see `draw_absolute`."""
    return draw_absolute(neighbourhood, "Confidence in a point's own label by distance from it", "confidence")
