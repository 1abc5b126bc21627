"""Questions change nothing: no file, no time of a file, and nothing that Snakemake remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import finished_workspace, one_cell

pytestmark = pytest.mark.workflow

OTHER = ("--config", 'train={"lr": 0.5}')  # as somebody with another configuration might ask
CELL = "noisy/mlp/mixup2/seed0"
QUESTIONS = {
    "snakemake": (["-n", *OTHER], ["--summary", *OTHER], ["--lint"], ["--dag"], ["--list-untracked"]),
    "halobench.cli.main": (["run", "-n", *OTHER], ["status", *OTHER], ["show", CELL], ["verify"]),
}


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All files of a folder but Snakemake's logs and its cache of which files exist, with their times and contents."""
    own = {".snakemake/log", ".snakemake/iocache"}
    paths = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in paths if str(path.parent.relative_to(folder)) not in own]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes()) for path in kept}


def test_no_question_changes_a_file(tmp_path_factory, tmp_path):
    workspace = finished_workspace(tmp_path_factory, "one-cell", one_cell()).copy(tmp_path / "copy")
    before = everything(workspace.folder)
    for program, questions in QUESTIONS.items():
        for question in questions:
            done = workspace.module(program, *question)
            assert done.returncode == (1 if question == ["--lint"] else 0), (question, done.stderr[-2000:])
            assert everything(workspace.folder) == before, question
