"""Folders in which processes work one at a time, unfinished files, and files from the future."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout

from conftest import end, holder
from halobench.storage import files

pytestmark = pytest.mark.faults

COUNT = """
import sys
from pathlib import Path
from halobench.storage import files
for _ in range(25):
    with files.alone(sys.argv[1]):
        count = Path(sys.argv[1], "count")
        count.write_text(str(int(count.read_text()) + 1))
"""


@pytest.mark.process
def test_processes_work_in_a_folder_one_at_a_time(tmp_path):
    """Although the lock file comes and goes, no count is lost; a process that was killed holds the folder no longer."""
    code = "from halobench.storage import files; held = files.alone(sys.argv[1]); held.__enter__()"
    killed = holder(code, tmp_path)
    with pytest.raises(Timeout), FileLock(tmp_path / files.LOCK, blocking=False):
        pass
    end(killed)
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_file_gets_the_usual_mode_though_the_umask_is_never_touched(tmp_path, monkeypatch):
    """The umask belongs to the whole process: a thread that creates a file while it is 0 would let everybody write."""
    before = os.umask(0o027)
    monkeypatch.setattr(os, "umask", None)
    try:
        with files.replacing(tmp_path / "a.safetensors") as temporary:
            temporary.unlink()  # as safetensors does
            os.close(os.open(temporary, os.O_CREAT, 0o600))
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.process
def test_only_what_dead_writers_left_is_swept_away(tmp_path):
    """A living writer's file, a recent one, and unrelated files stay."""
    code = "from halobench.storage import files as store; kept = store.replacing(sys.argv[1]); kept.__enter__()"
    living, dead = (holder(code, tmp_path / f"{name}.csv") for name in ("living", "dead"))
    end(dead)
    (tmp_path / ".hidden").touch()
    old = time.time() - 3600
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    young = tmp_path / f"{files.TEMPORARY}young-1.csv"
    young.touch()
    files.sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert {".hidden", young.name} < left
    assert sum(name.startswith(f"{files.TEMPORARY}living") for name in left) == 1
    assert not any(name.startswith(f"{files.TEMPORARY}dead") for name in left)
    end(living)
