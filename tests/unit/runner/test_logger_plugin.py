"""The logger plug-in, fed with records like those of Snakemake 9.27."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from halobench.runner import end_of_run
from halobench.storage import files
from snakemake_logger_plugin_halobench import LogHandler
from snakemake_logger_plugin_halobench.lines import Lines

CELL = {"dataset": "clean", "model": "mlp", "loss": "mixup2", "seed": "0"}
LOG = "results/logs/train/clean/mlp/mixup2/seed0.log"
STATS = {"source": 1, "train": 4, "figure_summary": 1, "figure_radii": 1, "all": 1, "probes": 1, "total": 9}


class TestInterface(TestLogHandlerBase):
    """The interface's own tests for plug-ins."""

    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return None  # it has no options


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with the clock stopped."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(event: LogEvent | None, message: str | None = None, level: int = logging.INFO, **facts) -> logging.LogRecord:
    made = logging.LogRecord("snakemake.logging", level, "x.py", 1, message, (), None)
    made.__dict__.update(facts | ({"event": event} if event else {}))
    return made


def job(number: int, rule: str = "train", wildcards: dict = CELL, **facts) -> logging.LogRecord:
    common = {"input": ["in"], "output": [f"results/{number}.csv"], "log": [LOG], "reason": "Forced execution"}
    common |= {"resources": {"_cores": 1, "gpu": 1, "mem_mb": "<TBD>"}, "threads": 1, "local": True, "shellcmd": "true"}
    common |= {"rule_msg": None, "indent": False}
    return record(LogEvent.JOB_INFO, " Rule", jobid=number, rule_name=rule, wildcards=wildcards, **(common | facts))


def begin(view, stats: dict = STATS):
    view.take(record(None, "Building DAG of jobs..."))
    view.take(record(LogEvent.WORKFLOW_STARTED, cwd="/there"))
    view.take(record(None, "Using shell: /usr/bin/bash"))
    view.take(record(LogEvent.RUN_INFO, "Job stats: ...", stats=stats))
    return view


def finish(view, number: int) -> None:
    view.take(record(LogEvent.JOB_FINISHED, f"Finished jobid: {number}", job_id=number))
    view.take(record(LogEvent.PROGRESS, done=1, total=8))


def fail(view, number: int, exception: str = "", slurm: Sequence[str] = ()) -> None:
    if exception:
        view.take(record(LogEvent.ERROR, exception, logging.ERROR, exception="RuleException"))
    logs = [LOG, *slurm]
    view.take(record(LogEvent.JOB_ERROR, "Error in rule train", logging.ERROR, jobid=number, log=logs))


def age(view, number: int, seconds: float) -> None:
    """Make a running job older."""
    view.running[number].since -= seconds


def end(view) -> None:
    """Say what Snakemake says at the end of a run that isn't complete, and close the view."""
    failure = "WorkflowError:\nAt least one job did not complete successfully."
    view.take(record(LogEvent.ERROR, failure, logging.ERROR, exception="WorkflowError"))
    view.close()


def write_log(text: str, age: float = 0.0) -> None:
    path = Path(LOG)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"$ halobench stage train --seed 0\n{text}")
    os.utime(path, (time.time() - age,) * 2)


def quiet_about_commands() -> MockOutputSettings:
    settings = MockOutputSettings()
    settings.printshellcmds = False
    return settings


@pytest.fixture
def lines(capsys):
    view = Lines(quiet_about_commands())
    return view, lambda: capsys.readouterr().err.splitlines()


def test_a_line_per_finished_job_and_no_other(lines):
    view, said = lines
    begin(view)
    for number in (1, 2):
        view.take(record(None, "Select jobs to execute..."))
        view.take(record(LogEvent.JOB_STARTED, "Execute 1 jobs...", jobs=[number]))
        view.take(job(number))
        view.take(record(LogEvent.SHELLCMD, "Shell command: true", shellcmd="true"))
        age(view, number, 60)
        view.began = time.time() - 120
        finish(view, number)
    left = ["about 6 min left", "about 2 min left"]  # one job in two minutes, two in two minutes; the others are quick
    assert said() == [f"[{n + 1}/7] train clean/mlp/mixup2/seed0  60 s  {left[n]}" for n in range(2)]


def test_the_time_left_is_shared_by_what_runs_at_once(lines):
    """Three of five one-minute jobs are done after 90 s, so two ran at once, and so will the others."""
    view, _ = lines
    begin(view, {"train": 5})
    for number in range(3):
        view.take(job(number))
        age(view, number, 60)
        finish(view, number)
    view.began = time.time() - 90
    assert view._left() == "  about 60 s left"
    view.take(job(3))
    view.take(job(4))
    assert view._left() == "  about 60 s left"
    age(view, 3, 30)
    view.began -= 15
    assert view._left() == "  about 45 s left"
    fail(view, 4)
    assert view._left() == "  about 15 s left", "what failed takes no more time"
    finish(view, 3)
    assert view._left() == ""


