"""probmetrics' TemperatureScalingCalibrator with its defaults, on logits."""

import torch
from probmetrics.calibrators import TemperatureScalingCalibrator
from probmetrics.distributions import CategoricalLogits

REQUIRES = ("probmetrics==1.3.0", "numba", "torch<2.14")
UPSTREAM = "https://github.com/dholzmueller/probmetrics"
ADVICE = (
    "replace logits of -inf by the lowest finite one minus 1,000; T is searched from 1.1e-7 to 8.9e6, so divide logits "
    "beyond that by their mean gap to the largest of each row, in float64, and multiply T by it."
)


def fit(logits, labels):
    calibrator = TemperatureScalingCalibrator()
    calibrator.fit_torch(CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels))
    return 1 / float(calibrator.invtemp_)
