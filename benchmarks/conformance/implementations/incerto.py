"""`incerto.calibration.TemperatureScaling` as its README uses it: T from 1, LBFGS with rate .01, 50 iterations."""

import torch
from incerto.calibration import TemperatureScaling

REQUIRES = ("incerto==0.1.1", "torch")
UPSTREAM = "https://github.com/steverab/incerto"
ADVICE = "pass float64 logits, and `fit(..., lr=0.1, max_iters=200)`; check that T isn't 1e-4."


def fit(logits, labels):
    calibrator = TemperatureScaling().fit(torch.from_numpy(logits), torch.from_numpy(labels))
    return calibrator.temperature.clamp(min=1e-4).item()  # as it is applied