def test_no_time_left_is_told_while_a_stage_runs_of_which_nothing_is_known(lines):
    """Quick sources say nothing about how long a training takes."""
    view, _ = lines
    begin(view, {"source": 3, "train": 2})
    for number in range(2):
        view.take(job(number, "source", {"source": "digits"}))
        age(view, number, 1)
        finish(view, number)
    view.began -= 2
    assert view._left() == ""
    view.take(job(2))
    age(view, 2, 60)
    finish(view, 2)
    view.began -= 60
    assert view._left() == "  about 61 s left", "the third source, and another training"


LOST = "halobench: error: clean/mlp/mixup2/seed0: loss is nan\n"
TABLE = "1 job failed; here are the last lines of each log:"


def test_a_job_that_fails_is_told_by_the_ends_of_its_logs_and_not_by_its_command(lines):
    """Its own log, SLURM's, and that of the group that it ran in."""
    view, said = lines
    begin(view)
    view.take(job(1))
    write_log(f"epoch 1/3\nepoch 2/3\nepoch 3/3\n{LOST}")
    Path("10.log").write_text("slurmstepd: error: out of time\n")
    group = {"aux_logs": ["group.log"], "job_error_info": [{"jobid": 1}], "groupid": "small"}
    view.take(record(LogEvent.GROUP_ERROR, "Error in group small", logging.ERROR, **group))
    fail(view, 1, "RuleException:\nCalledProcessError in file train.smk", ["9.log", "10.log"])
    end(view)
    first, *table, tally, resume = said()
    assert first.endswith(": loss is nan")
    ends = ("epoch 2/3", "epoch 3/3", "loss is nan", "9.log", "10.log: slurmstepd: error: out of time", "group.log")
    assert table == [TABLE, f"  train clean/mlp/mixup2/seed0 ({LOG})", *(f"    {line}" for line in ends)]
    assert tally == "0 of 7 jobs done in 0.0 s, 1 failed."
    assert "`partial`" in resume


STOPPED = "stopped by SIGINT; saved at epoch 2 of 3"
SAVED = f"halobench: clean/mlp/mixup2/seed0: {STOPPED}\n"


def test_a_run_that_a_signal_stopped_has_not_failed(lines):
    """SLURM's executor cancels a job without reporting it: here, the second one."""
    view, said = lines
    begin(view)
    for number in (1, 2, 3):
        view.take(job(number))
    finish(view, 3)
    write_log(SAVED)
    fail(view, 1, "RuleException:\nCalledProcessError in file train.smk")
    end(view)
    _, first, last = said()
    assert first == f"[1/7] train clean/mlp/mixup2/seed0  stopped after 0.0 s: {STOPPED}"
    assert last.startswith("The run was stopped: 1 of 7 jobs done in 0.0 s.")


def test_a_run_that_was_stopped_and_let_its_jobs_finish(lines):
    """As Snakemake does on SIGTERM."""
    view, said = lines
    begin(view)
    view.take(job(1))
    finish(view, 1)
    end(view)
    assert said()[-1].startswith("The run was stopped: 1 of 7 jobs")


def test_failed_jobs_are_told_even_if_the_run_was_then_stopped(lines):
    view, said = lines
    begin(view)
    for number, log in ((1, LOST), (2, SAVED)):
        view.take(job(number))
        write_log(log)
        fail(view, number)
    end(view)
    _, _, *table, tally, _ = said()
    assert (table[0], table[2:]) == (TABLE, ["    loss is nan"])
    assert tally == "0 of 7 jobs done in 0.0 s, 1 failed, 1 stopped."


def test_a_job_without_a_word_is_told_by_its_exception(lines):
    view, said = lines
    begin(view)
    view.take(job(1))
    fail(view, 1, "RuleException:\nCalledProcessError in file train.smk")
    assert said()[1:] == ["RuleException:", "CalledProcessError in file train.smk"]


def test_a_job_killed_before_its_first_line_is_not_told_by_the_log_of_an_earlier_attempt(lines):
    view, said = lines
    begin(view)
    write_log("epoch 3/3\ntrain accuracy 1.0\n", age=60)
    view.take(job(1))
    Path("10.log").write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    fail(view, 1, "RuleException:\nCalledProcessError in file train.smk", ["10.log"])
    end(view)
    first, *table, _, _ = said()
    assert first.endswith("failed after 0.0 s: slurmstepd: error: Detected 1 oom_kill event")
    assert table == [
        TABLE,
        f"  train clean/mlp/mixup2/seed0 ({LOG})",
        "    slurmstepd: error: Detected 1 oom_kill event",
        "    10.log",
    ]


def test_a_job_that_ended_before_its_stage_started_is_told_by_its_slurm_log(lines):
    view, said = lines
    begin(view)
    view.take(job(1))
    Path("10.log").write_text(
        "host: node1\nBuilding DAG of jobs...\nThe configuration has problems:\ntrain.lr = 'fast'\n"
    )
    fail(view, 1, "RuleException:\nCalledProcessError in file train.smk", ["10.log"])
    end(view)
    assert said()[0].endswith("failed after 0.0 s: train.lr = 'fast'")


