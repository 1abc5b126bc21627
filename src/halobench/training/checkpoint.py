"""Save a stage's progress in checkpoints, so that a killed or preempted job can resume.

A checkpoint is one safetensors file, replaced atomically at regular intervals and when a signal asks the process to
stop. A checkpoint isn't a result: if anything is wrong with it, it is discarded with a warning, and the stage starts
over. On the same machine, with deterministic kernels, a resumed run gives the same bytes as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from halobench.core.errors import Interrupted, describe_error
from halobench.core.specs.codec import to_json
from halobench.storage import files

CHANGES_NUMBERS = False  # see `halobench.experiment.code_version`
FORMAT = 3  # version of a checkpoint's contents; checkpoints with another version are discarded
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGURG, signal.SIGINT)
Tensors = dict[str, torch.Tensor]


class Signals:
    """While active, records SIGTERM, SIGUSR1, SIGURG and SIGINT instead of exiting; ``received`` is the first, or None.

    Batch systems send these signals ahead of a time limit or a preemption, and again soon after. By default, SIGURG is
    ignored by other processes that receive it, such as a job's Snakemake, so profiles/slurm requests it. Signals are
    merely recorded, so later ones don't interrupt the save that the first one triggered. If SIGINT was ignored before,
    it is still ignored: shells ignore it for a script's background processes, for which Ctrl-C isn't meant.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        handled = [n for n in SIGNALS if n != signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number


class Checkpoint:
    """The checkpoint of one stage of one cell, saved every `every` seconds and when one of the `signals` arrives.

    The `key` contains everything that the stage's results depend on (spec, seed, code version, checksums of its
    inputs), as plain data; a file written under a different key is not used. `here` describes this process's machine
    and versions (`halobench.storage.provenance.here`). `made_on` lists the distinct descriptions of all processes that
    contributed, with this process's last, since resuming gives the same bytes only on the same machine.
    """

    def __init__(
        self,
        path: Path,
        key: Any,
        every: float = 60.0,
        signals: Signals | None = None,
        log: Callable[[str], None] = print,
        here: str = "",
    ):
        self.path, self.every, self.log = Path(path), every, log
        self.made_on = [here]
        self.key = hashlib.sha256(to_json([FORMAT, key]).encode()).hexdigest()
        self.signals = signals or Signals()
        self._last = time.monotonic()

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the last saved tensors and facts; None if there are none or, with a warning, if they are unusable."""
        self._last = time.monotonic()
        files.sweep(self.path.parent)
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = about["facts"]
            facts = json.loads(text)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            self._discard(f"can't be read ({describe_error(error)})")
            return None
        if about.get("key") != self.key:
            self._discard("belongs to a different spec, seed, code version or source")
            return None
        if about.get("checksum") != _digest(tensors, text):
            self._discard("is damaged (its checksum is wrong)")
            return None
        made_on = facts.pop("made_on")
        here = self.made_on[-1]
        if here not in made_on:
            self.log(
                f"warning: started on {'; '.join(made_on)}, resuming on {here}; results may differ in the last digits"
            )
        self.made_on = [*(place for place in made_on if place != here), here]
        return tensors, facts

    def _discard(self, why: str) -> None:
        self.log(f"warning: resume point {self.path} {why}; starting from the beginning")
        self.remove()

    def due(self) -> bool:
        """Return whether it is time to save, because `every` seconds have passed or a signal has arrived."""
        return self.signals.received is not None or time.monotonic() - self._last >= self.every

    def save(self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], at: str) -> None:
        """Replace the checkpoint, or warn if it can't be written; then raise Interrupted if a signal has arrived."""
        text = json.dumps({**facts, "made_on": self.made_on})
        kept = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
        about = {"key": self.key, "facts": text, "checksum": _digest(kept, text)}
        self._last, line = time.monotonic(), f"saved at {at}"
        try:
            with files.replacing(self.path) as temporary:
                save_file(kept, temporary, about)
        except OSError as error:  # a full disk need not stop a job that has no results to write yet
            line = f"warning: not saved at {at}: {error}"
        self._report(line)

    def skip(self, why: str) -> None:
        """Log that no checkpoint is saved, and `why`, or raise Interrupted with this line if a signal has arrived."""
        self._last = time.monotonic()
        self._report(f"warning: not saved because {why}")

    def _report(self, line: str) -> None:
        """Log a line or, if a signal has arrived, raise Interrupted with it."""
        if self.signals.received is not None:
            raise Interrupted(self.signals.received, line)
        self.log(line)

    def remove(self) -> None:
        """Remove the checkpoint; if this fails, only warn, since the file is unusable or the stage has succeeded."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            self.log(f"warning: resume point {self.path} can't be removed ({describe_error(error)})")


def _digest(tensors: Mapping[str, torch.Tensor], facts: str) -> str:
    """Return the SHA-256 of the tensors' names and bytes and of the facts."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]).data)
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor of any type as uint8 (n,), without copying if it is contiguous and on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def fingerprint(value: Any, depth: int = 8) -> str:
    """Return a string that changes with an object's numbers, arrays and generators, nested down to `depth` levels."""
    if depth == 0 or value is None or isinstance(value, str | bytes | int | float | complex):
        return repr(value) if depth else "..."
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, torch.Tensor):
        return fingerprint(_bytes(value), depth)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key!r}:{fingerprint(item, depth - 1)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ",".join(fingerprint(item, depth - 1) for item in value) + "]"
    if isinstance(value, np.random.Generator):
        return fingerprint(value.bit_generator.state, depth - 1)
    if isinstance(value, torch.Generator):
        return fingerprint(value.get_state(), depth - 1)
    if isinstance(value, random.Random):
        return fingerprint(value.getstate(), depth - 1)
    inside = {} if isinstance(value, type) else getattr(value, "__dict__", {})
    return f"{type(value).__qualname__}{fingerprint(dict(inside), depth - 1)}"


def capture(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """Return copies of a model's parameters and buffers and of an optimiser's state, by name, in host memory.

    The copies are in host memory because a nearly full GPU has no room for them.
    """
    tensors = {f"model.{name}": tensor for name, tensor in _named(model).items()}
    for number, (_, state) in enumerate(_states(optimizer)):
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items() if torch.is_tensor(value)}
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


@torch.no_grad()
def restore(tensors: Mapping[str, torch.Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the tensors from `capture` back into a model and an optimiser of the same kind."""
    for name, tensor in _named(model).items():
        tensor.copy_(tensors[f"model.{name}"])
    for number, (parameter, state) in enumerate(_states(optimizer)):
        prefix = f"optimizer.{number}."
        for name in (name for name in tensors if name.startswith(prefix)):
            saved = tensors[name]
            # Fused kernels traverse a parameter and its moments together, so both need the same memory layout.
            like = torch.empty_like(parameter if saved.shape == parameter.shape else saved, device=parameter.device)
            state[name.removeprefix(prefix)] = like.to(saved.dtype).copy_(saved)


def _named(model: nn.Module) -> Tensors:
    """Return a model's parameters and buffers, including those that its state dict omits."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _states(optimizer: torch.optim.Optimizer) -> list[tuple[torch.Tensor, dict[str, Any]]]:
    """Return an optimiser's parameters, each with its state."""
    return [(p, optimizer.state[p]) for group in optimizer.param_groups for p in group["params"]]


def random_states(rng: np.random.Generator, device: torch.device) -> tuple[Tensors, dict[str, Any]]:
    """Return the states of `rng` and of the global generators of torch, NumPy and Python, as tensors and plain data."""
    tensors = {"random.torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    state: Any = np.random.get_state()  # noqa: NPY002
    name, words, position, has_gauss, gauss = state
    tensors["random.numpy"] = torch.from_numpy(words.astype(np.int64))
    facts = {"rng": rng.bit_generator.state, "numpy": [name, position, has_gauss, gauss], "python": random.getstate()}
    return tensors, facts


def restore_random_states(
    tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], rng: np.random.Generator, device: torch.device
) -> None:
    """Restore `rng` and the global generators to the states that `random_states` returned."""
    torch.set_rng_state(tensors["random.torch"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    name, *rest = facts["numpy"]
    np.random.set_state((name, tensors["random.numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    version, words, gauss = facts["python"]
    random.setstate((version, tuple(words), gauss))
    rng.bit_generator.state = facts["rng"]
