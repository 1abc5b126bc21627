"""torch-uncertainty's TemperatureScaler with its defaults, on a data loader of logits and labels."""

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch_uncertainty.post_processing import TemperatureScaler

TITLE = "torch-uncertainty"
REQUIRES = ("torch-uncertainty[cpu]==0.13.0", "scikit-learn", "torch<2.14")  # can't be imported without scikit-learn
UPSTREAM = "https://github.com/ENSTA-U2IS-AI/torch-uncertainty"
NOTE = (
    "If T is below 0, it logs an error, as its docstring says, so such fits count as failed, not as wrong. Fits with a "
    "positive T far from the optimum log none."
)
ADVICE = "divide the logits by their standard deviation before the fit, and multiply T by it."


def fit(logits, labels):
    samples = TensorDataset(torch.from_numpy(logits), torch.from_numpy(labels))
    scaler = TemperatureScaler()
    scaler.fit(DataLoader(samples, batch_size=10_000), progress=False)
    return scaler.temperature[0].item()