def test_a_job_that_is_started_again_has_not_failed(lines):
    view, said = lines
    begin(view, {"figure_summary": 1})
    for attempt in range(2):
        view.take(job(1, "figure_summary", {"experiment": "tiny"}))
        if attempt == 0:
            fail(view, 1, "RuleException:\nCalledProcessError")
    assert (list(view.failed), list(view.running)) == ([], [1])
    finish(view, 1)
    view.close()
    assert said()[-1] == "1 job done in 0.0 s."


STARTED = (LogEvent.WORKFLOW_STARTED, "")
BROKEN = "WorkflowError:\nno such rule"


@pytest.mark.parametrize(
    ("stats", "records", "expected"),
    [
        (STATS, [], []),  # refused before its first job
        (STATS, [(None, "beware", logging.WARNING), (LogEvent.ERROR, BROKEN)], ["beware", *BROKEN.splitlines()]),
        ({}, [(None, "Unlocked working directory.")], ["Unlocked working directory."]),
        ({}, [STARTED, (LogEvent.ERROR, "LockException:")], ["LockException:"]),
    ],
    ids=["refused", "broken off", "--unlock", "locked"],
)
def test_a_run_without_a_job_shows_snakemakes_messages_and_no_summary(lines, stats, records, expected):
    view, said = lines
    if stats:
        begin(view, stats)
    for event, message, *level in records:
        facts = {"exception": message.partition(":")[0]} if event == LogEvent.ERROR else {}
        view.take(record(event, message, *(level or [logging.ERROR] * bool(facts)), **facts))
    view.close()
    assert said() == expected


def test_nothing_to_be_done_is_one_line_and_the_pages(lines, folder):
    view, said = lines
    (folder / "results").mkdir()
    (folder / "results/index.html").touch()
    view.take(record(LogEvent.WORKFLOW_STARTED, cwd="/there"))
    view.take(record(None, "Nothing to be done (all requested files are present and up to date)."))
    view.close()
    first, second = said()
    assert first.startswith("Nothing to be done")
    assert "results/index.html" in second


def test_silence_leaves_failures_and_the_end(capsys):
    settings = MockOutputSettings()
    settings.quiet = {Quietness.PROGRESS, Quietness.RULES}
    Path("results").mkdir()
    Path("results/1.csv").touch()
    view = begin(Lines(settings), {"train": 1})
    view.take(job(1))
    view.close()  # Snakemake is silent too, and doesn't report which jobs have succeeded
    assert capsys.readouterr().err.splitlines() == ["1 job done in 0.0 s."]
    view = begin(Lines(settings), {"train": 3})
    for number in (1, 2, 3):
        view.take(job(number))
    fail(view, 2, "RuleException:\nCalledProcessError")
    end(view)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("[0/3] train clean/mlp/mixup2/seed0  failed after ")
    assert said[-2] == "1 of 3 jobs done in 0.0 s, 1 failed, 1 stopped."


def test_the_summary_names_what_was_found_and_written(folder):
    """The answers of each experiment, and the page that leads to all others or, without it, the folders of figures."""
    outputs = [f"results/figures/tiny/{name}.{kind}" for name in ("radii", "summary") for kind in ("png", "pdf")]
    outputs += ["results/figures/other/log_k.png", "results/tables/tiny/answers.json", "results/tables/tiny/claims.csv"]
    answers = folder / "results/tables/tiny/answers.json"
    said = ["tiny:", "  Why? Because.", "  How? Somehow."]
    figures = ["Figures: results/figures/other", "Figures: results/figures/tiny"]
    assert end_of_run.summary(outputs) == figures, "no answers were written"
    listed = [
        {"question": "Why?", "lead": "Because."},
        {"question": "How?", "lead": "Somehow."},
    ]
    files.write_json(answers, {"answers": listed, "claims": []})
    assert end_of_run.summary(outputs) == [*said, *figures]
    own = [{"statement": "A is less than B", "found": "holds (−0.120 [−0.150, −0.090])"}]
    files.write_json(answers, {"answers": listed, "claims": own})
    found = "  A is less than B: holds (−0.120 [−0.150, −0.090])."
    assert end_of_run.summary(outputs) == [*said, found, *figures]
    files.write_json(answers, {"answers": listed, "claims": []})
    last = "Start at results/index.html: it leads to all figures, tables and claims."
    assert end_of_run.summary([*outputs, "results/index.html"]) == [*said, last]
    assert end_of_run.summary(["results/runs/clean/mlp/mixup2/seed0/train.json"]) == []
    for broken in ("{", '{"answers": "none"', "[]", '{"claims": []}', '{"answers": [1], "claims": []}'):
        answers.write_text(broken)
        assert end_of_run.summary(outputs) == figures, broken


def test_a_dry_run_is_left_to_snakemake(capsys):
    settings = MockOutputSettings()
    settings.dryrun = True
    handler = LogHandler(settings, None)
    assert not handler.writes_to_stream
    handler.emit(record(LogEvent.RUN_INFO, stats={"train": 1}))
    handler.close()
    assert capsys.readouterr().err == ""
