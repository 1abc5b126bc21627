"""Lightning-UQ-Box's TempScaling: what it runs at the end of its epoch, with its defaults, on logits."""

from functools import partial

import torch
from lightning_uq_box.uq_methods import TempScaling
from lightning_uq_box.uq_methods.temp_scaling import run_temperature_optimization

TITLE = "Lightning-UQ-Box"
REQUIRES = ("lightning-uq-box==0.2.0", "torch<2.14")
UPSTREAM = "https://github.com/lightning-uq-box/lightning-uq-box"
ADVICE = 'a loop of `torch.optim.LBFGS([T], max_iter=100, line_search_fn="strong_wolfe")` on float64 logits.'


def fit(logits, labels):
    scaling = TempScaling(torch.nn.Linear(logits.shape[1], logits.shape[1]))
    optimiser = partial(torch.optim.LBFGS, lr=scaling.optim_lr, max_iter=scaling.max_iter)
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    return run_temperature_optimization(z, y, scaling.criterion, scaling.temperature, optimiser).item()
