"""A wheel installed in an environment outside the repository has everything that its commands need.

Its dependencies are those of this environment; `make soak` installs them from scratch, so each must be declared.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, SOAK

pytestmark = pytest.mark.workflow

DIGITS = {"loader": "digits"}
CELL = {
    "dataset": {"source": "digits", "train": 100, "val": 60, "test": 80, "noise": {"p": 0.25}},
    "model": {"name": "mlp", "options": {"width": 16}},
    "loss": {"name": "mixup", "options": {"points": 3}},
    "train": {"epochs": 3, "lr": 0.003},
}
PROBES = {"sphere": {"kind": "sphere", "points": 6, "control": 4, "radii": [0.0, 2.0], "relative_radii": [0.5, 1.0]}}


def ran(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; it must succeed without Python variables from this environment."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HALOBENCH", "VIRTUAL"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=own, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def built(folder: Path) -> None:
    """Build a wheel in ``dist`` from the repository's tracked files, so it has no leftovers from other builds."""
    ran("git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", ROOT, folder / "source", cwd=folder)
    for name in ran("git", "-C", ROOT, "diff", "--name-only", "HEAD", "--diff-filter=d", cwd=folder).split():
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    ran(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder / "source", cwd=folder)


def set_up(folder: Path) -> None:
    """Create an environment in ``venv`` with the wheel, and links to what it needs."""
    (wheel,) = (folder / "dist").glob("halobench-*.whl")
    ran(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not SOAK:
        install.append("--no-deps")
        (packages,) = (folder / "venv").glob("lib/python*/site-packages")
        for found in Path(sysconfig.get_path("purelib")).iterdir():
            ours = "halobench" in found.name or found.suffix == ".pth"  # which may point to the checkout
            if not ours and not (packages / found.name).exists():
                (packages / found.name).symlink_to(found)
    ran(folder / "venv/bin/python", *install, wheel, cwd=folder)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """The folder of wheel and environment, shared by all test processes and filled by the first that needs it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "wheel"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            built(folder)
            set_up(folder)
            (folder / "ready").touch()
    return folder


@pytest.fixture
def wheel(place) -> Path:
    (found,) = (place / "dist").glob("halobench-*.whl")
    return found


@pytest.fixture
def installed(place) -> Path:
    """The folder of the installed programs."""
    return place / "venv/bin"


PLUGINS = ("snakemake_logger_plugin_halobench", "snakemake_executor_plugin_halobench_slurm")


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name.removeprefix("halobench/") for name in names if name.startswith("halobench/")}
    others = {name.split("/")[0] for name in names} - {"halobench", *PLUGINS}
    tracked = ran("git", "-C", ROOT, "ls-files", "src", cwd=wheel.parent).split()
    assert {name for name in names if name.split("/")[0] not in others} == {
        name.removeprefix("src/") for name in tracked
    }
    assert {"py.typed", "reporting/templates/base.html"} <= package
    assert all(name.endswith(".dist-info") for name in others)


def test_the_installed_wheel_runs_the_stages_on_digits(installed, tmp_path):
    halobench = installed / "halobench"
    where = ran(installed / "python", "-c", "import halobench; print(halobench.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)
    ran(halobench, "stage", "source", "--spec", json.dumps(DIGITS), "--out", "sources/digits", cwd=tmp_path)
    given = ("--seed", "0", "--source", "sources/digits")
    ran(halobench, "stage", "train", *given, "--spec", json.dumps(CELL), "--out", "cell", cwd=tmp_path)
    probe = {"dataset": CELL["dataset"], "model": CELL["model"], "train": CELL["train"], "probes": PROBES}
    ran(halobench, "stage", "probe", *given, "--spec", json.dumps(probe), "--run", "cell", cwd=tmp_path)
    ran(halobench, "stage", "calibrate", "--seed", "0", "--spec", "{}", "--run", "cell", cwd=tmp_path)
    metrics = pd.read_csv(tmp_path / "cell/metrics.csv")
    assert set(metrics["calibrator"]) == {"none", "exact", "paper", "oracle"}
    assert len(pd.read_parquet(tmp_path / "cell/radii.parquet"))
    record = json.loads((tmp_path / "cell/train.json").read_text())
    assert record["commit"] is None, "outside a checkout there is none"


def test_the_installed_wheel_calibrates_a_file_of_logits(installed, tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 3))
    labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    np.savez(tmp_path / "mine.npz", logits=3 * logits, labels=labels)
    told = ran(installed / "halobench", "diagnose", "mine.npz", "--out", "found", cwd=tmp_path)
    assert "proved optimal" in told
    found = json.loads((tmp_path / "found/diagnosis.json").read_text())
    assert 2 < found["temperature"]["exact"]["T"] < 4.5, "the logits were three times too large"
    assert {"diagnosis.html", "probabilities.npz"} <= {path.name for path in (tmp_path / "found").iterdir()}
