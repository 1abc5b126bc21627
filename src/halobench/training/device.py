"""Devices, precision and memory of training and probing."""

from __future__ import annotations

import contextlib
import os

import torch
from torch import nn

from halobench.core.errors import require
from halobench.core.specs import TrainSpec


def keep_freed_memory(most: int = 2**29, largest: int = 2**29) -> None:
    """Let glibc keep up to `most` bytes of freed memory: a training step frees and asks for the same blocks again.

    So are blocks of up to `largest` bytes each, where glibc takes that (2.35 does), else of up to 32 MiB. Handing them
    back to the system and faulting them in anew took a third of the small CNN's training time, and two thirds of its
    forward pass of 500 images. Changes no number; does nothing where the C library isn't glibc.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap_threshold, largest):
            mallopt(mmap_threshold, 2**25)  # the largest that older ones take on 64-bit systems
        mallopt(trim_threshold, most)


def resolve_device(name: str) -> torch.device:
    """``auto`` as CUDA where there is one, else the CPU; SpecError for a CUDA device that isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        there = torch.cuda.device_count()
        found = int(name.partition(":")[2] or 0) < there
        require(found, "train.device", name, f"a device that torch sees here (it sees {there} CUDA devices)")
    return torch.device(name)


def set_kernels(spec: TrainSpec) -> None:
    """Fix the number of CPU threads, and choose deterministic kernels (those that have none only warn) or fast ones."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(spec.threads)
    # As torch.use_deterministic_algorithms(True, warn_only=True), which also imports the compiler: 2 s a job.
    torch.set_deterministic_debug_mode("warn" if spec.deterministic else "default")
    torch.backends.cudnn.benchmark = not spec.deterministic


def memory_format(spec: TrainSpec) -> torch.memory_format:
    """The layout of images and convolution weights."""
    return torch.channels_last if spec.channels_last else torch.contiguous_format


def autocast(spec: TrainSpec, device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 autocast, or nothing, as the recipe says."""
    if spec.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def kept_casts(device: torch.device) -> contextlib.AbstractContextManager:
    """Keep what `autocast` makes of weights from one batch to the next, while they don't change.

    Autocast forgets its casts where the outermost of its contexts ends. This one changes nothing inside it.
    """
    return torch.autocast(device.type, enabled=False)


def place(model: nn.Module, spec: TrainSpec, device: torch.device) -> nn.Module:
    """A model on its device, in the recipe's memory layout."""
    # As torch documents it; its overloads have one or the other.
    return model.to(device=device, memory_format=memory_format(spec))  # type: ignore[call-overload]
