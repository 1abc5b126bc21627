"""What `halobench run` prints into a file: of a grid that ends well, and of one with a cell that fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import Workspace, tiny_config

pytestmark = pytest.mark.workflow
FINISHED = re.compile(r"\[ *(\d+)/(\d+)\] \S+(?: \S+)?  [\d.]+ (?:s|min)(?:  about [\d.]+ (?:s|min|h) left)?")


def small(folder: Path, **grid) -> Workspace:
    """A grid of two cells, or whatever else `grid` says."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["noisy"], "models": ["mlp"], "seeds": [0]} | grid
    config["experiments"]["tiny"] |= {"figures": ["summary"]}
    config["models"]["bad"] = {"name": "mlp", "width": 16, "recipe": {"optimizer": "sgd", "lr": 1e25}}
    return Workspace(folder, config)


def printed(workspace: Workspace, *arguments: str, code: int = 0) -> list[str]:
    """The lines of `halobench run`, which go to standard error."""
    done = workspace.module("halobench.cli.main", "run", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stdout + done.stderr
    return done.stderr.splitlines()


def test_a_run_prints_a_line_per_job_and_where_its_results_are(tmp_path):
    workspace = small(tmp_path)
    lines = printed(workspace, "--cores", "2")
    jobs = [match for match in map(FINISHED.fullmatch, lines) if match]
    total = int(jobs[0][2])
    assert [(int(match[1]), int(match[2])) for match in jobs] == [(n + 1, total) for n in range(total)]
    names = [line.split("] ")[1].split("  ")[0] for line in lines if FINISHED.fullmatch(line)]
    cells = [f"{stage} noisy/mlp/{loss}/seed0" for stage in ("train", "probe", "calibrate")
             for loss in ("cross_entropy", "mixup2")]  # fmt: skip
    drawn = ["manifest tiny", "aggregate tiny", "claims tiny", "figure tiny/summary", "overview tiny", "explorer"]
    assert {"source digits", "reference noisy/seed0", *cells, *drawn} <= set(names)
    # Stages come one after the other.
    for loss in ("cross_entropy", "mixup2"):
        order = [names.index(f"{stage} noisy/mlp/{loss}/seed0") for stage in ("train", "probe")]
        assert order == sorted(order)
    assert names.index("figure tiny/summary") > max(map(names.index, cells))
    assert any("left" in match[0] for match in jobs)
    assert len(lines) <= total + 20
    assert not any("Select jobs" in line or "steps (" in line for line in lines)
    rest = "\n".join(line for line in lines if not FINISHED.fullmatch(line))
    assert re.search(rf"^{total} jobs done in ", rest, re.M)
    assert "Figures: results/figures/tiny/summary.png" in rest
    assert "Explorer: results/explorer.html" in rest
    assert "Next, for the report: halobench report" in rest
    again = printed(workspace, "--cores", "2")
    assert any(line.startswith("Nothing to be done") for line in again)
    assert len(again) <= 4
    dry = workspace.module("halobench.cli.main", "run", "-n")
    assert "Nothing to be done" in dry.stdout


def test_a_cell_that_fails_is_named_at_once_and_at_the_end(tmp_path):
    workspace = small(tmp_path, models=["mlp", "bad"], losses=["mixup2"])
    lines = printed(workspace, "--cores", "2", code=1)
    at_once = [line for line in lines if "train noisy/bad/mixup2/seed0  failed after " in line]
    assert len(at_once) == 1
    assert ": loss is " in at_once[0]
    title = lines.index("1 job failed; each with the last lines of its log:")
    assert title > lines.index(at_once[0])
    assert lines[title + 1] == "  train noisy/bad/mixup2/seed0 (results/logs/train/noisy/bad/mixup2/seed0.log)"
    assert lines[title + 2].startswith("    loss is ")
    done = sum(FINISHED.fullmatch(line) is not None for line in lines)
    (summary,) = [line for line in lines if re.fullmatch(r"\d+ of \d+ jobs done in .*, 1 failed\.", line)]
    assert int(summary.split()[0]) == done == 5, "the source, the reference, and one cell's three jobs"
    assert len(lines) <= done + 20
    assert not any("HALOBENCH_CODE" in line for line in lines), "its command is in its log"
    assert not any(line.startswith("Next") for line in lines)


def test_another_logger_takes_its_place(tmp_path):
    """One that isn't installed is refused by Snakemake, with its own words."""
    done = small(tmp_path).module("halobench.cli.main", "run", "--logger", "nosuch", "--cores", "1")
    assert done.returncode == 2
    assert "argument --logger: invalid choice: 'nosuch'" in done.stderr


def test_mistakes_are_shown_and_end_the_run(tmp_path):
    lines = printed(small(tmp_path), "results/no/such.file", "--cores", "1", code=1)
    assert any("MissingRuleException" in line for line in lines)
    assert not any("done" in line for line in lines)
