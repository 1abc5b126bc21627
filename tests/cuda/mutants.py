"""Mutants of what the package does on GPUs: small changes, each of which a test of `on_cuda.py` must notice."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """A string that a file in `src/halobench` has exactly once, its replacement, and what then goes wrong."""

    file: str
    string: str
    instead: str
    effect: str

    def applied(self) -> str:
        """The file's text with the replacement."""
        text = (ROOT / "src/halobench" / self.file).read_text()
        if (found := text.count(self.string)) != 1:
            raise ValueError(f"{self.file} has {self.string!r} {found} times instead of once: edit its mutant")
        return text.replace(self.string, self.instead)


BASE, MIXUP, AUGMENTATION, SEEDING = "losses/base.py", "losses/mixup.py", "training/augmentation.py", "core/seeding.py"
BATCHES, CELL, CHECKPOINT = "training/batches.py", "training/train_cell.py", "training/checkpoint.py"
DEVICE, LOOP, WALK = "training/device.py", "training/loop.py", "probing/ray_walk.py"
READ, AHEAD = "self._read(rows).to(self.device, non_blocking=True)", "images.to(self.device, non_blocking=True)"
EPOCH, POINT = "self.check(self.steps_per_epoch - 1)", "self.check(self.step - 1)"
UNNAMED = 'name_out_of_memory("eval_batch", recipe.eval_batch, advice), '
KEPT = "return torch.autocast(device.type, enabled=False)"
HOST = 'detach().to("cpu", copy=True)'
RESTORED = 'torch.cuda.set_rng_state(tensors["random.cuda"], device)'
MUTANTS = [
    # Precision and layout
    Mutant(DEVICE, "(device.type, dtype=torch.bfloat16)", "(device.type)", "layers compute in float16"),
    Mutant(CELL, "with autocast(spec, device):", "with autocast(spec, torch.device('cpu')):", "scoring is in float32"),
    Mutant(WALK, ", autocast(recipe, device):", ":", "probing is in float32"),
    Mutant(LOOP, "loss(logits.float(), part_targets)", "loss(logits, part_targets)", "losses get bfloat16"),
    Mutant(DEVICE, "device=device, memory_format=memory_format(spec))", "device=device)", "weights keep their layout"),
    # What is where
    Mutant(BATCHES, READ, "self._read(rows)", "rows that aren't kept stay on the CPU"),
    Mutant(BATCHES, AHEAD, "images", "batches read ahead stay on the CPU"),
    Mutant(BATCHES, "mem_get_info(device)[0]", "mem_get_info()[0]", "free memory is that of another device"),
    Mutant(BATCHES, "mem_get_info(device)[0]", "mem_get_info(device)[1]", "all memory counts as free"),
    Mutant(BATCHES, "size * np.dtype(images.dtype).itemsize <=", "size <=", "every number counts as a byte"),
    Mutant(WALK, "torch.from_numpy(labels).to(inputs.device)", "torch.from_numpy(labels)", "probed labels stay behind"),
    Mutant(BASE, "self.module.to(logits.device)(", "self.module(", "buffers of a loss stay on the CPU"),
    Mutant(CHECKPOINT, HOST, "detach().clone()", "saving needs memory of the device"),
    Mutant(CHECKPOINT, HOST, f"{HOST[:-1]}, non_blocking=True)", "a half-written state is saved"),
    Mutant(
        DEVICE, KEPT, f'{KEPT} if device.type == "cpu" else contextlib.nullcontext()', "weights are cast for each batch"
    ),
    Mutant(CHECKPOINT, "else saved, device=parameter.device)", "else saved)", "restored counters stay on the CPU"),
    Mutant(DEVICE, 'name = "cuda" if', 'name = "cpu" if', "auto means the CPU"),
    # What is noticed
    Mutant(LOOP, EPOCH, f"self.reads_at_once and {EPOCH}", "an epoch's losses aren't checked"),
    Mutant(LOOP, POINT, f"self.reads_at_once and {POINT}", "a diverged state is saved"),
    Mutant(WALK, UNNAMED, "", "a batch that fills the device isn't named"),
    Mutant(DEVICE, "isinstance(error, torch.cuda.OutOfMemoryError) or any(", "any(", "a full device isn't recognised"),
    # What makes the host wait
    Mutant(LOOP, 'return self.device.type == "cpu"', "return True", "each step's loss is read"),
    Mutant(
        LOOP, "torch.zeros(steps_per_epoch, device=device)", "torch.zeros(steps_per_epoch)", "losses leave the device"
    ),
    Mutant(BASE, 'tensor.pin_memory() if device.type == "cuda" else tensor', "tensor", "no memory is pinned"),
    Mutant(BASE, ".to(device, non_blocking=True)", ".to(device)", "copies of what is drawn block"),
    Mutant(BATCHES, AHEAD, "images.to(self.device)", "copies of batches read ahead block"),
    Mutant(
        MIXUP, "send(rng.permutation(count), inputs.device)", "torch.from_numpy(rng.permutation(count))", "orders block"
    ),
    Mutant(AUGMENTATION, "(len(images), device=images.device)", "(len(images))", "indices of shifts block"),
    # What makes results repeat
    Mutant(SEEDING, "manual_seed_all(seed)", "manual_seed(seed)", "only the current device is seeded"),
    Mutant(CHECKPOINT, "get_rng_state(device)", "get_rng_state()", "the random state of another device is saved"),
    Mutant(CHECKPOINT, RESTORED, "pass", "the device's random state isn't restored"),
    Mutant(DEVICE, '"warn" if spec.deterministic else "default"', '"default"', "kernels may vary without a warning"),
    Mutant(DEVICE, "benchmark = not spec.deterministic", "benchmark = True", "kernels are chosen by timing"),
    Mutant(DEVICE, '"CUBLAS_WORKSPACE_CONFIG", ":4096:8"', '"CUBLAS_WORKSPACE_CONFIG", ":0:0"', "cuBLAS may vary"),
]


def on_cuda(environment: Mapping[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Run `on_cuda.py`, or the tests that the words choose, in a process whose PyTorch has devices from the start."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={folder / 'own'}"]
    command += [f"--rootdir={ROOT}", str(Path(__file__).with_name("on_cuda.py")), *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def caught_by(mutant: Mutant, environment: Mapping[str, str], folder: Path, *words: str) -> str | None:
    """The first test that fails with a mutant, applied to a copy of the package in a folder; None if it survives."""
    changed = mutant.applied()
    copy = shutil.copytree(ROOT / "src/halobench", folder / "halobench")
    (copy / mutant.file).write_text(changed)
    path = f"{folder}:{environment['PYTHONPATH']}"
    done = on_cuda({**environment, "PYTHONPATH": path}, folder, "-x", *words)
    failed = re.search(r"^FAILED \S+::(\w+)", done.stdout, re.M)
    # A process that ends in another way, e.g. since the tests can't be imported, shows nothing about them.
    assert done.returncode == 0 or (done.returncode == 1 and failed), (done.stdout + done.stderr)[-3000:]
    return failed[1] if failed else None


def row(mutant: Mutant, test: str | None) -> str:
    """A line of the table of mutants: the file, the effect, and the test that caught it."""
    file, effect = (max(len(getattr(each, name)) for each in MUTANTS) for name in ("file", "effect"))
    return f"{mutant.file:{file}}  {mutant.effect:{effect}}  {test or 'SURVIVED'}"
