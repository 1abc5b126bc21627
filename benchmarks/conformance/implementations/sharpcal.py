"""sharpcal's TemperatureScaler with its defaults, on logits."""

import torch
from sharpcal.recal import TemperatureScaler

REQUIRES = ("sharpcal==0.0.2", "torch<2.14")
UPSTREAM = "https://github.com/2014mchidamb/sharp-calibration"
ADVICE = 'a loop of `torch.optim.LBFGS([T], max_iter=100, line_search_fn="strong_wolfe")` on float64 logits.'


def fit(logits, labels):
    scaler = TemperatureScaler()
    scaler.fit(torch.from_numpy(logits), torch.from_numpy(labels))
    return scaler.T.item()
