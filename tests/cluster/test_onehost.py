"""The cluster on one host: it comes up, binds slots, leaves nothing behind, and says what is missing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import one_host
import pytest
from one_host import OneHost
from onslurm import without_slurm

ONE_HOST = [sys.executable, str(Path(one_host.__file__))]


def daemons(folder: Path) -> list[str]:
    """The processes started with this folder's configuration."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


@pytest.mark.cluster
def test_nodes_bind_slots_and_nothing_is_left(slurm):
    with OneHost(nodes=2, gpus=2) as cluster:
        folder = cluster.folder
        assert len(daemons(folder)) == 4
        said = cluster.ask(
            "srun", "--nodes=2", "--gpus-per-node=1", "sh", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
        )
        assert sorted(said.split("\n")) == ["", "node1 0", "node2 0"]
        waiting = cluster.ask("sbatch", "--parsable", "--output=/dev/null", "--gpus=2", "--wrap", "sleep 100").strip()
        running = cluster.ask("squeue", "-h", "-j", waiting, "-o", "%T").strip()
        assert running in ("PENDING", "RUNNING")
        with pytest.raises(subprocess.CalledProcessError):
            cluster.ask("sbatch", "--output=/dev/null", "--nodes=1", "--gpus=3", "--wrap", "true")
    assert not folder.exists()
    deadline = time.monotonic() + 60
    while daemons(folder) and time.monotonic() < deadline:  # a job's shell that was killed may take a moment to end
        time.sleep(0.1)
    assert daemons(folder) == []
    assert not any("sleep\x00100" in words for words in daemons(Path("sleep")))


@pytest.mark.cluster
def test_the_command_runs_a_command_and_gives_its_exit_code(slurm):
    command = [*ONE_HOST, "--nodes", "1", "--gpus", "3", "--", "sh", "-c", "sinfo -h -o '%N %G'; exit 3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "node1 gpu:3\n")
    told = re.fullmatch(
        r"one_host: a SLURM cluster \(nodes: 1, stand-in GPU slots on each: 3\) runs in (\S+)\n"
        r"one_host: the cluster is stopped\n",
        done.stderr,
    )
    assert told, done.stderr
    assert not Path(told[1]).exists()


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_command_and_then_the_cluster(slurm, number):
    process = subprocess.Popen(
        [*ONE_HOST, "--nodes", "1", "--", "sh", "-c", "echo up; exec sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "up\n"
    # Ctrl-C in a terminal reaches all processes; a batch system's SIGTERM reaches only the first.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert said.endswith("one_host: the cluster is stopped\n")


def test_missing_programs_are_named_with_what_to_install(tmp_path, monkeypatch, capsys):
    path = without_slurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(one_host, "SYSTEM", ())
    assert "slurmctld" in one_host.missing()
    assert one_host.main(["--", "true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "slurmctld" in line
    assert line.endswith(f"not found; {one_host.ADVICE}")
