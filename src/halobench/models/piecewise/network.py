"""Represent networks as lists of affine maps, sums and rectifiers, in float64.

Max pooling is also expressed by rectifiers: max(a, b) = b + relu(a - b) is applied pairwise over a window, along
its width first. The difference between two pixels can have far tighter bounds than the pixels themselves, since their
common part cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from halobench.models.piecewise import maps


@dataclass(frozen=True)
class Step:
    """One step of a network."""

    kind: Literal["input", "affine", "relu", "add"]
    sources: tuple[int, ...]  # indices of the steps that it reads
    shape: tuple[int, ...]  # of its output for one sample
    affine: maps.Affine | None = None  # of an affine step

    @property
    def size(self) -> int:
        """Return the number of outputs per sample."""
        return math.prod(self.shape)


class Network:
    """A network as a list of steps in the order of computation, from the input to the logits."""

    def __init__(self, shape: Sequence[int], device: torch.device):
        self.steps, self.device = [Step("input", (), tuple(shape))], device

    def append(self, kind: Literal["affine", "relu", "add"], *sources: int, affine: maps.Affine | None = None) -> int:
        """Append a step; return its index."""
        shape = self.steps[sources[0]].shape
        if affine is not None:
            shape = tuple(affine(torch.zeros(1, *shape, dtype=torch.float64, device=self.device)).shape[1:])
        self.steps.append(Step(kind, sources, shape, affine))
        return len(self.steps) - 1

    def maximum(self, source: int, axis: int, size: int, stride: int) -> int:
        """Append a maximum over windows of `size` along an axis, `stride` apart; return the index of its last step."""
        shape = self.steps[source].shape
        count = (shape[axis] - size) // stride + 1

        def taps(weights: dict[int, int]) -> int:
            return self.append("affine", source, affine=maps.taps(shape, axis, count, stride, weights))

        best = taps({0: 1})
        for offset in range(1, size):
            if offset == 1:  # here, the difference is a single affine map of the source, so there is less to bound
                gap = taps({0: -1, 1: 1})
            else:
                gap = self.append("add", taps({offset: 1}), self.append("affine", best, affine=maps.NEGATIVE))
            best = self.append("add", self.append("relu", gap), best)
        return best

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, k) for float64 samples (n, ...)."""
        values = [inputs]
        for step in self.steps[1:]:
            first = values[step.sources[0]]
            if step.affine is not None:
                values.append(step.affine(first))
            else:
                values.append(first.clamp_min(0) if step.kind == "relu" else first + values[step.sources[1]])
        return values[-1]
