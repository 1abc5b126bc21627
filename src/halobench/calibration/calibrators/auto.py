"""Choose the candidate with the largest out-of-fold gain over a shrunk temperature, or keep that if no gain is clear.

See `halobench.calibration.repair.auto` for the rule and the references.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Candidates are found by name; these imports only make their code part of this calibrator's code version.
from halobench.calibration.adaptors import netcal, probmetrics  # noqa: F401
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrators import matrix, partner, top_rest  # noqa: F401
from halobench.calibration.repair.auto import OWN, check_candidates, fit_auto_checked

TITLE = "auto"
ABOUT = "the calibrator that cross-fitting on validation samples chooses, or a shrunk temperature if none gains clearly"
SOURCE = (
    "halobench, based on L. Breiman et al., *Classification and Regression Trees*, 1984, and on M. van der Laan, E. "
    "Polley and A. Hubbard, *Super Learner*, 2007"
)
ORDER = 20
STYLE = ("#1F4E9E", "P")

LIBRARIES = ("scipy",)


def fit(logits: np.ndarray, labels: np.ndarray, *, candidates: Sequence[str] = OWN) -> Calibrator:
    """Choose between a temperature and `candidates`, and return the chosen fit, which is finite even on separable data.

    The default candidates don't depend on what is installed, unlike those of `halobench.fit_auto`.
    """
    return fit_auto_checked(logits, labels, check_candidates(candidates)).calibrator
