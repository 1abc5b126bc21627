"""What is asked of SLURM, and how its answers are read; its commands are stand-ins here."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from halobench.runner.slurm.queries import ResourceRequest

from halobench.experiment.config_loader import ConfigError
from halobench.runner.slurm import queries

SINFO = """\
gpu*|1-00:00:00|gpu:h100:4(S:0-1),shard:h100:8(S:0-1)|64000|16
gpu*|1-00:00:00|gpu:a100:8|128000|8
long|infinite|gpu:2(S:0)|64000|16
cpu|30:00|(null)|256000|64
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands, alone on PATH: `say(name, text, code)` lets one print a text."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def say(name: str, text: str = "", code: int = 0) -> None:
        path = folder / name
        asked = f'echo "$@" >> {folder}/{name}.asked\n'
        path.write_text(f"#!/bin/sh\n{asked}printf '%s' {shlex.quote(text)}\nexit {code}\n")
        path.chmod(0o755)

    for name in queries.COMMANDS:
        say(name)
    say("sinfo", SINFO)
    say.folder = folder
    return say


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1-02:00:00", 1560.0), ("30:00", 30.0), ("2:30:30", 150.5), ("infinite", None), ("0:45", 0.75), ("", None)],
)
def test_minutes(text, expected):
    assert queries.minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:h100:4(S:0-1),shard:h100:8(S:0-1)", {"h100": 4}),
        ("gpu:2", {"": 2}),
        ("gpu:a100:2(S:0),gpu:a100:2(S:1),gpu:v100:1", {"a100": 4, "v100": 1}),
        ("(null)", {}),
        ("shard:8", {}),
        ("gpu:nvidia_a100_1g.10gb:7(S:0)", {"nvidia_a100_1g.10gb": 7}),
    ],
)
def test_gpus_by_model(text, expected):
    assert queries.by_model(text) == expected


def test_pools():
    found = queries.pools(SINFO)
    assert list(found) == ["gpu", "long", "cpu"]
    assert (found["gpu"].default, found["gpu"].longest) == (True, 1440.0)
    assert found["long"].longest is None
    assert [found["gpu"].most_gpus(model) for model in (None, "h100", "a100", "v100")] == [8, 4, 8, 0]
    assert found["cpu"].most_gpus(None) == 0
    assert (found["gpu"].shards, found["cpu"].shards) == ((2, 0), (0,))


def test_a_request_is_told_as_sbatch_would_be():
    asked = {"gpu": 2, "gpu_model": "h100", "mem_mb": 4000, "runtime": 60, "slurm_partition": "", "checkpoint": 5}
    request = ResourceRequest.of(asked | {"slurm_extra": "--signal=USR1@60 --comment='a b'", "nodes": 1}, 3)
    assert request.arguments == [
        "--mem=4000", "--time=60", "--cpus-per-task=3", "--nodes=1", "--gpus=h100:2", "--signal=USR1@60",
        "--comment=a b",
    ]  # fmt: skip
    assert ResourceRequest.of({"gpu": 0, "gres": "shard:1", "cpus_per_task": 4}, 1).arguments == [
        "--gres=shard:1",
        "--cpus-per-task=4",
    ]
    assert ResourceRequest.of({"gpu": 1}, 1) == ResourceRequest.of({"gpu": 1, "mem_mb": "<TBD>"} | {"mem_mb": None}, 1)


def problems(*requests: ResourceRequest, status: str = "squeue", first_look: int = 20) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        queries.check({request: ["train"] for request in requests}, status, first_look)
    return list(caught.value.problems)


