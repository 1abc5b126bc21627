"""What a release consists of, and that a wheel needs nothing but what it declares, alone and with each extra.

The wheel is installed in environments outside the repository, with links to what it needs of this environment; `make
soak` installs that from scratch, and prints how many packages that are, and of what size.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

from conftest import ROOT, SOAK, of_run
from halobench.core.extras import EXTRAS

DIGITS = {"loader": "digits"}
CELL = {
    "dataset": {"source": "digits", "train": 100, "val": 60, "test": 80, "noise": {"p": 0.25}},
    "model": {"name": "mlp", "options": {"width": 16}},
    "loss": {"name": "mixup", "options": {"points": 3}},
    "train": {"epochs": 3, "lr": 0.003},
}
PROBES = {"sphere": {"kind": "sphere", "points": 6, "control": 4, "radii": [0.0, 2.0], "relative_radii": [0.5, 1.0]}}


def done(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run a command without Python variables from this environment."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HALOBENCH", "VIRTUAL"))}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=own, capture_output=True, text=True, timeout=900, check=False
    )


def ran(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints; it must succeed."""
    ended = done(*command, cwd=cwd)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]
    return ended.stdout


def needed(wheel: Path, extra: str) -> dict[str, importlib.metadata.Distribution]:
    """Return the distributions of this environment that the wheel with an extra needs, by name."""
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("dist-info/METADATA"))
    own = zipfile.ZipFile(wheel).read(name).decode().partition("\n\n")[0]
    found: dict[str, importlib.metadata.Distribution] = {}
    seen, open_ = set(), [("halobench", extra)]
    while open_:
        name, extra = open_.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name == "halobench":
            lines = re.findall(r"^Requires-Dist: (.*)$", own, re.M)
        else:
            found[name] = importlib.metadata.distribution(name)
            lines = found[name].requires or []
        for each in map(Requirement, lines):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                open_ += [(each.name.lower(), further) for further in ("", *each.extras)]
    return found


def shared(tmp_path_factory, name: str, make) -> Path:
    """Return a folder that all test processes share, filled by the first that needs it."""
    folder = of_run(tmp_path_factory) / name
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            make(folder)
            (folder / "ready").touch()
    return folder


@pytest.fixture(scope="session")
def dist(tmp_path_factory) -> Path:
    """The folder of the wheel and the archive of sources, built from tracked files alone."""

    def build(folder: Path) -> None:
        source = folder / "source"
        ran("git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", ROOT, source, cwd=folder)
        for name in ran("git", "-C", ROOT, "diff", "--name-only", "HEAD", "--diff-filter=d", cwd=folder).split():
            (source / name).write_bytes((ROOT / name).read_bytes())
        ran(sys.executable, "-m", "build", "--outdir", folder / "dist", source, cwd=folder)

    return shared(tmp_path_factory, "release", build) / "dist"


@pytest.fixture(scope="session")
def wheel(dist) -> Path:
    (found,) = dist.glob("halobench-*.whl")
    return found


@pytest.fixture(scope="session")
def environment(wheel, tmp_path_factory):
    """Return the programs of an environment with the wheel and an extra, or with the core alone."""

    def make(extra: str) -> Path:
        def set_up(folder: Path) -> None:
            ran(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
            (packages,) = (folder / "venv").glob("lib/python*/site-packages")
            size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
            install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            if not SOAK:
                install.append("--no-deps")
                for distribution in needed(wheel, extra).values():
                    for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
                        if not (packages / top).exists():
                            (packages / top).symlink_to(distribution.locate_file(top))
            ran(folder / "venv/bin/python", *install, f"{wheel}[{extra}]" if extra else wheel, cwd=folder)
            if SOAK:
                size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file()) - size
                listed = json.loads(ran(folder / "venv/bin/python", "-m", "pip", "list", "--format=json", cwd=folder))
                count = len({package["name"] for package in listed} - {"pip", "setuptools"})
                print(f"{extra or 'core'}: {count} packages, {size / 1e6:.0f} MB")

        return shared(tmp_path_factory, f"wheel-{extra or 'core'}", set_up) / "venv/bin"

    return make


