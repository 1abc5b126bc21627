"""Another common loop: Adam on log T from 0, rate .01, 200 steps."""

import torch

TITLE = "loop: Adam on log T"
REQUIRES = ()
SUPPORTS = ("soft targets",)


def fit(logits, targets):
    z, y = torch.from_numpy(logits), torch.from_numpy(targets)
    log_T = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.Adam([log_T], lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(z / log_T.exp(), y).backward()
        optimiser.step()
    return log_T.exp().item()
