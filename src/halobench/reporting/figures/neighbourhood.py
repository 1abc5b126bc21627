"""Show label confidence against relative distance for each probe."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting.plotting.confidence_curves import draw_confidence
from halobench.reporting.plotting.style import styled

TITLE = "Confidence by distance, relative"
CATEGORY = "2 Neighbourhoods"
CAPTION = """\
Mean softmax confidence in a point's training label by relative distance, with a column for each probe. A distance of 1
is the distance to the nearest training point with a different label. Under label noise the training label is often
wrong. Mixup trains on points between training points, so probes that walk towards other points favour it; only
principal components favour no loss. Dashed lines, around held-out points, start at a height that shows how well the
model generalises. All models and losses of a seed share points and directions, so differences between lines are known
more precisely than each band suggests.
"""


@styled
def draw(neighbourhood: pd.DataFrame) -> Figure:
    """Draw a row per data set and model and a column per probe; see `draw_confidence`."""
    return draw_confidence(neighbourhood, "Confidence in a point's own label on the way out from it", "relative")
