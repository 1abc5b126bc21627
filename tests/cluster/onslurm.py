"""Helpers for tests on a SLURM cluster: runs, workspaces with slow training runs, and queries of the queue."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import yaml
from one_host import OneHost

from conftest import Workspace, heed_interrupts, tiny_config
from halobench.storage import records

FIRST_LOOK = "2"  # seconds; on a real cluster, it would be 20
QUIET = ("--quiet", "rules", "host", "progress")
# Mixup whose steps take a given time without changing any number. This leaves time to disturb a training run, which
# then hurries.
SLOW = '''"""Mixup at leisure."""

import os
import time

from halobench.losses.mixup import Mixup


class Slow(Mixup):
    def mix(self, inputs, targets, rng):
        if not os.path.exists("hurry"):
            time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return super().mix(inputs, targets, rng)
'''


def slow_config(seeds: int = 1, epochs: int = 30) -> dict:
    """One training run per seed, with 2 steps per epoch, and only one short probe."""
    made = tiny_config()
    made["losses"] = {"slow": {"name": "slow:Slow"}}
    made["train"] = {"epochs": epochs, "lr": 0.003, "batch": 50}
    made["probes"] = {"sphere": made["probes"]["sphere"]}
    made["calibrators"] = ["none", "exact"]
    grid = {"datasets": ["noisy"], "models": ["mlp"], "losses": ["slow"], "seeds": list(range(seeds))}
    made["experiments"] = {"tiny": {"grid": [grid], "figures": ["summary"]}}
    return made


def slow_workspace(folder: Path, seeds: int = 1, epochs: int = 30) -> Workspace:
    """A workspace whose training runs take ``2 * epochs * SLOW_SECONDS``, unless they hurry."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Workspace(folder, slow_config(seeds, epochs))
    (folder / "slow.py").write_text(SLOW)
    return made


def hurry(workspace: Workspace) -> None:
    """Let training run at full speed from now on."""
    (workspace.folder / "hurry").touch()


def edit_profile(workspace: Workspace, **values: object) -> None:
    """Set values in a workspace's profiles/slurm, as a user would."""
    path = workspace.folder / "profiles/slurm/profile.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values, sort_keys=False))


class Run:
    """A `halobench run` in progress on a cluster, with its output in a file."""

    def __init__(self, workspace: Workspace, cluster: OneHost, *arguments: str, step: float = 0.0, **environment: str):
        self.workspace, self.cluster = workspace, cluster
        command = [sys.executable, "-m", "halobench.cli.main", "run", "--workflow-profile", "profiles/slurm"]
        command += ["--halobench-slurm-init-seconds-before-status-checks", FIRST_LOOK, *QUIET, *arguments]
        self.out = workspace.folder / f"run{len(list(workspace.folder.glob('run*.log')))}.log"
        variables = cluster.environment | {"SLOW_SECONDS": str(step)} | environment
        with open(self.out, "w") as out:
            self.process = subprocess.Popen(
                command,
                cwd=workspace.folder,
                stdout=out,
                stderr=out,
                env=variables,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )

    def end(self, seconds: float = 400) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"no end in {seconds} s:\n{self.said()[-3000:]}") from None

    def ends_well(self, seconds: float = 400) -> None:
        assert self.end(seconds) == 0, self.said()[-4000:]

    def said(self) -> str:
        return self.out.read_text(errors="replace")

    @property
    def snakemake(self) -> psutil.Process:
        """The process in which Snakemake runs: the child of the one that passes signals on."""
        return psutil.Process(self.process.pid).children()[0]

    def kill(self) -> None:
        """Send SIGKILL to Snakemake's process, which its jobs don't notice."""
        with contextlib.suppress(psutil.Error, IndexError):  # it has just ended
            self.snakemake.kill()
        self.process.wait()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()


def wait_until(seen: Callable[[], object], what: str, seconds: float = 180) -> object:
    """Wait until `seen()` returns something, and return that."""
    last = time.monotonic() + seconds
    while not (found := seen()):
        assert time.monotonic() < last, f"waited in vain until {what}"
        time.sleep(0.2)
    return found


def stage_log(workspace: Workspace, stage: str = "train", cell: str = "noisy/mlp/slow/seed0") -> str:
    log = workspace.folder / f"results/logs/{stage}/{cell}.log"
    return log.read_text() if log.exists() else ""


def epochs_done(workspace: Workspace, cell: str = "noisy/mlp/slow/seed0") -> int:
    """The last epoch in a training run's log."""
    found = re.findall(r"^epoch (\d+)/", stage_log(workspace, cell=cell), re.M)
    return int(found[-1]) if found else 0


def job_of(cluster: OneHost, what: str) -> str:
    """The ID of the job in the queue whose comment contains `what`; empty if there is none."""
    lines = cluster.ask("squeue", "--noheader", "--format=%i|%k").splitlines()
    return next((line.split("|")[0] for line in lines if what in line), "")


def facts(cluster: OneHost, job: str) -> dict[str, str]:
    """What SLURM knows about a job."""
    text = cluster.ask("scontrol", "--oneliner", "show", "job", job)
    return dict(pair.split("=", 1) for pair in text.split() if "=" in pair)


def start_now(cluster: OneHost, job: str) -> None:
    """Let a requeued job start soon; SLURM itself would wait two minutes.

    It doesn't start at once, because a node fails a job that is to start in the second in which it was killed there.
    """
    wait_until(lambda: facts(cluster, job)["JobState"] == "PENDING", f"job {job} is back in the queue")
    cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")


def record(workspace: Workspace, stage: str = "train", cell: str = "noisy/mlp/slow/seed0") -> Mapping:
    return records.read_record(workspace.folder / f"results/runs/{cell}/{stage}.json")


def assert_same_training(workspace: Workspace, other: Workspace, cell: str = "noisy/mlp/slow/seed0") -> None:
    """A cell's training gave the same bytes in both workspaces."""
    for name in ("model.safetensors", "logits.safetensors", "history.csv"):
        paths = [each.folder / f"results/runs/{cell}/{name}" for each in (workspace, other)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), (cell, name)


def assert_undisturbed(workspace: Workspace, other: Workspace, cell: str = "noisy/mlp/slow/seed0") -> None:
    """A cell's training gave the same bytes as an undisturbed one, and was resumed after its first epoch."""
    assert_same_training(workspace, other, cell)
    assert record(other, cell=cell)["resumed_at"] == []
    assert any(epoch >= 1 for epoch, _ in record(workspace, cell=cell)["resumed_at"]), record(workspace, cell=cell)


def without_slurm(folder: Path) -> str:
    """A search path with all programs on the current one except SLURM's."""
    folder.mkdir()
    for place in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in place.iterdir() if place.is_dir() else ():
            if not program.name.startswith(("s",)) or program.name in ("sh", "sed", "sort", "sleep", "stat", "seq"):
                link = folder / program.name
                if not link.is_symlink():
                    link.symlink_to(program)
    return str(folder)
