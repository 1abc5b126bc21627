"""Whatever the width of a terminal, each number that it shows is one of the true ones, and none is missing."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console, Group

from halobench.core.console import value_text
from halobench.core.formatting import number
from halobench.reporting import compare, terminal
from halobench.results.cell_results import CellResults
from halobench.storage.columns import METRICS_COLUMNS

NUMBER = re.compile(r"[+−-]?(?:\d[\d,]*)(?:\.\d+)?(?:e[+−-]?\d+)?|∞")
WIDTHS = [*range(20, 90, 3), 100, 120, 200]


def printed(what, width: int) -> str:
    console = Console(width=width, highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def shows(text: str, expected: list[str], width: int) -> None:
    """Check that no line is too long, that all expected texts are there, and that all numbers are among them."""
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    numbers = NUMBER.findall(" ".join(expected))
    assert sorted(NUMBER.findall(text)) == sorted(numbers), width
    words = " ".join(text.split())
    assert all(word in words for entry in expected for word in entry.split()), width


def entries(rng: np.random.Generator) -> list[list[str]]:
    """Rows with names, texts that hold numbers, and numbers of all magnitudes with and without intervals."""
    names = ["NLL", "class-wise ECE", "TS (paper's code)", "mean probability that the worst class doesn't get"]
    texts = [*map(value_text, (0.30000000000000004, [1, 2.5, 1e-05], "random crop, 4 pixels")), "optimum proved"]
    rows = []
    for name, text in zip(names, texts, strict=True):
        value, spread = rng.normal() * 10.0 ** rng.integers(-20, 20, size=2)
        low = math.nan if rng.random() < 0.3 else value - abs(spread)
        forms = [number(value, form) for form in (".3f", ".4g", ".2g")]
        rows.append([name, text, terminal.scored(value, low, value + abs(spread)), *forms])
    return rows


@pytest.mark.parametrize(("right", "loose"), [(1, ""), (2, "optimum?"), (6, "")])
def test_no_width_cuts_a_number_or_drops_a_column(right, loose):
    """As a table or, where this doesn't fit, as a list that says so."""
    rows = entries(np.random.default_rng(right))
    columns = ["", "fitted to", "score", "T", "test NLL (nats)", "optimum?"]
    forms = set()
    for width in WIDTHS:
        text = printed(terminal.table("Scores", columns, rows, right, loose), width)
        folded = "(a list," in text
        forms.add(folded)
        note = f"(a list, since a terminal of {width} columns is too narrow for the table)" if folded else ""
        headings = [" ".join(columns)] * (len(rows) if folded else 1)
        shows(text, ["Scores", note, *headings, *(entry for row in rows for entry in row)], width)
    assert forms == {True, False}


def cell() -> CellResults:
    """A cell with fits, scores of four calibrators with intervals, and a spec."""
    rng = np.random.default_rng(0)
    fit = {"split": "val", "labels": "drawn", "separable": False, "beta": 1.0}
    fits = [
        fit | {"calibrator": name, "T": T, "nll": 1.23456, "gradient": g, "converged": True}
        for name, T, g in (("none", 1.0, 0.5), ("paper", 0.912345, -1e-3), ("exact", 2.345678, -4.7e-18))
    ]
    scores = [
        ("test", "clean", calibrator, metric, *np.sort(rng.normal(size=3))[[1, 0, 2]])
        for calibrator in ("none", "paper", "exact", "oracle")
        for metric in ("error", "nll", "mce", "classwise_ece")
    ]
    spec = {"dataset": {"source": "digits", "train": 1000, "test": 450, "noise": {"p": 0.123456789}}}
    train = {
        **{"seed": 7, "spec": spec, "steps": 12345, "parameters": 98765, "device": "cpu", "train_accuracy": 0.98765},
        **{"interpolates": True, "seconds": 12.3, "commit": None, "finished": "2026-01-01"},
        **{"hardware": {"processor": "a processor"}, "versions": {"torch": "2.13.0", "numpy": "2.4.1"}},
    }
    metrics = pd.DataFrame(scores, columns=list(METRICS_COLUMNS))
    records = {"train": train, "calibrate": {"spec": {}, "seconds": 0.1}}
    return CellResults("digits/mlp/ce/seed7", Path("results"), records, fits, metrics, pd.DataFrame())


def test_a_cells_card_shows_the_same_numbers_at_any_width(monkeypatch):
    shown = cell()
    whole = set(NUMBER.findall(printed(Group(terminal.card(shown)), 250)))
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(terminal.card(shown), width)
        assert max(map(len, text.splitlines())) <= width
        assert set(NUMBER.findall(re.sub(rf"terminal\s+of\s+{width}", "", text))) == whole
        assert "optimum?" in text
        assert "−4.7e−18" in text
        assert re.search(r"\bMCE\b", text), "every metric of the package is shown"


def test_a_comparison_shows_the_same_numbers_at_any_width():
    keys = {"labels": "clean", "calibrator": "exact", "lower": True, "better": "A", "seeds": 3, "left_out": 0}
    values = {"a": 0.1234, "b": 12345.6, "change": 0.056789, "low": -0.123, "high": 0.236, "correction": 0.0}
    moved = pd.DataFrame([keys | values | {"metric": "nll"}, keys | values | {"metric": "ece", "a": -1e-9}])
    whole = set(NUMBER.findall(printed(Group(*compare.tables(moved)), 250))) - {"250"}
    for width in WIDTHS:
        shown = set(NUMBER.findall(printed(Group(*compare.tables(moved)), width)))
        assert shown - {str(width)} == whole - {str(width)}
