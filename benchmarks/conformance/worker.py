"""Run one implementation on sets of logits, each in a child process with limits on time and memory.

Runs in the implementation's own environment, which may have nothing but numpy. Reads a task from standard input as
JSON: the `implementation` (a file), its `sets` (a list of {path, out}), and the limits on each set: `seconds` of the
processor, `patience` in seconds of the clock, and `bytes`. Writes one JSON file for each set, and the versions of
packages to standard output.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

AGAIN = 200_000
"""The most numbers in a set for which the fit is repeated with permuted and with shifted rows."""
SAID = 600  # characters kept of what a fit prints


def load(path: str):
    """Import an implementation from its file."""
    spec = importlib.util.spec_from_file_location("implementation_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fitted(implementation, z: np.ndarray, y: np.ndarray) -> dict:
    """Return what a fit returns, as {"T": ...} with its claims, or {"error": ...}; and whether it changes its input."""
    if getattr(implementation, "TAKES", "logits") == "probabilities":
        z = softmax(z)
    given = z.copy(), y.copy()
    try:
        found = implementation.fit(*given)
    except MemoryError as error:
        return {"failure": f"out of memory: {error}"}
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip()
        return {"failure": f"out of memory: {text}"} if "allocate memory" in text else {"error": text[:SAID]}
    found = dict(found) if isinstance(found, dict) else {"T": found}
    found["T"] = float("nan") if found["T"] is None else float(found["T"])
    if (p := found.pop("probabilities", None)) is not None:
        found["nll"] = own_nll(np.asarray(p, dtype=np.float64), y)
    changed = not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(given, (z, y), strict=True))
    return found | ({"changed": True} if changed else {})


def own_nll(p: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean NLL of probabilities (n, k), or (n,) of the second of two classes."""
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    with np.errstate(divide="ignore"):
        return float(-np.log(p.reshape(len(labels), -1)[np.arange(len(labels)), labels]).mean())


def softmax(z: np.ndarray) -> np.ndarray:
    """Return probabilities in the precision of the logits, as a model outputs them; float64 for whole numbers."""
    z = z if z.dtype.kind == "f" else z.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def child(implementation, path: str, out: Path, task: dict, printed: str) -> None:
    """Fit one set in this process and write what was found."""
    with open(printed, "w") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    arrays = np.load(path)
    z, y = arrays["z"], arrays["y"]
    limit_memory(task["bytes"])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(began + task["seconds"]), resource.RLIM_INFINITY))
    found = fitted(implementation, z, y)
    seconds = time.process_time() - began
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    sys.stdout.flush(), sys.stderr.flush()
    said = Path(printed).read_text(errors="replace")
    found |= {"seconds": seconds, "mebibytes": kib / 1024, "said": said[-SAID:]}
    write(out, found)
    if "T" in found and z.size <= AGAIN:
        rng = np.random.default_rng(1)
        order = rng.permutation(len(z))
        with np.errstate(invalid="ignore"):
            step = np.abs(z[np.isfinite(z)]).max()
        shift = (step * rng.integers(-2, 3, (len(z), 1))).astype(z.dtype)
        again = {"permuted": (z[order], y[order]), "shifted": (z + shift, y)}
        write(out, found | {name: fitted(implementation, *each).get("T") for name, each in again.items()})


def limit_memory(limit: int) -> None:
    """Let this process take `limit` bytes more of address space than it has (Linux; elsewhere there is no limit)."""
    with contextlib.suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + limit, taken + limit))


def write(path: Path, found: dict) -> None:
    """Write JSON under a temporary name, and rename it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found))
    partial.replace(path)


def run(implementation, path: str, out: Path, task: dict) -> None:
    """Fit one set in a child process; write a failure if it doesn't end in time, or ends without a result."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile() as printed:
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            try:
                child(implementation, path, out, task, printed.name)
            finally:
                os._exit(0)
        with contextlib.suppress(OSError):  # the child may have done it
            os.setpgid(pid, pid)
        why = f"no result after {task['patience']:g} s"
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() - began > task["patience"]:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.01)
        else:
            slow = os.WIFSIGNALED(ended[1]) and os.WTERMSIG(ended[1]) == signal.SIGXCPU
            why = f"no result after {task['seconds']:g} s of the processor" if slow else "the process died"
        if not out.exists():
            write(out, {"failure": why, "said": Path(printed.name).read_text(errors="replace")[-SAID:]})


def versions(names: list[str]) -> dict[str, str]:
    """Return the installed versions of packages."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def main() -> None:
    task = json.load(sys.stdin)
    warnings.simplefilter("default")
    implementation = load(task["implementation"])
    if importlib.util.find_spec("torch"):  # what its optimisers import at their first step, once for all children
        importlib.import_module("torch._dynamo")
    print(json.dumps(versions(task["packages"])), flush=True)
    for each in task["sets"]:
        run(implementation, each["path"], Path(each["out"]), task)


if __name__ == "__main__":
    main()
