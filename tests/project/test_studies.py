"""Studies: each says how to repeat it, in a few lines, and their scripts run on small input."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT
from halobench.core import plugins
from studies.rivals import compare
from synthetic import STUDIES

FOLDERS = sorted(path for path in (ROOT / "studies").iterdir() if path.is_dir() and path.name != "__pycache__")


def ran(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The finished process of a study's module, which has succeeded."""
    command = [sys.executable, "-m", f"studies.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_study_says_in_six_lines_how_to_repeat_it(folder):
    """Its commands name modules, files and pictures that exist, and the list of studies has its name."""
    text = (folder / "README.md").read_text()
    heading, *lines = filter(None, text.splitlines())
    assert heading.startswith("# ")
    assert 3 <= len(lines) <= 6
    kept = re.sub(r"`git checkout [^`]*`,\s+then\s+`[^`]*`", "", text)  # of earlier commits
    for module in re.findall(r"python -m ([\w.]+)", kept):
        assert importlib.util.find_spec(module), module
    named = re.findall(r"--configfile ([^\s`]+)|\]\(\.\./\.\./([\w./-]+)|docs/pictures\.py published ([\w -]+)`", text)
    assert named or "python -m" in text
    for file, link, pictures in named:
        for path in [file or link] if file or link else [f"docs/{name}.png" for name in pictures.split()]:
            assert (ROOT / path).exists(), path
    assert f"]({folder.name}/README.md)" in (ROOT / "studies/README.md").read_text()


def test_the_figures_of_studies_are_those_that_their_configurations_name():
    configurations = [path.read_text() for path in (ROOT / "studies").glob("*/*.yaml")]
    named = {name for text in configurations for name in re.findall(r'"(studies\.[^"]+:draw)"', text)}
    assert sorted(named) == sorted(STUDIES)
    assert all(plugins.load("figures", name) for name in STUDIES)


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("probmetrics") is None, reason="needs the extra posthoc")
def test_the_study_of_rivals_runs_and_leaves_its_results_alone():
    before = compare.MEASURED.read_bytes()
    done = ran("rivals.compare", "--quick", "iris, LDA", "TS is the truth, k = 10, n = 300")
    assert "| `partner` |" in done.stdout
    assert compare.MEASURED.read_bytes() == before


def test_intervals_of_rivals_are_students_with_a_corrected_variance():
    values = [0.0, 1.0, 2.0]  # variance 1; t of 2 degrees of freedom: 4.3027
    low, high = compare.interval(values, 0.0)
    assert (low, high) == pytest.approx((1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-3)
    low, high = compare.interval(values, 0.5)
    assert (low, high) == pytest.approx((1 - 4.3027 * (1 / 3 + 0.5) ** 0.5, 1 + 4.3027 * (5 / 6) ** 0.5), abs=1e-3)


def test_costs_of_rivals_compare_accuracy_with_that_of_ts(monkeypatch):
    """Three labels in five are the prediction's partner, which TS can't predict and partner scaling can."""
    monkeypatch.setattr(compare, "METHODS", ("partner",))
    top = np.repeat(np.arange(4), 100)
    logits = 3.0 * np.eye(4)[top] + np.random.default_rng(0).normal(scale=0.1, size=(400, 4))
    labels = np.where(np.arange(400) % 5 < 3, top ^ 1, top)
    split = compare.Split(logits, labels, logits, labels)
    row = compare.costs({"not a kind": compare.Kind("planted", lambda seed: split)}).splitlines()[2]
    assert row.startswith("| `partner` | +20.0, +20.0, +20.0 |")
