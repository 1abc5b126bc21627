"""The conformance test: its sets, its referee and its verdicts, on implementations known to be good and bad."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import mpmath
import numpy as np
import pytest
from scipy.special import log_softmax

from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks/conformance"))

import page
import run
import verdicts
from verdicts import FAILED, NEAR, RIGHT, UNSUPPORTED, WRONG

from halobench.testing import optimum as referee
from halobench.testing.logit_sets import EVERYDAY, SETS, TemperatureSet

CHEAP = {name: each for name, each in SETS.items() if each.kind not in (EVERYDAY, "many rows")}
PLAIN = SETS["T .3 to 30: T near 3"]
SEPARABLE = SETS["no finite T: separable"]


def arrays(each: TemperatureSet) -> tuple[np.ndarray, np.ndarray]:
    """The logits and targets of a set."""
    return each.logits, each.labels


def precise(z: np.ndarray, y: np.ndarray, beta: float, digits: int = 40) -> mpmath.mpf:
    """The derivative of the mean NLL in beta, with `digits` digits."""
    with mpmath.workdps(digits):
        total = mpmath.mpf(0)
        for row, target in zip(z.astype(float), y, strict=True):
            s = [mpmath.mpf(float(value)) for value in row if np.isfinite(value)]
            weights = [mpmath.exp(beta * (value - max(s))) for value in s]
            mean = mpmath.fdot(weights, s) / mpmath.fsum(weights)
            picked = row[target] if np.ndim(target) == 0 else mpmath.fdot(map(float, target), map(float, row))
            total += mean - mpmath.mpf(picked)
        return total / len(z)


@pytest.mark.parametrize(
    "name",
    [
        "few rows: one row, neither",
        "few rows: 5 rows",
        "few rows: 20 rows",
        "tiny or huge T: T near 1e-06",
        "tiny or huge T: T near 1e+06",
        "nearly separable: one label wrong, by .001",
        "shifts, outliers: each row shifted by up to 1e4",
        "number types: float16",
        "-inf: a third of the other classes",
        "soft targets: smoothed labels",
    ],
)
def test_the_optimum_is_that_of_forty_digits(name):
    z, y = arrays(SETS[name])
    beta = referee.optimum(z, y).beta
    assert precise(z, y, beta * (1 - 1e-9)) < 0 < precise(z, y, beta * (1 + 1e-9))


def test_sets_have_the_optimum_that_their_names_promise():
    betas = {name: each.optimum.beta for name, each in CHEAP.items()}
    for name, beta in betas.items():
        if promised := re.search(r"T near ([\d.e+-]+)$", name):
            assert 1 / beta == pytest.approx(float(promised[1]), rel=0.02)
        if "separable" in name:
            assert (beta == math.inf) == name.startswith("no finite T")
    # Three of four labels agree with a logit of 1 against 0; targets from the model itself give back its temperature.
    assert betas["ties, copies: one row, a thousand times"] == pytest.approx(math.log(3), rel=1e-12)
    assert betas["soft targets: the true posterior"] == pytest.approx(1 / 3, rel=1e-12)
    assert betas["no finite T: every label has the lowest logit"] == betas["no finite T: all logits equal"] == 0


@pytest.mark.parametrize("name", ["T .3 to 30: T near 3", "soft targets: smoothed labels", "classes: 2 classes"])
@pytest.mark.parametrize("beta", [-0.5, 0.0, 0.4, 30.0])
def test_the_plain_nll_is_scipys(name, beta):
    z, y = arrays(SETS[name])
    rows = np.eye(z.shape[1])[y] if y.ndim == 1 else y
    assert referee.plain(z, y, beta)[0] == pytest.approx(-(rows * log_softmax(beta * z, axis=1)).sum(axis=1).mean())


def test_a_false_optimum_is_not_believed(monkeypatch):
    z, y = arrays(PLAIN)
    fit = referee.fit_temperature(z, y)
    for wrong in (1.0001, 0.9999):
        monkeypatch.setattr(referee, "fit_temperature", lambda *_, w=wrong: _replaced(fit, beta=fit.beta * w))
        with pytest.raises(RuntimeError, match="isn't confirmed"):
            referee.optimum(z, y)
    z, y = arrays(SEPARABLE)
    y[0] = z[0].argmin()  # what is said to be separable isn't
    monkeypatch.setattr(referee, "fit_temperature", lambda *_: _replaced(fit, beta=math.inf, separable=True))
    with pytest.raises(RuntimeError, match="isn't confirmed"):
        referee.optimum(z, y)


def _replaced(fit, **changes):
    return type(fit)(**(vars(fit) | changes))


START = arrays(PLAIN)[1][:9].tolist()
TOYS = {
    "good": ("return 2.97305601", RIGHT, ""),
    "nearly": ("return 3.2", NEAR, ""),
    "off": ("return {'T': 1.5, 'converged': True}", WRONG, "claims to have converged"),
    "admits it": ("return {'T': 1.5, 'converged': False}", FAILED, ""),
    "warns": ("import warnings; warnings.warn('no convergence'); return -1.0", FAILED, "reverses the ranking"),
    "negative": ("return -3.0", WRONG, "reverses the ranking"),
    "nan": ("return float('nan')", FAILED, "NaN"),
    "none": ("return None", FAILED, "NaN"),
    "error": ("raise ValueError('too cold')", FAILED, "ValueError: too cold"),
    "hang": ("import time; time.sleep(600)", FAILED, "no result after 6 s"),
    "busy": ("while True: pass", FAILED, "no result after 2 s of the processor"),
    "hog": ("return float(np.ones((1 << 31) + len(labels))[0])", FAILED, "out of memory"),
    "dies": ("import os; os.kill(os.getpid(), 9)", FAILED, "the process died"),
    "exits": ("import sys; sys.exit()", FAILED, "the process died"),
    "mutates": ("logits[:] = 0; return 2.97305601", NEAR, "changes its arguments"),
    "prints": ("print('x' * 10**6); return 2.97305601", RIGHT, ""),
    "reads the order": (f"return 2.97305601 if labels[:9].tolist() == {START} else 2.0", NEAR, "2 for permuted rows"),
    "reads the shift": ("return 2.97305601 if abs(logits).max() < 40 else 1.0", NEAR, "1 for shifted rows"),
}


def toy(folder: Path, name: str, body: str) -> run.Implementation:
    file = folder / f"{name.replace(' ', '_')}.py"
    code = f'"""A toy."""\n\nimport numpy as np\n\nREQUIRES = ()\n\n\ndef fit(logits, labels):\n    {body}\n'
    file.write_text(code)
    return run.Implementation.read(file)


@pytest.mark.parametrize("name", TOYS)
def test_verdicts_on_implementations_known_to_be_good_and_bad(name, tmp_path):
    body, expected, reason = TOYS[name]
    z, y = arrays(PLAIN)
    limits = {"seconds": 2, "patience": 6 if name == "hang" else 600, "limit": 1 << 30}
    found, _ = run.measure(toy(tmp_path, name, body), {"plain": PLAIN}, tmp_path / "work", **limits)
    verdict = verdicts.judge(found["plain"], referee.optimum(z, y), PLAIN.kind, z, y)
    assert verdict.name == expected, verdict
    assert reason in verdict.reason


def test_verdicts_where_no_temperature_is_best():
    z, y = arrays(SEPARABLE)
    best = referee.optimum(z, y)
    judge = lambda **found: verdicts.judge(found, best, SEPARABLE.kind, z, y).name  # noqa: E731
    assert judge(T=math.nan) == judge(T=math.nan, separable=True) == judge(error="ValueError: separable") == RIGHT
    assert judge(T=1e-3, said="UserWarning: did not converge") == judge(T=1e-3, converged=False) == RIGHT
    assert judge(T=1e-3) == NEAR  # a number that depends on when the fit stopped
    assert judge(T=1.0) == judge(T=-1e-3) == judge(T=math.inf) == WRONG
    assert judge(error="IndexError: list index") == UNSUPPORTED
    name = "no finite T: every label has the lowest logit"
    z, y = arrays(SETS[name])
    best = referee.optimum(z, y)
    judge = lambda **found: verdicts.judge(found, best, SETS[name].kind, z, y).name  # noqa: E731
    assert judge(T=math.inf) == judge(T=1e6) == RIGHT
    assert judge(T=10.0) == judge(T=-1.0) == WRONG


def test_an_nll_below_the_referees_stops_the_run():
    z, y = arrays(PLAIN)
    best = referee.Optimum(0.5, referee.plain(z, y, 0.5)[0], 1.0)
    with pytest.raises(RuntimeError, match="the referee is beaten"):
        verdicts.judge({"T": 3.0}, best, PLAIN.kind, z, y)


def test_an_error_is_no_failure_on_special_sets():
    name = "number types: float16"
    z, y = arrays(SETS[name])
    verdict = verdicts.judge({"error": "TypeError: Half"}, referee.optimum(z, y), SETS[name].kind, z, y)
    assert verdict.name == UNSUPPORTED


def test_a_run_resumes_and_a_changed_file_runs_again(tmp_path):
    some = {name: CHEAP[name] for name in list(CHEAP)[:3]}
    counted = "import pathlib; path = pathlib.Path(__file__).with_suffix('.count'); "
    counted += "path.write_text((path.read_text() if path.exists() else '') + 'x'); return 1.0"
    implementation, work = toy(tmp_path, "counts", counted), tmp_path / "work"
    count = lambda: len((tmp_path / "counts.count").read_text())  # noqa: E731
    run.measure(implementation, dict(list(some.items())[:2]), work)
    first = count()  # each set takes three fits: as it is, permuted and shifted
    assert first == 6
    found, _ = run.measure(implementation, some, work)
    assert (count(), set(found)) == (9, set(some))
    run.measure(implementation, some, work)
    assert count() == 9
    next((work / "results").glob("*/*.json")).unlink()
    run.measure(implementation, some, work)
    assert count() in (9, 12)  # versions.json needs no fit
    before = count()
    implementation.file.write_text(implementation.file.read_text().replace("A toy.", "Another description."))
    run.measure(run.Implementation.read(implementation.file), some, work)
    assert count() == before
    implementation.file.write_text(implementation.file.read_text().replace("return 1.0", "return 2.0"))
    run.measure(run.Implementation.read(implementation.file), some, work)
    assert count() == before + 9


def test_what_cannot_be_installed_or_imported_has_its_reason(tmp_path):
    implementation = toy(tmp_path, "broken", "return missing")
    implementation.file.write_text(implementation.file.read_text().replace("import numpy", "import no_such_module"))
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        run.measure(implementation, {"plain": PLAIN}, tmp_path / "work")

    assert run.why(RuntimeError("ERROR: no matching distribution\nnote: this is no problem of pip")).startswith("ERROR")


def test_what_an_implementation_does_not_take_is_not_held_against_it():
    known = run.implementations()
    assert next(iter(known)) == "halobench"
    assert run.unsupported(known["calikit"], PLAIN, 10)
    assert not run.unsupported(known["calikit"], SETS["classes: 2 classes"], 2)
    assert run.unsupported(known["netcal"], SETS["soft targets: smoothed labels"], 10)


def test_halobench_is_right_on_every_cheap_set():
    for name, each in CHEAP.items():
        z, y = arrays(each)
        fit = referee.fit_temperature(z, y)
        found = {"T": fit.T, "converged": fit.converged, "separable": fit.separable}
        assert verdicts.judge(found, referee.optimum(z, y), each.kind, z, y).name == RIGHT, name


def test_a_reproduction_runs_and_shows_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "WORK", tmp_path)
    monkeypatch.setattr(run, "referee", lambda name: SETS[name].optimum)
    for implementation, name in (("halobench", "T .3 to 30: T near 3"), ("tutorial_lbfgs", "T .3 to 30: T near 10")):
        program = run.reproduction(run.implementations()[implementation], name)
        assert "the best T is" in program
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert ("2.973056" in done.stdout) == (implementation == "halobench")


@pytest.mark.parametrize("reported", [False, True])
def test_the_public_check_is_the_verdict(reported):
    """For T alone: the benchmark also repeats fits, and looks at what they say and at their own probabilities."""
    for name, each in CHEAP.items():
        for T in (1e-3, 0.3, 0.62, 1.0, 2.97, 3.1, 1e4, math.inf, math.nan, -1.0, each.optimum.T):
            if T == 0:
                continue
            found = {"T": T, "converged": not reported}
            verdict = verdicts.judge(found, each.optimum, each.kind, each.logits, each.labels).name
            with nullcontext() if verdict == RIGHT else pytest.raises(AssertionError, match=re.escape(name)):
                each.check(T, reported=reported)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("fit_temperature(z, y).T", r"59 passed"),
        ("1.0", r"T near 3: the best T is 2\.97306, but T = 1 has an NLL [\d.]+ nats above the lowest"),
    ],
)
def test_the_three_lines_of_the_documentation_test_a_fit_without_torch(fit, expected, tmp_path):
    (block,) = re.findall(r"^```python\n(.*?)^```", run.DOCS.read_text(), re.M | re.S)
    lines = ["import sys", "from halobench import fit_temperature", f"my_fit = lambda z, y: {fit}", block]
    lines += ["def test_no_torch():", "    assert not {'torch', 'sklearn'} & {*sys.modules}"]
    (tmp_path / "test_mine.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "test_mine.py"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert re.search(expected, done.stdout), done.stdout[-3000:]


def cell(name: str, verdict: str, **more) -> dict:
    return {"implementation": "toy", "version": "1.0", "set": name, "verdict": verdict, **more}


def test_the_committed_matrix_has_all_sets_and_halobench_is_right():
    matrix = json.loads(run.MATRIX.read_text())
    assert {cell["set"] for cell in matrix["cells"]} == set(SETS)
    assert {cell["verdict"] for cell in matrix["cells"]} <= set(page.VERDICTS)
    assert all(cell["verdict"] == RIGHT for cell in matrix["cells"] if cell["implementation"] == "halobench")


def test_the_table_and_the_report_count_verdicts():
    toy = run.Implementation(Path("toy.py"), "A toy.", "Toy & co", (), (), "logits", (), 0, "https://toy", "Cool it.")
    names = list(SETS)[:3]
    cells = [cell(names[0], RIGHT, T=1.0, excess=0.0), cell(names[1], WRONG, T=-3.0, reason="a < b")]
    shown = {"cells": [*cells, cell(names[2], UNSUPPORTED)], "not tried": {}}
    best = {name: referee.Optimum(0.5, 1.0, 1.0) for name in SETS}
    table = page.table({"toy": toy}, shown)
    assert "**1/2**" in table, "of two that were tried, one is right"
    assert "| Toy & co |" in table, "a loop of this repository has no version"
    assert "| Toy & co 1.0 |" in page.table({"toy": dataclasses.replace(toy, requires=("toy==1.0",))}, shown)
    report = page.reports({"toy": toy}, shown, best, lambda *_: "print(1)\n")["toy"]
    assert all(words in report for words in ("print(1)", "Cool it.", names[1], "a < b"))
