"""pytorch-ood's detector TemperatureScaling with its defaults, on logits."""

import torch
from pytorch_ood.detector import TemperatureScaling

TITLE = "pytorch-ood"
REQUIRES = ("pytorch-ood==0.4.0", "torch<2.14")
UPSTREAM = "https://github.com/kkirchheim/pytorch-ood"
NOTE = 'Its docstring says "50 iterations, so the optimum is only approximately reached".'
ADVICE = 'a loop of `torch.optim.LBFGS([T], max_iter=100, line_search_fn="strong_wolfe")` on float64 logits.'


def fit(logits, labels):
    return TemperatureScaling(None).fit_logits(torch.from_numpy(logits), torch.from_numpy(labels)).t.item()
