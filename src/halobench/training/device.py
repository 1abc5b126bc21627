"""Set up devices, precision and memory for training and probing."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from halobench.core.errors import RefusedError, SpecError, require
from halobench.core.specs.training import TrainSpec

# How messages of torch begin that are about a device or its driver.
CUDA_ERRORS = ("CUDA ", "cuDNN error", "Found no NVIDIA driver", "The NVIDIA driver", "No CUDA GPUs")


def keep_freed_memory(most: int = 2**29, largest: int = 2**29) -> None:
    """Let glibc keep up to `most` bytes of freed memory, since each training step reallocates the same blocks.

    Blocks of up to `largest` bytes are kept if glibc accepts this limit (version 2.35 does), and otherwise blocks of up
    to 32 MiB. Results don't change. If the C library isn't glibc, nothing happens.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap_threshold, largest):
            mallopt(mmap_threshold, 2**25)  # the largest that older versions accept on 64-bit systems
        mallopt(trim_threshold, most)


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` is CUDA if available, and otherwise the CPU.

    SpecError is raised if torch doesn't see a CUDA device of this name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        visible = int(name.partition(":")[2] or 0) < count
        require(visible, "train.device", name, f"a device that torch sees (CUDA devices seen here: {count})")
    return torch.device(name)


def why_no_cuda() -> str:
    """Return why torch can't use CUDA devices that the machine has; "" if it can."""
    if torch.version.cuda is None and not torch.cuda.is_available():
        return "it was installed without CUDA"
    with warnings.catch_warnings(record=True) as caught:  # torch only warns, e.g. about a driver that is too old
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return ""
    return "; ".join(" ".join(str(warning.message).split()) for warning in caught)[:300] or "it sees no device"


def set_kernels(spec: TrainSpec) -> None:
    """Set the number of CPU threads and the kind of kernels; torch only warns if a deterministic kernel is missing."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(spec.threads)
    # Like torch.use_deterministic_algorithms(True, warn_only=True), which also imports the compiler (2 s per job).
    torch.set_deterministic_debug_mode("warn" if spec.deterministic else "default")
    torch.backends.cudnn.benchmark = not spec.deterministic
    # On the CPU, the bf16 gradient of a depthwise convolution over images of one pixel, with a stride of 2 and in
    # channels_last, holds memory that oneDNN never wrote (seen with torch 2.13; tests/unit/training/test_bf16).
    unsafe = spec.precision == "bf16" and spec.channels_last and spec.deterministic
    torch.backends.mkldnn.enabled = not unsafe  # type: ignore[assignment]  # a property, to torch's stubs


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
    """Move a model to a device, in the recipe's memory layout, and return it."""
    # torch documents passing both, but its overloads accept only one or the other.
    return model.to(device=device, memory_format=memory_format(spec))  # type: ignore[call-overload]


@contextlib.contextmanager
def name_out_of_memory(key: str, value: int, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error into a SpecError that states the recipe's `key`, its value and what to do."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        raise SpecError(f"train.{key}", value, f"{advice}{_others(error)} ({_reason(error)})") from error


@contextlib.contextmanager
def name_device_errors() -> Iterator[None]:
    """Turn out-of-memory errors and CUDA errors into a RefusedError that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            what = "the model, its optimiser's state and the samples need more memory than the device has free"
            raise RefusedError("train.device", f"{what}{_others(error)} ({_reason(error)})") from error
        if not str(error).startswith(CUDA_ERRORS):
            raise
        what = "CUDA failed; `nvidia-smi` shows whether the device is in order and whose it is"
        raise RefusedError("train.device", f"{what} ({_reason(error)})") from error


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an error is an out-of-memory error of a GPU or of the CPU."""
    return _is_full_gpu(error) or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _is_full_gpu(error: Exception) -> bool:
    """Return whether an error is a GPU's out-of-memory error, which torch or one of CUDA's libraries raises."""
    words = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(each in str(error) for each in words)


def _others(error: Exception) -> str:
    """Return further advice if a GPU is full, since other jobs may be using it, or "" for any other error."""
    return "; if other jobs use this GPU, lower slots_per_gpu" if _is_full_gpu(error) else ""


def _reason(error: Exception) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())[:300]
