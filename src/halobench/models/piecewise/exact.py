"""Convert a model to a float64 network, and check the network against the model."""

from __future__ import annotations

import copy

import torch
from torch import nn

from halobench.core.errors import Interrupted, refuse
from halobench.models.piecewise.layers import network_of
from halobench.models.piecewise.network import Network

TRIED = 8  # number of samples at which both networks are evaluated
AWAY = (0.0, 1.0, -1e6, 1e6)  # how far from the samples, in units of their largest number or, if that is larger, of 1
TOLERANCE = 1e-8


def exact_network(model: nn.Module, samples: torch.Tensor) -> Network:
    """Return a model as a float64 `Network`; raise SpecError if they differ at or away from the first few `samples`.

    The samples (n, ...) are float64. The comparison reveals what the layers alone don't: hooks, a replaced `forward`,
    or `h += x`, which torch.fx traces as `h + x`.
    """
    model = copy.deepcopy(model).to(samples.device, torch.float64)
    network, first = network_of(model, samples.shape[1:]), samples[:TRIED]
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(first.device)
    size = first.abs().amax().clamp_min(1)
    with torch.no_grad():
        places = torch.cat([first + away * size * noise for away in AWAY])
        try:
            ours, theirs = network(places), model(places)  # the model may change `places`
            largest = 1 + theirs.abs().amax(dim=1, keepdim=True)
            same = ours.shape == theirs.shape and bool(((ours - theirs).abs() <= TOLERANCE * largest).all())
        except (Interrupted, torch.OutOfMemoryError):
            raise
        except RuntimeError:  # raised by a hook or a replaced `forward` that accepts only float32
            same = False
    refuse(
        not same,
        "model",
        f"{type(model).__name__} doesn't compute what its layers define; remove hooks and replaced methods",
    )
    return network
