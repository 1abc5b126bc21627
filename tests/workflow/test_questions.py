"""Questions change nothing: no file, no time of a file, and nothing that Snakemake remembers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import SOAK
from halobench.results.status import NOTHING

ROOT = Path(__file__).parents[2]
OTHER = ("--config", 'train={"lr": 0.5}')  # as somebody with another configuration might ask
CELL = "noisy/mlp/mixup2/seed0"
QUESTIONS = {
    "snakemake": [["--summary", *OTHER], ["--lint"]],
    "halobench.cli.main": [["run", "-n", *OTHER], ["show", CELL], ["verify"]],
}
if SOAK:
    QUESTIONS["snakemake"] += [["-n", *OTHER], ["--dag"], ["--list-untracked"]]
    QUESTIONS["halobench.cli.main"] += [["status", *OTHER]]


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files of a folder but Snakemake's logs and its cache of which files exist, with their times and contents."""
    own = {".snakemake/log", ".snakemake/iocache"}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in paths if str(path.parent.relative_to(folder)) not in own]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes()) for path in kept}


def test_no_question_changes_a_file(finished_one, tmp_path):
    workspace = finished_one.copy(tmp_path / "copy")
    before = everything(workspace.folder)
    for program, questions in QUESTIONS.items():
        for question in questions:
            done = workspace.module(program, *question)
            assert done.returncode == (1 if question == ["--lint"] else 0), (question, done.stderr[-2000:])
            assert everything(workspace.folder) == before, question


def test_what_would_run_is_told_where_snakemake_can_write_nothing(finished_one, tmp_path):
    """Of a folder of someone else, of which nobody can create `.snakemake` (here, it is a file)."""
    workspace = finished_one.copy(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/.snakemake")
    (tmp_path / "copy/.snakemake").touch()
    done = workspace.halobench("run", "-n")
    assert (done.returncode, done.stdout) == (0, f"{NOTHING}\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Snakemake can't list the jobs by rule: ")


def test_snakemake_without_halobench_says_how_to_install_it(tmp_path):
    """As on a page that lints workflows without their programs."""
    missing = tmp_path / "halobench/__init__.py"
    missing.parent.mkdir()
    missing.write_text("raise ModuleNotFoundError(\"No module named 'halobench'\")\n")
    command = [sys.executable, "-m", "snakemake", "--lint", "--snakefile", str(ROOT / "workflow/Snakefile")]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "No module named 'halobench'; install halobench next to Snakemake: pip install" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
