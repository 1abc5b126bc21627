"""Search for the largest balls around samples on which a confidence is proved to be at or above a level."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from halobench.models.piecewise.exact import exact_network
from halobench.models.piecewise.network import Network
from halobench.probing.certify.bounds import Balls, Bounds
from halobench.probing.certify.odds import Odds, contrasts, log_odds
from halobench.probing.checks import check_confidence, check_model

PASSES = 8  # largest number of balls tried per sample
NEAR = 1.02  # a search ends when the smallest failed radius is within this factor of the largest proved one
FIRST_RADIUS = 0.2  # first radius tried, as a fraction of that at which the linearised network loses its confidence
LARGEST_RADIUS = 1e6
HELD = 2**23  # maximum number of elements in a step's forms held at once


def certified_radius(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: np.ndarray,
    level: float = 0.9,
    beta: float = 1.0,
) -> np.ndarray:
    """Return the radius of a ball around each input on which the confidence in its label is proved to be >= `level`.

    The confidence is softmax(beta * logits)[label]. The proof covers the whole L2 ball and allows for float64 rounding.
    Larger balls may have the same property, but none whose radius exceeds the result of `halobench.attacked_radius`.

    Parameters
    ----------
    model : nn.Module
        A model in eval mode with only linear layers, convolutions, batch norm, ReLU, average and max pooling, resizing,
        flatten, addition and dropout.
    inputs : float tensor (n, ...)
        Samples on the model's device, at the centres of the balls.
    labels : int array (n,)
        The labels whose confidences are bounded, in [0, k).
    level : float
        A confidence, above 0 and below 1.
    beta : float
        Positive inverse temperature. If beta is ``math.inf``, the proof is that the label's logit is at least as large
        as any other, whatever the level; the result is then a lower bound on the decision radius.

    Returns
    -------
    float64 array (n,)
        Radii in the units of `inputs`, at most 1e6. A radius is 0 if nothing was proved, e.g. because the confidence at
        the sample itself is below the level.

    Raises
    ------
    SpecError
        If a layer or operation of the model isn't supported (the error names it), the model is in train mode, or an
        argument doesn't match its description.

    References
    ----------
    H. Zhang, T.-W. Weng, P.-Y. Chen, C.-J. Hsieh and L. Daniel, Efficient neural network robustness certification with
    general activation functions, NeurIPS 2018.
    """
    check_confidence(level, beta)
    return certified(model, inputs, check_model(model, inputs, labels), level, beta)


@torch.inference_mode(False)
def certified(
    model: nn.Module,
    inputs: torch.Tensor,
    labels: np.ndarray,
    level: float,
    beta: float,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return certified radii (n,) without checking the arguments; call `tick` before each ball per sample."""
    samples, targets = inputs.detach().cpu().double().clone(), torch.from_numpy(labels)
    network = exact_network(model, samples)
    with torch.no_grad():
        step = max(1, HELD // (samples[0].numel() * max(each.size for each in network.steps)))
        parts = zip(samples.split(step), targets.split(step), strict=True)
        return torch.cat([Search(network, *part, level, beta).run(tick) for part in parts]).numpy()


class Search:
    """A search for the certified radii of some samples, which tries balls around all of them at once.

    The bounds on a ball are linear functions of the input, so they also show on which smaller balls the confidence is
    proved. To choose the next ball, the rise in the log odds against the label at the boundary is modelled as a power
    of the radius.
    """

    def __init__(self, network: Network, samples: torch.Tensor, labels: torch.Tensor, level: float, beta: float):
        self.network, self.samples, self.beta = network, samples, beta
        self.contrasts = contrasts(labels, network.steps[-1].size)
        budget = 0.0 if math.isinf(beta) else math.log((1 - level) / level)
        self.budget = budget - 1e-12 * (1 + abs(budget))  # leaves a margin for the rounding of the budget itself
        with torch.enable_grad():
            inputs = samples.detach().requires_grad_()
            odds = log_odds(torch.einsum("mjk,mk->mj", self.contrasts, network(inputs)), beta)
            slope = torch.autograd.grad(odds.sum(), inputs)[0].flatten(1).norm(dim=1)
        self.start = odds.detach()
        room = self.budget - self.start
        self.radii = (FIRST_RADIUS * room / slope.clamp_min(1e-30)).clamp(1e-9, LARGEST_RADIUS)
        self.proved, self.failed = torch.zeros_like(room), torch.full_like(room, torch.inf)
        self.powers = torch.full_like(room, 2.0)
        self.open = room > 0
        self.previous: tuple[torch.Tensor, torch.Tensor] | None = None  # radii, and the rise in log odds there
        self.bounds: Bounds = {}  # bounds on the smallest ball that failed

    def run(self, tick: Callable[[], None] = lambda: None) -> torch.Tensor:
        """Run the search, and return the radii (m,)."""
        for _ in range(PASSES):
            chosen = self.open.nonzero()[:, 0]
            if not len(chosen):
                break
            tick()
            self._try(chosen)
        return self.proved

    def _try(self, chosen: torch.Tensor) -> None:
        """Bound the network on the current balls of the `chosen` samples (c,), and choose their next balls."""
        radii = self.radii[chosen]
        bounds = {place: (least[chosen], most[chosen]) for place, (least, most) in self.bounds.items()}
        balls = Balls(self.network, self.samples[chosen], radii, bounds)
        odds = Odds(balls, self.contrasts[chosen], self.beta)
        reach = odds.reach(self.budget)
        failed = reach < radii
        self._keep(balls, chosen, failed)
        self.proved[chosen] = torch.maximum(self.proved[chosen], reach)
        self.failed[chosen] = torch.where(failed, torch.minimum(self.failed[chosen], radii), self.failed[chosen])
        self._choose(chosen, (odds.bound(radii) - self.start[chosen]).clamp_min(1e-12))

    def _keep(self, balls: Balls, chosen: torch.Tensor, failed: torch.Tensor) -> None:
        """Keep the bounds on balls on which the proof failed, since the next balls lie inside them."""
        for place, bounds in balls.bounds.items():
            if place not in self.bounds:
                whole = (len(self.samples), bounds[0].shape[1])
                self.bounds[place] = torch.full(whole, -torch.inf).double(), torch.full(whole, torch.inf).double()
            for kept, new in zip(self.bounds[place], bounds, strict=True):
                kept[chosen[failed]] = new[failed]

    def _choose(self, chosen: torch.Tensor, rise: torch.Tensor) -> None:
        """Choose the next radii from the rise in log odds on the current balls; mark searches that are complete."""
        radii, proved, failed = self.radii[chosen], self.proved[chosen], self.failed[chosen]
        if self.previous is not None:
            last_radii, last_rise = (each[chosen] for each in self.previous)
            power = (rise / last_rise).log() / (radii / last_radii).log()
            self.powers[chosen] = power.nan_to_num(2.0, 2.0, 2.0).clamp(1, 6)
        aim = radii * ((self.budget - self.start[chosen]) / rise) ** (1 / self.powers[chosen]) / NEAR**0.5
        ratio = failed / torch.maximum(proved, failed / 32)
        inside = torch.minimum(torch.maximum(aim, failed * ratio**-0.9), failed * ratio**-0.1)
        outside = torch.minimum(torch.maximum(aim, NEAR * radii), 4 * radii)
        self.previous = (self.radii.clone(), self.start + torch.nan)
        self.previous[1][chosen] = rise
        self.radii[chosen] = torch.where(failed.isfinite(), inside, outside).clamp_max(LARGEST_RADIUS)
        self.open[chosen] = (failed > NEAR * proved) & (proved < LARGEST_RADIUS)