@pytest.fixture
def installed(environment) -> Path:
    """The folder of the programs that run experiments."""
    return environment("workflow")


PLUGINS = ("snakemake_logger_plugin_halobench", "snakemake_executor_plugin_halobench_slurm")


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name.removeprefix("halobench/") for name in names if name.startswith("halobench/")}
    others = {name.split("/")[0] for name in names} - {"halobench", *PLUGINS}
    tracked = ran("git", "-C", ROOT, "ls-files", "src", ":!*.md", cwd=wheel.parent).split()
    assert {name for name in names if name.split("/")[0] not in others} == {
        name.removeprefix("src/") for name in tracked
    }
    assert {"__init__.pyi", "py.typed", "reporting/templates/base.html"} <= package
    assert all(name.endswith(".dist-info") for name in others)


STAGES = """
import json, sys, halobench
from halobench.cli.main import main
print(halobench.__file__)
sys.exit(any(main(arguments) for arguments in json.loads(sys.argv[1])))
"""


def test_the_installed_wheel_runs_the_stages_on_digits(installed, tmp_path):
    probe = {"dataset": CELL["dataset"], "model": CELL["model"], "train": CELL["train"], "probes": PROBES}
    given = ["--seed", "0", "--source", "digits"]
    commands = [
        ["stage", "source", "--spec", json.dumps(DIGITS), "--out", "digits"],
        ["stage", "train", *given, "--spec", json.dumps(CELL), "--out", "cell"],
        ["stage", "probe", *given, "--spec", json.dumps(probe), "--run", "cell"],
        ["stage", "calibrate", "--seed", "0", "--spec", "{}", "--run", "cell"],
    ]
    said = ran(installed / "python", "-c", STAGES, json.dumps(commands), cwd=tmp_path)
    assert Path(said.splitlines()[0]).is_relative_to(installed.parent)
    metrics = pd.read_csv(tmp_path / "cell/metrics.csv")
    assert set(metrics["calibrator"]) == {"none", "exact", "paper", "oracle"}
    assert len(pd.read_parquet(tmp_path / "cell/radii.parquet"))
    record = json.loads((tmp_path / "cell/train.json").read_text())
    assert record["commit"] is None, "outside a checkout there is none"


def test_the_core_diagnoses_a_file_of_logits(environment, tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 3))
    labels = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    np.savez(tmp_path / "mine.npz", logits=3 * logits, labels=labels)
    told = ran(environment("") / "halobench", "diagnose", "mine.npz", "--out", "found", cwd=tmp_path)
    assert "proved optimal" in told
    found = json.loads((tmp_path / "found/diagnosis.json").read_text())
    assert 2 < found["temperature"]["exact"]["T"] < 4.5, "the logits were three times too large"
    assert {"diagnosis.html", "probabilities.npz"} <= {path.name for path in (tmp_path / "found").iterdir()}


NAMES = """
import halobench, json
found = {}
for name in halobench.__all__:
    try:
        getattr(halobench, name)
    except ImportError as error:
        found[name] = str(error)
print(json.dumps(found))
"""
# The extras that come with an extra.
OF_WORKFLOW = ("parquet", "plot", "train")
WITH = {"workflow": OF_WORKFLOW, "slurm": (*OF_WORKFLOW, "workflow"), "all": tuple(EXTRAS)}


