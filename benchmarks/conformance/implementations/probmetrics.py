"""probmetrics' TemperatureScalingCalibrator with its defaults, on logits."""

import torch
from probmetrics.calibrators import TemperatureScalingCalibrator
from probmetrics.distributions import CategoricalLogits

REQUIRES = ("probmetrics==1.3.0", "numba", "torch<2.14")
UPSTREAM = "https://github.com/dholzmueller/probmetrics"
ADVICE = "replace logits of -inf by a low number such as the lowest finite logit minus 1,000."


def fit(logits, labels):
    calibrator = TemperatureScalingCalibrator()
    calibrator.fit_torch(CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels))
    return 1 / float(calibrator.invtemp_)