def test_what_fits_passes(commands):
    long = ResourceRequest(slurm_partition="long", runtime=10**6)
    queries.check({ResourceRequest(gpu=8, runtime=1440): ["train"], long: ["x"]}, "squeue", 20)
    tested = (commands.folder / "sbatch.asked").read_text().splitlines()
    assert tested == [
        "--test-only --time=1440 --gpus=8 --wrap true",
        "--test-only --partition=long --time=1000000 --wrap true",
    ]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ResourceRequest(gpu=9), "gpu = 9: expected at most 8, the GPUs of the largest node in partition gpu"),
        (
            ResourceRequest(gpu=5, gpu_model="h100"),
            "gpu = 5: expected at most 4, the GPUs of model h100 of the largest node in partition gpu",
        ),
        (
            ResourceRequest(gres="shard:1", slots_per_gpu=1),
            "slots_per_gpu = 1: expected at least 2: as many jobs with shard:1 share a GPU in partition gpu",
        ),
        (
            ResourceRequest(mem_mb=128001),
            "mem_mb = 128001: expected at most 128000, the memory in MiB of the largest node in partition gpu",
        ),
        (
            ResourceRequest(cpus_per_task=65, slurm_partition="cpu"),
            "cpus_per_task = 65: expected at most 64, the CPUs of the largest node in partition cpu",
        ),
        (
            ResourceRequest(gres="shard:3"),
            "gres = shard:3: expected at most shard:2, those of one GPU in partition gpu",
        ),
        (
            ResourceRequest(gpu=3, slurm_partition="long,cpu"),
            "gpu = 3: expected at most 2, the GPUs of the largest node in partition long, cpu",
        ),
        (
            ResourceRequest(slurm_partition="gpus"),
            "slurm_partition = gpus: expected one of cpu, gpu, long (did you mean gpu?)",
        ),
        (
            ResourceRequest(runtime=31, slurm_partition="cpu"),
            "runtime = 31: expected at most 30 minutes, the limit of partition cpu",
        ),
    ],
)
def test_what_no_node_can_give(commands, request_, expected):
    (problem,) = problems(request_)
    assert problem.startswith("train: ")
    assert re.sub(r"\W+", " ", problem[7:]) == re.sub(r"\W+", " ", expected)


def test_what_sbatch_refuses_is_told_in_its_words(commands):
    commands("sbatch", "sbatch: error: Batch job submission failed: Invalid feature specification\n", 1)
    (problem,) = problems(ResourceRequest(gpu=1, constraint="nvlink"))
    assert problem == (
        "train: --constraint=nvlink --gpus=1: expected what the cluster can give (Batch job submission failed: "
        "Invalid feature specification)"
    )


def test_accounts(commands):
    commands("sacctmgr", "  physics \n  maths\n")
    queries.check({ResourceRequest(slurm_account="Maths"): ["train"]}, "squeue", 20)
    (problem,) = problems(ResourceRequest(slurm_account="math"))
    assert problem.startswith("train: slurm_account = math: expected ")
    assert "maths" in problem
    assert "physics" in problem
    commands("sacctmgr", "Slurm accounting storage is disabled\n", 1)
    commands("sshare", "")
    (problem,) = problems(ResourceRequest(slurm_account="math"))
    assert problem == (
        "train: slurm_account = math: expected none, since this cluster keeps no accounts "
        "(sacctmgr: Slurm accounting storage is disabled)"
    )


def test_states_are_asked_where_they_are_kept(commands):
    commands("scontrol", "Configuration data as of now\nMinJobAge               = 30 sec\n")
    commands("sacct", "Slurm accounting storage is disabled\n", 1)
    queries.check({}, "squeue", 10)
    (problem,) = problems(status="sacct")
    assert problem == (
        "slurm-status-command = sacct: expected squeue, since no accounting database answers here "
        "(sacct: Slurm accounting storage is disabled)"
    )
    (problem,) = problems(status="squeue", first_look=20)
    assert problem.startswith(
        "slurm-init-seconds-before-status-checks = 20: expected at most 10, since squeue here forgets a job 30 s"
    )
    commands("sacct", "")
    queries.check({}, "sacct", 20)
    queries.check({}, "squeue", 20)


def test_no_commands_and_no_answer(commands, monkeypatch):
    commands("sinfo", "slurm_load_partitions: Unable to contact slurm controller\n", 1)
    assert problems() == [
        "executor = slurm: expected a cluster that answers (sinfo: slurm_load_partitions: Unable to contact slurm"
        " controller)"
    ]
    monkeypatch.setenv("PATH", str(commands.folder / "nowhere"))
    (problem,) = problems()
    assert problem.startswith("executor = slurm: expected SLURM's commands on PATH, as on a cluster's login node (not")


def test_a_command_that_hangs_is_given_up(commands):
    commands.folder.joinpath("squeue").write_text(f"#!/bin/sh\nexec {'/bin/sleep'} 30\n")
    with pytest.raises(queries.SlurmError, match=r"squeue: no answer in 0\.2 s"):
        queries.ask("squeue", timeout=0.2)


QUEUE = """\
11|RUNNING|run-a|rule_train_wildcards_clean_mlp_mixup2_0|2:30|node1
12|PENDING|run-a|rule_probe_wildcards_clean_mlp_mixup2_1|0:00|(Resources)
13|COMPLETED|run-a|rule_probe_wildcards_clean_mlp_mixup2_2|1:00:00|node1
14|RUNNING|run-b|rule_train|0:10|node2
"""


