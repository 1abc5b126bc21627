"""Calibrators and metrics of one's own are tried before any job."""

from __future__ import annotations

import pytest

from conftest import one_cell
from halobench.experiment.config_loader import load_config
from halobench.runner import build_checks

MINE = """
import numpy as np
def array(logits, labels): return np.ones(3)
def half(logits, labels): return lambda z: z / 2
def narrow(logits, labels): return lambda z: z[:, :2]
def boom(logits, labels): raise ValueError("boom")
def words(labels): return "x"
def share(confidence, labels): return (confidence > 0.5).mean()
"""


@pytest.mark.parametrize(
    ("calibrator", "metric", "said"),
    [
        ("half", "share", ""),
        (
            "array",
            "share",
            "calibrators.mine_too:array: fit(logits, labels) returned array([1., 1., 1.]); it must return",
        ),
        (
            "narrow",
            "share",
            "calibrators.mine_too:narrow: found calibrated logits of shape (300, 2), expected the input",
        ),
        ("boom", "share", "calibrators.mine_too:boom: raised ValueError: boom (mine_too.py:"),
        ("half", "words", "metrics.mine_too:words: raised ValueError"),
    ],
)
def test_a_calibrator_or_metric_that_returns_the_wrong_thing_is_refused(
    tmp_path, monkeypatch, calibrator, metric, said
):
    (tmp_path / "mine_too.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    config = one_cell()
    config["calibrators"] = ["none", {"mine": {"name": f"mine_too:{calibrator}"}}, f"mine_too:{calibrator}"]
    config["metrics"]["also"] = [f"mine_too:{metric}"]
    problems = build_checks.run(load_config(config), tmp_path)
    assert any(line.startswith(said) for line in problems) if said else problems == []
    assert not any("\n" in line for line in problems)
