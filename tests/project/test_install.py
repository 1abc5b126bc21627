"""What `make` says in one line if the environment can't be made."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from conftest import ROOT

SCRIPT = ROOT / ".ci/install.py"
NOWHERE = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_RETRIES": "1",
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
}


def refused(monkeypatch, folder: Path) -> str:
    """What the script ends with, in this process."""
    monkeypatch.setattr(sys, "argv", ["install.py", str(folder), "test"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert not list(folder.parent.rglob("bin"))
    return str(stop.value)


def test_an_older_python_is_told_which_one_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    assert "3.11 or newer" in refused(monkeypatch, tmp_path / "venv")


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 5 * 10**8, 5 * 10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "0.5 GB free, and 3 GB are needed" in refused(monkeypatch, tmp_path / "venv")


def test_without_a_network_one_line_says_so(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / "venv"), "test", str(ROOT / "constraints.txt")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | NOWHERE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "halobench: pip reaches no package index: check the network; then run the same command again\n"
    )


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_cover_each_requirement_and_pin_no_local_build():
    """A package without a line could break an installation with its next release."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [asked for extra, asked in project["optional-dependencies"].items() if extra != "monitor"]
    asked = {normal(re.match(r"[\w.-]+", line)[0]) for line in sum(extras, project["dependencies"])}
    assert asked - {"halobench"} <= {normal(name) for name in pinned}
    assert "setuptools" in pinned, "which builds the package"
    assert not [version for version in pinned.values() if "+" in version]
