"""Benchmarks run with small sizes; whether a test passes doesn't depend on times."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import bench  # noqa: E402
import harness  # noqa: E402
import measures  # noqa: E402

PAGE = measures.PAGE.read_text()


@pytest.mark.parametrize(
    ("measure", "value", "said"),
    [
        ("lines: spine, analysis and desk", "99,999, 1 (of all kinds)", "It is worse: improve it, or change the table"),
        ("files to read for a figure, a key of the configuration, a stage", "1, 1, 99", "It is worse"),
        ("private functions used once", "1", "It is better: change the table"),
        ("files that nobody reads", "1", "in AGENTS.md missing. Enter it"),
    ],
)
def test_a_number_that_differs_from_the_table_fails(measure, value, said):
    (line,) = measures.complaints(PAGE, {measure: value})
    assert line.startswith(f"{measure}: {value}, ")
    assert said in line


def test_every_row_of_the_table_is_measured():
    assert {row[0].split(" (")[0] for row in measures.rows_of(PAGE, measures.HEADING)} == {*measures.measured()}


# `make soak` and `make bench-quick` run all of them.
@pytest.mark.parametrize(
    "topic", ["metrics", *(pytest.param(topic, marks=pytest.mark.soak) for topic in bench.TOPICS if topic != "metrics")]
)
def test_benchmark_runs(topic, tmp_path):
    rows, growth = tmp_path / "rows.json", tmp_path / "growth.json"
    command = [sys.executable, ROOT / f"benchmarks/{topic}.py", "--quick", "--rows", rows, "--growth", growth]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [harness.Row(**row) for row in json.loads(rows.read_text())]
    assert found
    for row in found:
        assert row.ratios
        assert all(map(math.isfinite, row.ratios))
        assert min(row.ratios) >= 0
    for _, size, seconds, peak in json.loads(growth.read_text()):
        assert size > 0
        assert seconds > 0
        assert peak >= 0


def test_verdict_goes_by_the_median():
    assert harness.Row("a", "b", [1.0, 1.1, 9.0], most=1.1).verdict == "reached"
    assert harness.Row("a", "b", [1.0, 1.2, 1.3], most=1.1).verdict == "MISSED"
    assert harness.Row("a", "b", [1.9, 2.0, 3.0], least=2.0).verdict == "reached"
    assert harness.Row("a", "b", [1.9, 1.9, 3.0], least=2.0).verdict == "MISSED"
    assert harness.Row("a", "b", [1.0]).verdict == "-"


def test_turns_go_back_and_forth():
    said = []
    times = harness.turns(lambda: said.append("a"), lambda: said.append("b"), count=2, warm=1)
    assert "".join(said) == "baabba"
    assert [len(each) for each in times] == [2, 2]


def test_table_and_picture(tmp_path):
    where = dict.fromkeys(("date", "machine", "python", *bench.PACKAGES), "1")
    row = {"what": "fit", "against": "peer", "ratios": [0.5, 0.25, 0.3], "most": 0.5, "least": None, "note": "n"}
    growth = [["fit", 10, 0.1, 2**20], ["fit", 100, 1.0, 2**23]]
    measured = {"temperature": {"circumstances": where, "rows": [row], "growth": growth}}
    text = bench.readme(measured)
    assert "| fit | peer | <= 0.5 | 0.3 | 0.25 | 0.5 | 3 | reached | n |" in text
    assert text.count("\n## ") == 2
    bench.draw(measured, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000


GPU_ALONE = """
import sys

missing = "snakemake", "pyarrow", "matplotlib", "seaborn", "plotly", "jsonschema"
sys.modules |= dict.fromkeys(missing)  # None there: importing it fails
sys.path.insert(0, sys.argv.pop(1))
import gpu
sys.exit(gpu.main())
"""


@pytest.mark.soak
def test_the_gpu_benchmark_runs_on_a_cpu_with_few_packages(tmp_path):
    out = tmp_path / "findings.json"
    command = [sys.executable, "-c", GPU_ALONE, ROOT / "benchmarks", "--device", "cpu", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {one["what"]: one for one in json.loads(out.read_text())["findings"]}
    for name in ("logits", "loss", "confidence"):  # the same device twice gives the same numbers
        assert findings[f"MLP, {name}"]["found"].startswith("0.0e+00 ")
        assert findings[f"MLP, {name}"]["right"] is True
    for what in ("training MLP", "probing MLP"):
        assert "images/s compared with" in findings[what]["found"]
