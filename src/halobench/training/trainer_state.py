"""A training under way: its steps' losses and learning rates, and how it is saved and resumed.

Every random stream is drawn anew for each epoch from (seed, epoch), on the host, so that an epoch's numbers depend on
nothing but the weights before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from halobench.core.seeding import generator, seed_libraries, torch_seed
from halobench.core.specs import TrainSpec
from halobench.training.checkpoint import (
    Checkpoint,
    capture,
    fingerprint,
    random_states,
    restore,
    restore_random_states,
)


class DivergedError(RuntimeError):
    """A loss or logit that is not finite; the message says where."""


def learning_rate(step: int, steps_per_epoch: int, spec: TrainSpec) -> float:
    """The rate of step `step` (from 0): a linear warm-up, then constant or half a cosine that ends at 0."""
    warmup, total = spec.warmup * steps_per_epoch, spec.epochs * steps_per_epoch
    if step < warmup:
        return spec.lr * (step + 1) / warmup
    if spec.schedule == "constant":
        return spec.lr
    return spec.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class Run:
    """A training under way: how far it is, what it has seen, and how it is saved and resumed.

    Attributes
    ----------
    epoch, step : int
        Finished epochs, and finished steps of the epoch under way.
    history : list of dict
        A row per finished epoch.
    losses, norms : float tensor (steps_per_epoch,)
        Loss of each step of the epoch under way; norm of its gradient, NaN where it wasn't measured.
    resumed_at : list of [epoch, step]
        Where earlier processes had come to.
    earlier_seconds, seconds : float
        Time spent by them, and in all.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        spec: TrainSpec,
        steps_per_epoch: int,
        device: torch.device,
        checkpoint: Checkpoint | None = None,
        loss: Any = None,
    ):
        self.loss, self._loss_before = loss, fingerprint(loss)
        self.model, self.spec, self.device = model, spec, device
        self.optimizer: Any = optimizer  # None where nothing is trained: no step is taken there
        self.steps_per_epoch, self.checkpoint = steps_per_epoch, checkpoint
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.losses = torch.zeros(steps_per_epoch, device=device)
        # The losses' own memory on the CPU, where a number is written to it in a tenth of the time.
        self._seen: Any = self.losses.numpy() if device.type == "cpu" else None
        self.norms = torch.full((steps_per_epoch,), math.nan, device=device)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._gradients: list[torch.Tensor] = []
        self.resumed_at: list[list[int]] = []
        self.earlier_seconds, self._began = 0.0, time.perf_counter()
        self._saved_random: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None

    @property
    def reads_at_once(self) -> bool:
        """Whether reading a number from the device is free of waiting."""
        return self.device.type == "cpu"

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self._began

    @property
    def place(self) -> str:
        """Where it is, in words."""
        if self.epoch == self.spec.epochs:
            return f"the end of epoch {self.epoch} of {self.epoch}"
        return f"epoch {self.epoch + 1} of {self.spec.epochs}, step {self.step} of {self.steps_per_epoch}"

    def resume(self, log: Callable[[str], None]) -> None:
        """Go to where the checkpoint was saved, if there is one."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        tensors, facts = saved
        restore(tensors, self.model, self.optimizer)
        self.losses.copy_(tensors["losses"])
        self.norms.copy_(tensors["norms"])
        self.epoch, self.step, self.history = facts["epoch"], facts["step"], facts["history"]
        self.resumed_at = [*facts["resumed_at"], [self.epoch, self.step]]
        self.earlier_seconds = facts["seconds"]
        self._saved_random = (tensors, facts["random"]) if self.step else None
        log(f"resuming at {self.place}")

    def start_epoch(self, seed: int, count: int) -> tuple[np.random.Generator, np.ndarray]:
        """The epoch's generator, and its order of `count` points; both as they were if the epoch is resumed."""
        rng = generator(seed, "epoch", self.epoch)
        seed_libraries(torch_seed(seed, "epoch-torch", self.epoch))
        order = rng.permutation(count)
        if self._saved_random is not None:
            restore_random_states(*self._saved_random, rng, self.device)
            self._saved_random = None
        return rng, order

    def rate(self, step: int) -> float:
        """The learning rate of a step of the epoch under way."""
        return learning_rate(self.epoch * self.steps_per_epoch + step, self.steps_per_epoch, self.spec)

    def set_rate(self) -> None:
        """Set the coming step's learning rate."""
        rate = self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def forget_gradients(self) -> None:
        """Leave the coming step's gradients to be made anew."""
        for parameter in self.parameters:
            parameter.grad = None

    def watch(self, value: torch.Tensor) -> None:
        """Note a step's loss before the optimiser takes it, and its gradient's norm where the epoch ends.

        Reading a number costs nothing on the CPU, so it is looked at there and then. On another device it would make
        the host wait: losses and norms stay there until the epoch ends.
        """
        finite = True
        if self.reads_at_once:
            self._seen[self.step] = number = value.item()
            finite = math.isfinite(number)
        else:
            self.losses[self.step] = value.detach()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not self.reads_at_once or not finite or self.step == self.steps_per_epoch - 1:
            self.norms[self.step] = norm(gradients)
        if not finite:
            if self.step and self._gradients:
                self.norms[self.step - 1] = norm(self._gradients)
            self.check(self.step)
        if self.reads_at_once:  # kept, not copied, so that their norm can be told should the next step go wrong
            self._gradients = gradients

    def check(self, last: int) -> None:
        """Raise DivergedError if a loss of the epoch under way, up to step `last`, is not finite."""
        losses = self.losses[: last + 1].cpu()
        bad = ~torch.isfinite(losses)
        if not bad.any():
            return
        step = int(bad.int().argmax())
        before = self.norms[step - 1].item() if step else math.nan
        if not step and self.history:
            before = self.history[-1]["gradient_norm"]
        told = "" if math.isnan(before) else f" ({before:.3g} one step before)"
        raise DivergedError(
            f"loss is {losses[step]:.3g} in epoch {self.epoch + 1} of {self.spec.epochs},"
            f" step {step + 1} of {self.steps_per_epoch}, learning rate {self.rate(step):.3g},"
            f" gradient norm {self.norms[step]:.3g}{told}"
        )

    def end_epoch(self) -> str:
        """Add the epoch to the history and go on to the next; the line for the log."""
        self.check(self.steps_per_epoch - 1)
        rate = self.rate(self.steps_per_epoch - 1)
        mean, norm = self.losses.double().mean().item(), self.norms[-1].item()
        self.epoch, self.step = self.epoch + 1, 0
        done = {"epoch": self.epoch, "step": self.epoch * self.steps_per_epoch}
        self.history.append({**done, "lr": rate, "train_loss": mean, "gradient_norm": norm})
        left = self.seconds / self.epoch * (self.spec.epochs - self.epoch)
        return f"epoch {self.epoch}/{self.spec.epochs}  loss {mean:.4f}  lr {rate:.2e}  {left:.0f} s left"

    def save(self, rng: np.random.Generator) -> None:
        """Save to the checkpoint between two steps, unless the loss has come to hold a state that would be lost."""
        self.check(self.step - 1)
        if self.checkpoint is None:
            return
        if fingerprint(self.loss) != self._loss_before:
            kind = type(self.loss).__qualname__
            self.checkpoint.pass_over(f"the loss {kind} keeps a state between batches, which isn't in a resume point")
            return
        tensors, state = random_states(rng, self.device)
        self._write(self.checkpoint, tensors, {"random": state})

    def save_if_asked(self) -> None:
        """Save after the last epoch, if a signal has come: logits are predicted again on resuming."""
        if self.checkpoint is not None and self.checkpoint.signals.received is not None:
            self._write(self.checkpoint, {}, {})

    def _write(self, checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        tensors = {**capture(self.model, self.optimizer), "losses": self.losses, "norms": self.norms, **tensors}
        facts |= {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self.seconds}
        checkpoint.save(tensors, {"random": None, **facts, "resumed_at": self.resumed_at}, self.place)


def norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Euclidean norm of all gradients together, a number on their device."""
    # One kernel for all of them, where torch.nn.utils would need torch 2.6.
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
