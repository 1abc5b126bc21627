"""Define the base class of losses, and build a loss from its spec."""

from __future__ import annotations

import numpy as np
import torch

from halobench.core.errors import Found, RefusedError, refuse, require
from halobench.core.specs.training import LossSpec


class Loss:
    """The interface between a loss and training.

    To use a loss on its own, call ``inputs, targets = loss.mix(inputs, one_hot, rng)`` and then
    ``loss(model(inputs), targets)``.

    A loss should draw all random numbers from `rng` and keep no state between batches, since a new loss is built when
    training resumes. A loss whose attributes change can still be used, but its training isn't checkpointed.

    A loss receives labels (m,) instead of rows of probabilities if its class sets ``LABELS = True``; see
    `takes_labels`.
    """

    def mix(
        self, inputs: torch.Tensor, targets: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the batch (n, ...) and its target rows (n, k), mixed for training; by default, both are unchanged.

        The batch may grow or shrink to any m >= 1 inputs (m, ...), with one row of targets (m, k) for each. Only
        `__call__` reads the targets, and their rows need not sum to 1. For time estimates, ``ROWS = 2`` at the top of
        the loss's file declares that the batch doubles. `rng` draws on the host, so draws are the same on CPU and CUDA.
        """
        return inputs, targets

    def learn_noise(self, transition: np.ndarray) -> None:
        """Receive the data set's P(label = j | clean label = i), float64 (k, k), before training; by default unused."""

    def label_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits (n, k) for labels with their noise, given the model's outputs (n, k).

        Scores and calibrators receive these logits, and probes receive the outputs; by default, the two are the same.
        """
        return logits

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over a batch's rows, a scalar, for logits (m, k) and the targets (m, k) from `mix`."""
        raise NotImplementedError("define __call__(self, logits, targets)")


def takes_labels(loss: Loss) -> bool:
    """Return whether a loss takes labels (m,) as targets, because its own class sets ``LABELS = True``.

    Integer labels needn't be expanded into rows of probabilities, so training steps are faster. Subclasses don't
    inherit ``LABELS``, since they may override `mix` or `__call__`.
    """
    return bool(vars(type(loss)).get("LABELS", False))


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the batch mean of -sum_j targets_j log softmax(logits)_j; `targets` are rows (n, k) or labels (n,)."""
    return torch.nn.functional.cross_entropy(logits, targets)


def build(spec: LossSpec, transition: np.ndarray | None = None) -> Loss:
    """Return the loss that a spec describes, for labels with the noise `transition`; see `Loss.learn_noise`."""
    loss = spec.plugin.load()(**spec.options)
    if isinstance(loss, torch.nn.Module):
        loss = ModuleLoss(loss, spec.name)
    if not isinstance(loss, Loss):
        raise RefusedError("name", f"{spec.name} isn't a loss; name a subclass of halobench.Loss or a torch.nn.Module")
    if transition is not None:
        loss.learn_noise(transition)
    return loss


class ModuleLoss(Loss):
    """A plain torch module used as a loss, which takes logits (n, k) and labels (n,) and returns their mean loss."""

    LABELS = True

    def __init__(self, module: torch.nn.Module, name: str):
        learned = [each for each, _ in module.named_parameters()]
        # No optimiser would train its parameters.
        refuse(learned, "name", f"{name} has trainable parameters ({', '.join(learned)}); make them buffers")
        self.module = module

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.module.to(logits.device)(logits, targets)  # also moves its buffers, e.g. class weights


def staged(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor in memory from which `device` can copy directly (pinned memory for a GPU)."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def send(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on `device`, without making the host wait for a GPU's queue."""
    # The device of a numpy array is a string.
    require(isinstance(device, torch.device), "inputs", Found("an array"), "a tensor, e.g. from torch.from_numpy")
    return staged(array, device).to(device, non_blocking=True)
