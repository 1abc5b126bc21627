"""`bensemble.calibration.scaling.TemperatureScaling` as its README uses it: T from 1.5, PyTorch's LBFGS, rate .01."""

import torch
from bensemble.calibration.scaling import TemperatureScaling

REQUIRES = ("bensemble==0.2.2", "torch")
UPSTREAM = "https://github.com/intsystems/bensemble"


def fit(logits, labels):
    scaler = TemperatureScaling(init_temp=1.5).fit(torch.from_numpy(logits), torch.from_numpy(labels))
    return scaler.temperature.item()
