"""Folders in which processes work one at a time."""

from __future__ import annotations

import subprocess
import sys

import pytest
from filelock import FileLock, Timeout

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
HOLD = "import sys; from halobench.storage import files; held = files.alone(sys.argv[1]); held.__enter__(); print()\n"


def test_processes_work_in_a_folder_one_at_a_time(tmp_path):
    """Although the lock file comes and goes, no count is lost."""
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "100"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_killed_process_holds_its_folder_no_longer(tmp_path):
    command = [sys.executable, "-c", f"{HOLD}sys.stdout.flush(); sys.stdin.readline()", tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"\n"
        with pytest.raises(Timeout), FileLock(tmp_path / files.LOCK, blocking=False):
            pass
        holder.kill()
    with files.alone(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
