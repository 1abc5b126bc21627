"""Set up devices, precision and memory for training and probing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import nn

from halobench.core.errors import SpecError, require
from halobench.core.specs.training import TrainSpec


def keep_freed_memory(most: int = 2**29, largest: int = 2**29) -> None:
    """Let glibc keep up to `most` bytes of freed memory, since each training step reallocates the same blocks.

    Blocks of up to `largest` bytes are kept if glibc accepts this limit (version 2.35 does), and otherwise blocks of up
    to 32 MiB. Returning blocks to the system and faulting them in again took a third of the small CNN's training time,
    and two thirds of its forward pass on 500 images. Results don't change. If the C library isn't glibc, nothing
    happens.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap_threshold, largest):
            mallopt(mmap_threshold, 2**25)  # the largest that older versions accept on 64-bit systems
        mallopt(trim_threshold, most)


def resolve_device(name: str) -> torch.device:
    """Return a recipe's device, which torch must find; ``auto`` means CUDA if available, and otherwise the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        visible = int(name.partition(":")[2] or 0) < count
        require(visible, "train.device", name, f"a device that torch sees (CUDA devices seen here: {count})")
    return torch.device(name)


def set_kernels(spec: TrainSpec) -> None:
    """Set the number of CPU threads, and choose fast or deterministic kernels; torch only warns if it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(spec.threads)
    # Like torch.use_deterministic_algorithms(True, warn_only=True), which also imports the compiler (2 s per job).
    torch.set_deterministic_debug_mode("warn" if spec.deterministic else "default")
    torch.backends.cudnn.benchmark = not spec.deterministic


def memory_format(spec: TrainSpec) -> torch.memory_format:
    """Return the memory layout of images and convolution weights."""
    return torch.channels_last if spec.channels_last else torch.contiguous_format


def autocast(spec: TrainSpec, device: torch.device) -> contextlib.AbstractContextManager:
    """Return a bfloat16 autocast context or a null context, depending on the recipe."""
    if spec.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def kept_casts(device: torch.device) -> contextlib.AbstractContextManager:
    """Return a context that keeps `autocast`'s casts of weights between batches; weights must not change meanwhile."""
    # Autocast drops its casts when its outermost context ends.
    return torch.autocast(device.type, enabled=False)


def place(model: nn.Module, spec: TrainSpec, device: torch.device) -> nn.Module:
    """Move a model to its device, in the recipe's memory layout."""
    # torch documents passing both, but its overloads accept only one or the other.
    return model.to(device=device, memory_format=memory_format(spec))  # type: ignore[call-overload]


@contextlib.contextmanager
def name_out_of_memory(key: str, value: int, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error into a SpecError that states the recipe's `key`, its value and what to do."""
    try:
        yield
    except RuntimeError as error:  # also covers a GPU's out-of-memory error
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise SpecError(f"train.{key}", value, f"{advice} ({reason})") from error
