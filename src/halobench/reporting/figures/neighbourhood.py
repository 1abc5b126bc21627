"""Show label confidence against relative distance for each probe."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.confidence_curves import draw_confidence
from halobench.reporting.plotting.style import styled

TITLE = "Confidence by distance, relative"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
Mean softmax confidence in a point's own label as the distance from the point grows. There is a row for each data set
and model, and a column for each probe. The label is the one used in training, so under label noise it is often wrong.
Distance is relative: 1 is the distance to the nearest training point with a different label. The probes walk in
random directions (sphere), towards the nearest point with a different label, towards a random point with a different
label, or in random directions within the leading principal components of the training set (manifold). Mixup trains on
points between training points, and therefore on points along the lines of the second and third probes; only the
manifold probe favours no loss. Dashed lines are the control: they show the same walks around held-out points, and
their starting height shows how well the model generalises. Bands are 95% t intervals over seeds, clipped to the range
from 0 to 1. Points and directions are the same for every model and loss of a seed, so differences between lines are
known more precisely than each band suggests. If there are too many panels for a page, those of the data sets with the
most label noise are shown, and the explorer has the others.
"""


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and model and a column per probe; see `draw_confidence`."""
    return draw_confidence(neighbourhood, "Confidence in a point's own label on the way out from it", "relative")
