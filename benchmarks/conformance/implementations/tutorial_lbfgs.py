"""The loop that many tutorials describe: LBFGS on T from 1.5, rate .01, 50 iterations."""

import torch

TITLE = "loop: LBFGS on T"
REQUIRES = ()
SUPPORTS = ("soft targets",)


def fit(logits, targets):
    z, y = torch.from_numpy(logits), torch.from_numpy(targets)
    T = torch.nn.Parameter(torch.tensor([1.5]))
    optimiser = torch.optim.LBFGS([T], lr=0.01, max_iter=50)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / T, y)
        loss.backward()
        return loss

    optimiser.step(closure)
    return T.item()
