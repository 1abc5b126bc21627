"""A loop with settings that work: LBFGS with a line search on log T, in float64, on logits scaled to a spread of 1."""

import torch

TITLE = "loop: LBFGS, mended"
REQUIRES = ()
SUPPORTS = ("soft targets",)


def fit(logits, targets):
    z, y = torch.from_numpy(logits).double(), torch.from_numpy(targets)
    z = z - z.max(dim=1, keepdim=True).values
    unit = -z.mean()
    log_T = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimiser = torch.optim.LBFGS(
        [log_T], max_iter=100, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / unit / log_T.exp(), y)
        loss.backward()
        return loss

    optimiser.step(closure)
    return (log_T.exp() * unit).item()
