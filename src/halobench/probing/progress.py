"""Track the progress of a probe: its completed chunks of samples, and the generator's state after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from halobench.training.checkpoint import Checkpoint

CHANGES_NUMBERS = False  # see `halobench.experiment.code_version`
Arrays = dict[str, np.ndarray]


class Progress:
    """The progress of all probes of a cell, in one checkpoint, which is saved between chunks when it is due."""

    def __init__(self, checkpoint: Checkpoint | None = None, log: Callable[[str], None] = print):
        self.checkpoint, self.log = checkpoint, log
        self.arrays: dict[str, Arrays] = {}
        self.states: dict[str, Any] = {}
        saved = checkpoint.load() if checkpoint else None
        if saved is not None:
            tensors, facts = saved
            self.states = facts["states"]
            for name, tensor in tensors.items():
                probe, _, array = name.rpartition(".")
                self.arrays.setdefault(probe, {})[array] = tensor.numpy()
            log(f"resuming after {self.place}")

    @property
    def place(self) -> str:
        """Return the number of points that each probe has completed, in words."""
        done = [f"{Chunks(self, name).done} points of {name}" for name in self.arrays]
        return ", ".join(done) or "0 points"

    def chunks(self, name: str) -> Chunks:
        """Return the chunks of one probe."""
        return Chunks(self, name)

    def save_if_due(self) -> None:
        """Save the checkpoint if it is due; raise Interrupted if a signal has arrived."""
        if self.checkpoint is not None and self.checkpoint.due():
            tensors = {
                f"{p}.{key}": torch.from_numpy(a) for p, arrays in self.arrays.items() for key, a in arrays.items()
            }
            self.checkpoint.save(tensors, {"states": self.states}, self.place)

    def save_if_signalled(self) -> None:
        """If a signal has arrived, save the completed chunks, but not the current one, and raise Interrupted."""
        if self.checkpoint is not None and self.checkpoint.signals.received is not None:
            self.save_if_due()


class Chunks:
    """The results of one probe so far, as arrays with samples along the first axis."""

    def __init__(self, progress: Progress, name: str):
        self.progress, self.name = progress, name

    @property
    def done(self) -> int:
        """Return the number of completed samples."""
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    @property
    def arrays(self) -> Arrays:
        """Return the arrays for all completed samples."""
        return self.progress.arrays.get(self.name, {})

    def resume(self, rng: np.random.Generator) -> int:
        """Restore `rng` to its state after the completed chunks; return the number of completed samples."""
        if self.name in self.progress.states:
            rng.bit_generator.state = self.progress.states[self.name]
        return self.done

    def add(self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> None:
        """Append a chunk, and save the checkpoint if it is due."""
        done = self.arrays
        joined = {key: np.concatenate([done[key], new]) if done else new for key, new in arrays.items()}
        self.progress.arrays[self.name] = joined
        self.progress.states[self.name] = rng.bit_generator.state
        self.progress.save_if_due()