def test_only_living_jobs_of_these_runs_count(commands):
    commands("squeue", QUEUE)
    found = queries.queued(["run-a"])
    assert list(map(str, found)) == [
        "11 (train clean_mlp_mixup2_0, RUNNING node1)",
        "12 (probe clean_mlp_mixup2_1, PENDING (Resources))",
    ]
    assert [job.seconds for job in found] == [150.0, 0.0]
    assert queries.queued([]) == []
    asked = (commands.folder / "squeue.asked").read_text().splitlines()
    assert len(asked) == 1
    assert "--me" in asked[0]
    assert "--name=run-a" in asked[0]


@pytest.mark.parametrize(("cancel", "ended"), [(False, [["12"]]), (True, [["11", "12"]])])
def test_waiting_jobs_are_ended_and_running_ones_waited_for(commands, monkeypatch, cancel, ended):
    found = (
        queries.QueuedJob("11", "RUNNING", "r", "train a", "n"),
        queries.QueuedJob("12", "PENDING", "r", "train b", ""),
    )
    answers = [found, found[:1], ()] if not cancel else [found, ()]
    monkeypatch.setattr(queries, "queued", lambda runs: list(answers.pop(0)))
    asked, told = [], []
    monkeypatch.setattr(queries, "ask", lambda *command: asked.append(list(command)))
    monkeypatch.setattr(queries.time, "sleep", lambda seconds: None)
    assert queries.settle(["r"], cancel, told.append) == list(found)
    assert asked == [["scancel", *numbers] for numbers in ended]
    assert told == ([] if cancel else ["waiting for 1 running: 11 (train a, RUNNING n)"])
    assert answers == []


def test_runs_are_noted_until_forgotten(tmp_path):
    runs = queries.Runs(tmp_path / "state")
    assert runs.names() == []
    path = runs.note("b", {"master": "login1-7"})
    runs.note("a", {"master": "login1-8"})
    assert runs.names() == ["a", "b"]
    assert runs.of_others({"login1-8"}) == ["b"]
    assert runs.of_others(set()) == ["a", "b"]
    assert path.parent == runs.folder
    runs.forget("b")
    runs.forget("b")
    assert runs.names() == ["a"]


@pytest.fixture
def srun(commands, tmp_path) -> Path:
    """srun runs the command here, as node7 would."""
    path = commands.folder / "srun"
    path.write_text(
        '#!/bin/sh\nexport SLURMD_NODENAME=node7 PATH=/bin:/usr/bin\nwhile [ "$1" != sh ]; do shift; done\n"$@"\n'
        'c=$?; [ $c = 0 ] || echo "srun: error: node7: task 0: Exited with exit code $c" >&2; exit $c\n'
    )
    path.chmod(0o755)
    return path


def test_a_node_looks_for_the_directory_and_for_python(srun, tmp_path, monkeypatch):
    mark, cache = tmp_path / "mark.json", tmp_path / "seen"
    with pytest.raises(ConfigError) as caught:
        queries.look(ResourceRequest(gpu=1), tmp_path, mark, cache)
    (problem,) = caught.value.problems
    assert problem == (
        f"working directory = {tmp_path}: expected a directory that compute nodes see under the same path: "
        "a shared file system (node node7 does not see mark.json)"
    )
    mark.touch()
    with monkeypatch.context() as patched:
        patched.setattr(queries.sys, "executable", "/opt/nowhere/python")
        with pytest.raises(ConfigError) as caught:
            queries.look(ResourceRequest(gpu=1), tmp_path, mark, cache)
        assert caught.value.problems[0].startswith("Python = /opt/nowhere/python: expected a Python with halobench and")
    assert queries.look(ResourceRequest(gpu=1), tmp_path, mark, cache) == ""
    srun.write_text("#!/bin/sh\nexit 1\n")
    assert queries.look(ResourceRequest(gpu=1), tmp_path, mark, cache) == "", "good answers are kept"
    remark = queries.look(ResourceRequest(gpu=2), tmp_path, mark, cache)
    assert remark.startswith("no compute node was free to look")
    (noted,) = cache.iterdir()
    os.utime(noted, (0, 0))
    assert queries.look(ResourceRequest(gpu=1), tmp_path, mark, cache) == remark, "but for a day only"
