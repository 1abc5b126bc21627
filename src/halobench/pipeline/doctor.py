"""Say what a run on this machine would use, and what stands in its way."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import halobench
from halobench.core.errors import SpecError
from halobench.core.extras import EXTRAS, install
from halobench.core.formatting import count, size
from halobench.pipeline.gpu_slots import VISIBLE, free_slots, list_gpus, visible_devices

EXCLUSIVE, PROHIBITED = (1, 3), 2  # NVML's compute modes
BF16 = (8, 0)  # the first compute capability with bf16


def report() -> tuple[list[str], list[str]]:
    """Return lines on what a run would use, and a line for each problem."""
    lines, problems = [_machine(), _extras()], list[str]()
    if importlib.util.find_spec("torch") and importlib.util.find_spec("pynvml"):
        try:
            listed, problems = _devices()
            lines += listed
        except (ImportError, OSError) as error:  # e.g. a library of CUDA is missing
            problems.append(f"torch can't be loaded ({' '.join(str(error).split())[:200]}); install it again")
    lines += [_slurm(), _folders()]
    return lines, problems


def _machine() -> str:
    """Return the versions, the cores that this process may use, and the machine's memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = ""
    with contextlib.suppress(ValueError, OSError, AttributeError):  # not on every system
        memory = f", {size(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} of memory"
    version = f"halobench {halobench.__version__}, Python {platform.python_version()}"
    return f"{platform.node()}: {version}; {count(cores, 'core')}{memory}"


def _extras() -> str:
    """Return a line that says which extras are complete, and how to install others."""
    missing = [name for name, modules in EXTRAS.items() if not all(map(importlib.util.find_spec, modules))]
    present = [name for name in EXTRAS if name not in missing]
    others = f"; not installed: {', '.join(missing)} (e.g. {install(missing[0])})" if missing else ""
    return f"extras: {', '.join(present) or 'none'}{others}"


def _devices() -> tuple[list[str], list[str]]:
    """Return lines on torch and each GPU that jobs may use, and the problems that a job would have with GPUs."""
    import torch

    from halobench.training.device import why_no_cuda

    gpus, problems = list_gpus(), list[str]()
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    driver, fault = _driver()
    problems += [fault] if fault else []
    lines = [f"torch {torch.__version__.partition('+')[0]}, built {built}; {driver}"]
    if not gpus:
        return [*lines, "GPUs: none, so jobs run on the CPU"], problems
    try:
        devices = visible_devices(os.environ, gpus)
    except SpecError as error:
        return lines, [str(error)]
    visible = f"{VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else f"{VISIBLE} isn't set"
    lines.append(f"GPUs: {len(devices)} of {len(gpus)} may be used ({visible}); jobs with `device: auto` use them")
    numbers = {uuid: index for index, uuid in gpus.items()}
    for device in devices:
        about, wrong = _describe(device.uuid)
        name = f"GPU {numbers.get(device.uuid, device.value)}"
        lines.append(f"  {name}: {about}, {free_slots(device)}")
        problems += [f"{name}: {each}" for each in wrong]
    if devices and (why := why_no_cuda()):
        problems.append(f"torch can't use these GPUs ({why}); install a build of torch that fits the driver")
    return lines, problems


def _driver() -> tuple[str, str]:
    """Return the version of NVIDIA's driver, and a problem if an installed driver doesn't work."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return f"NVIDIA driver {pynvml.nvmlSystemGetDriverVersion()}", ""
    except pynvml.NVMLError as error:
        installed = Path("/proc/driver/nvidia/version").exists()
        wrong = f"NVIDIA's driver doesn't work ({error}); after an update of the driver, restart the machine"
        return f"no NVIDIA driver ({error})", wrong if installed else ""


def _describe(uuid: str) -> tuple[str, list[str]]:
    """Return a description of a GPU, and the problems that a job may have with it."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        name, mode = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetComputeMode(handle)
        bf16 = pynvml.nvmlDeviceGetCudaComputeCapability(handle) >= BF16
    except pynvml.NVMLError as error:
        return uuid, [f"doesn't respond ({error})"]
    problems = []
    with contextlib.suppress(pynvml.NVMLError):  # most GPUs have no MIG
        if pynvml.nvmlDeviceGetMigMode(handle)[0] and not uuid.startswith("MIG-"):
            what = "MIG is on, so only its instances can be used"
            problems.append(f"{what}; set {VISIBLE} to their UUIDs (`nvidia-smi -L`), or switch MIG off")
    if mode == PROHIBITED:
        problems.append("its compute mode is prohibited; `nvidia-smi -c 0` (as root) allows jobs")
    if memory.free < 0.1 * memory.total:
        problems.append("less than a tenth of its memory is free; `nvidia-smi` shows who uses it")
    exclusive = ", exclusive mode (keep slots_per_gpu at 1)" if mode in EXCLUSIVE else ""
    kernels = "bf16" if bf16 else "no kernels for bf16"
    return f"{name}, {kernels}, {size(memory.free)} of {size(memory.total)} free{exclusive}", problems


def _slurm() -> str:
    """Return a line that says whether this process is a SLURM job or, if not, whether this machine can submit any."""
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"SLURM: this is job {job}, on {os.environ.get('SLURMD_NODENAME', 'an unknown node')}"
    if shutil.which("sbatch"):
        return "SLURM: sbatch is here; `srun halobench doctor` shows the same of a node"
    return "SLURM: no sbatch here, so jobs run on this machine"


def _folders() -> str:
    """Return a line that says how much space is free in the working directory, where results go by default."""
    return f"results go to {Path.cwd()}, with {size(shutil.disk_usage('.').free)} free"


def print_report() -> int:
    """Print the report; return 1 if there are problems."""
    lines, problems = report()
    print("\n".join([*lines, *_numbered(problems)]))
    return 1 if problems else 0


def _numbered(problems: list[str]) -> Iterator[str]:
    """Yield a line for each problem, or a single line if there are no problems."""
    yield from (f"problem: {problem}" for problem in problems)
    if not problems:
        yield "no problems found"
