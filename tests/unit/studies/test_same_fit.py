"""The figure of fitting less: the base loss, interpolated at the training accuracy that Mixup has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import synthetic
from halobench.core.plugins.facts import facts
from studies.architectures import same_fit

PATH = {"mlp-e2": 0.4, "mlp-e10": 0.8, "mlp": 1.0}  # training accuracies
KL = {"none": lambda accuracy: accuracy**2, "exact": lambda accuracy: 0.1 + accuracy}
MIXED = {"none": 0.3, "exact": 0.2}


def _tables(accuracy: float = 0.6, dataset: str = "noisy") -> dict[str, pd.DataFrame]:
    """A model at three numbers of epochs and with Mixup, two seeds each; and a model that has no shorter one."""
    made = synthetic.tables()
    like, cells, scores = made["runs"].iloc[0], [], []

    def add(model: str, loss: str, fit: float, values: dict[str, float]) -> None:
        for seed in range(2):
            key = {"dataset": dataset, "model": model, "loss": loss, "seed": seed}
            family = facts("losses", loss.rstrip("25")).family
            cells.append({**like, **key, "train_accuracy": fit, "loss_family": family, "steps": 100 * fit})
            for calibrator, value in values.items():
                row = {"split": "test", "labels": "noisy", "metric": "kl", "calibrator": calibrator, "value": value}
                scores.append({**dict.fromkeys(made["metrics"].columns, np.nan), **key, **row})

    for model, fit in PATH.items():
        add(model, "cross_entropy", fit, {name: kl(fit) for name, kl in KL.items()})
    for loss in ("mixup2", "mixup5"):
        add("mlp", loss, accuracy, MIXED)
        add("cnn", loss, accuracy, MIXED)
    add("cnn", "cross_entropy", 1.0, MIXED)
    add("mlp-e10", "mixup2", 0.5, MIXED)  # it has no model of more epochs to be compared with
    return {"metrics": pd.DataFrame(scores), "runs": pd.DataFrame(cells)}


def test_differences_are_to_the_base_loss_interpolated_at_the_same_training_accuracy():
    found = same_fit.differences(**_tables())
    assert set(found["model"]) == {"mlp"}
    assert len(found) == 2 * 2 * 2 * 2  # losses, seeds, fits of both
    base = {"none": (KL["none"](0.4) + KL["none"](0.8)) / 2, "exact": KL["exact"](0.6)}  # halfway between two models
    for row in found.to_dict("records"):
        assert row["base"] == pytest.approx(base[row["base_calibrator"]])
        assert row["value"] == pytest.approx(MIXED[row["calibrator"]] - row["base"])


@pytest.mark.parametrize("accuracy", [0.3, 1.01])
def test_nothing_is_extrapolated(accuracy):
    assert same_fit.differences(**_tables(accuracy))["value"].isna().all()


def test_lines_go_through_the_models_in_the_order_of_their_epochs():
    (axes,) = (ax for ax in same_fit.draw(**_tables()).axes if ax.lines)
    lines = [line.get_data() for line in axes.lines if line.get_linestyle() != "None"]
    for (x, y), kl in zip(lines, KL.values(), strict=True):
        assert list(x) == pytest.approx([*PATH.values()])
        assert list(y) == pytest.approx([kl(accuracy) for accuracy in PATH.values()])
    single = [line for line in axes.lines if len(line.get_xdata()) == 1]
    heights = {line.get_markerfacecolor() == "white": list(line.get_ydata()) for line in single}
    assert heights == {True: [MIXED["none"]], False: [MIXED["exact"]]}
    assert len({line.get_marker() for line in single}) == 2  # forms of Mixup


def test_models_without_shorter_ones_are_said_to_be_missing():
    tables = _tables()
    none = {name: rows[~rows["model"].str.contains("-e")] for name, rows in tables.items()}
    assert "fewer epochs" in synthetic.words(same_fit.draw(**none))
    assert same_fit.differences(**none).empty