@pytest.mark.parametrize("extra", ["", *(pytest.param(extra, marks=pytest.mark.soak) for extra in (*EXTRAS, "all"))])
def test_a_name_whose_extra_is_missing_says_which_to_install(environment, extra, tmp_path):
    missing = json.loads(ran(environment(extra) / "python", "-c", NAMES, cwd=tmp_path))
    told = re.compile(r'.* needs? \w+: pip install "halobench\[(\w+)\]"')
    named = {name: told.fullmatch(line)[1] for name, line in missing.items()}
    assert not {extra, *WITH.get(extra, ())} & set(named.values())
    if not extra:
        assert {name for name, needs in named.items() if needs == "plot"} == {"figures"}
        assert {"Mixup", "probe", "certified_radius"} <= {name for name, needs in named.items() if needs == "train"}
        core = {"fit_temperature", "fit_partner", "repair_ladder", "ece", "calibrate_file", "theory", "sklearn"}
        assert not (core | {"tables"}) & set(named)


def test_the_core_alone_splits_a_ladder_and_names_the_extra_of_a_command(environment, tmp_path):
    code = "import numpy, halobench; z = numpy.zeros((400, 2)); p = numpy.tile([[.9, .1], [.1, .9]], (200, 1)); "
    code += "print(round(halobench.repair_ladder(z, p, draws=10).noise.value, 3))"
    assert ran(environment("") / "python", "-c", code, cwd=tmp_path).strip() == "0.325"
    code = "import pathlib, numpy, halobench; from halobench.storage import arrays_io; here = pathlib.Path(); "
    code += "arrays_io.write_arrays(here / 'logits.safetensors', {'val.logits': numpy.eye(3)}); "
    code += "print(halobench.TrainedCell(here, here, {}, 0).logits['val.logits'].shape)"
    assert ran(environment("") / "python", "-c", code, cwd=tmp_path).strip() == "(3, 3)"
    pd.DataFrame({"label": [0, 1], "logit_0": [1.0, 0.0], "logit_1": [0.0, 1.0]}).to_parquet(tmp_path / "mine.parquet")
    halobench = environment("") / "halobench"
    for command, extra in (
        ("run", "workflow"),
        ("status", "workflow"),
        ("diagnose mine.parquet", "parquet"),
        ('stage source --spec {"loader":"digits"} --out digits', "train"),
    ):
        refused = done(halobench, *command.split(), cwd=tmp_path)
        assert refused.returncode == 2, command
        (line,) = refused.stderr.splitlines()
        assert re.fullmatch(rf'halobench: error: .* needs? \w+: pip install "halobench\[{extra}\]"', line), line


def test_the_release_can_be_uploaded(dist):
    ran(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)
    (sources,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.name == f"halobench-{version}-py3-none-any.whl"
    assert sources.name == f"halobench-{version}.tar.gz"
    with tarfile.open(sources) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "src/halobench/reporting/templates/base.html"} <= names


def test_the_container_holds_what_its_commands_need(environment, tmp_path):
    """No container is built here: what its file copies is copied, and a run is planned from there."""
    text = (ROOT / "Containerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    copied = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ")]
    for *names, target in copied:
        for name in names:
            to = tmp_path / "image" / target / ("" if len(names) == 1 else name)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            to.parent.mkdir(exist_ok=True, parents=True)
            copy(ROOT / name, to)
    image = tmp_path / "image"
    assert all((image / name).is_file() for name in ("pyproject.toml", project["readme"], *project["license-files"]))
    assert re.search(r'"/opt/halobench\[(\w+)\]"', text)[1] in EXTRAS
    assert json.loads(re.search(r"^ENTRYPOINT (.*)", text, re.M)[1])[0] in project["scripts"]
    python = re.search(r"^FROM .*/python:(\S+)-slim$", text, re.M)[1]
    assert f'python: "{python}"' in (ROOT / ".github/workflows/tests.yml").read_text(), "of tested ones"
    study = tmp_path / "study"
    study.mkdir()
    files = ("--configfile", image / "config.yaml", image / "workflow/experiments/tiny.yaml")
    run = ("run", "-n", "--snakefile", image / "Snakefile", *files)
    assert "train" in ran(environment("workflow") / "halobench", *run, cwd=study)
