"""Devices, precision and memory of training and probing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import nn

from halobench.core.errors import SpecError, require
from halobench.core.specs import TrainSpec


def keep_freed_memory(most: int = 2**29, largest: int = 2**29) -> None:
    """Let glibc keep up to `most` bytes of freed memory: each training step frees and allocates the same blocks again.

    That goes for blocks of up to `largest` bytes each if glibc accepts that (2.35 does), else of up to 32 MiB. Handing
    them back to the system and faulting them in again took a third of the small CNN's training time, and two thirds of
    its forward pass of 500 images. Changes no number; does nothing if the C library isn't glibc.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap_threshold, largest):
            mallopt(mmap_threshold, 2**25)  # the largest that older ones take on 64-bit systems
        mallopt(trim_threshold, most)


def resolve_device(name: str) -> torch.device:
    """Return the device of a recipe; ``auto`` is CUDA if there is one, else the CPU.

    Raises
    ------
    SpecError
        If torch sees no such CUDA device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        visible = int(name.partition(":")[2] or 0) < count
        require(visible, "train.device", name, f"a device that torch sees here (it sees {count} CUDA devices)")
    return torch.device(name)


def set_kernels(spec: TrainSpec) -> None:
    """Fix the number of CPU threads, and choose deterministic kernels (those that have none only warn) or fast ones."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(spec.threads)
    # As torch.use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: 2 s a job.
    torch.set_deterministic_debug_mode("warn" if spec.deterministic else "default")
    torch.backends.cudnn.benchmark = not spec.deterministic


def memory_format(spec: TrainSpec) -> torch.memory_format:
    """Return the layout of images and convolution weights."""
    return torch.channels_last if spec.channels_last else torch.contiguous_format


def autocast(spec: TrainSpec, device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context of bfloat16 autocast, or of nothing, as the recipe says."""
    if spec.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def kept_casts(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context that keeps the casts of weights by `autocast` from one batch to the next; they must not change.

    Autocast drops its casts when the outermost of its contexts ends. This one changes nothing inside it.
    """
    return torch.autocast(device.type, enabled=False)


def place(model: nn.Module, spec: TrainSpec, device: torch.device) -> nn.Module:
    """Move a model to its device, in the recipe's memory layout."""
    # As torch documents it; its overloads have one or the other.
    return model.to(device=device, memory_format=memory_format(spec))  # type: ignore[call-overload]


@contextlib.contextmanager
def in_memory(key: str, value: int, advice: str) -> Iterator[None]:
    """Turn running out of memory into an error that names the recipe's `key`, its value and what helps.

    Raises
    ------
    SpecError
    """
    try:
        yield
    except RuntimeError as error:  # a GPU's out-of-memory error is one too
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise SpecError(f"train.{key}", value, f"{advice}: memory ran out ({reason})") from error
