"""How far a probe has come: the chunks of points that are done, and the generator's state after them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from halobench.training.checkpoint import Checkpoint

Arrays = dict[str, np.ndarray]


class Progress:
    """The progress of all probes of a cell, in one checkpoint."""

    def __init__(self, checkpoint: Checkpoint | None = None, log: Callable[[str], None] = print):
        self.checkpoint = checkpoint
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
        """What is done, in words."""
        done = [f"{Chunks(self, name).done} points of {name}" for name in self.arrays]
        return ", ".join(done) or "0 points"

    def of(self, name: str) -> Chunks:
        """The chunks of one probe."""
        return Chunks(self, name)

    def save_if_due(self) -> None:
        """Save to the checkpoint when it is due; raises Interrupted after a signal."""
        if self.checkpoint is not None and self.checkpoint.due():
            tensors = {
                f"{p}.{key}": torch.from_numpy(a) for p, arrays in self.arrays.items() for key, a in arrays.items()
            }
            self.checkpoint.save(tensors, {"states": self.states}, self.place)

    def save_if_asked(self) -> None:
        """Save what is done, without the chunk under way, if a signal has come."""
        if self.checkpoint is not None and self.checkpoint.signals.received is not None:
            self.save_if_due()


class Chunks:
    """What one probe has found so far: arrays with points along their first axis."""

    def __init__(self, progress: Progress, name: str):
        self.progress, self.name = progress, name

    @property
    def done(self) -> int:
        """Points done."""
        return len(next(iter(self.found.values()))) if self.found else 0

    @property
    def found(self) -> Arrays:
        """The arrays over all points done."""
        return self.progress.arrays.get(self.name, {})

    def resume(self, rng: np.random.Generator) -> int:
        """Put `rng` where the chunks done left it; return the number of points done."""
        if self.name in self.progress.states:
            rng.bit_generator.state = self.progress.states[self.name]
        return self.done

    def add(self, arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> None:
        """Append a chunk, and save when that is due."""
        found = self.found
        joined = {key: np.concatenate([found[key], new]) if found else new for key, new in arrays.items()}
        self.progress.arrays[self.name] = joined
        self.progress.states[self.name] = rng.bit_generator.state
        self.progress.save_if_due()
