"""Forest plots of families: paired effects per family, their mean, and the prediction interval for another one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import synthetic
from halobench.core.plugins.facts import facts
from studies.architectures import forest, mixup_families, reach_families, repair_families

MODELS = {"mlp": 0.10, "cnn": -0.30, "resnet": -0.20, "vit": 0.05}
LAZY = "attention"  # doesn't interpolate


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    """Cells whose NLL after TS differs between the losses by a known effect, plus a shift that all of a seed share."""
    made = synthetic.tables()
    metrics, runs = made["metrics"], made["runs"]
    cells, scores = [], []
    like = runs.iloc[0]
    for model, effect in {**MODELS, LAZY: 9.0}.items():
        for seed in range(3):
            for loss, family in (("cross_entropy", ""), ("mixup2", facts("losses", "mixup").family)):
                key = {"dataset": "noisy", "model": model, "loss": loss, "seed": seed}
                told = {"loss_family": family, "interpolates": model != LAZY and loss != "mixup2", "fitted_here": True}
                cells.append({**like, **key, **told, "seed_correction": 0.0})
                value = 1.0 + 0.1 * seed + (effect + 0.01 * seed if loss == "mixup2" else 0.0)
                row = {"split": "test", "labels": "noisy", "metric": "kl", "value": value}
                for fit in ("none", "exact"):
                    scores.append({**dict.fromkeys(metrics.columns, np.nan), **key, **row, "calibrator": fit})
    return {"metrics": pd.DataFrame(scores), "runs": pd.DataFrame(cells)}


def test_each_family_counts_once_and_by_seeds_that_both_losses_have(tables):
    (effect,) = mixup_families._effects(**tables).values()
    values = forest.means_by_family(effect, tables["runs"])
    found = values.set_index("model")["mean"]
    assert set(found.index) == set(MODELS), "a family whose base model doesn't interpolate is left out"
    for model, effect in MODELS.items():
        assert found[model] == pytest.approx(effect + 0.01)
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    assert (values["high"] - values["mean"]).to_numpy() == pytest.approx(half)


def test_the_last_rows_are_the_mean_of_families_and_what_another_one_may_show(tables):
    (axes,) = (ax for ax in mixup_families.draw(**tables).axes if ax.lines)
    effects = np.array([*MODELS.values()]) + 0.01
    spans = {segment[0][1]: segment[:, 0] for line in axes.collections for segment in line.get_segments()}
    mean, spread = effects.mean(), effects.std(ddof=1)
    half = stats.t.ppf(0.975, len(MODELS) - 1) * spread / np.sqrt(len(MODELS))
    assert spans[len(MODELS)] == pytest.approx([mean - half, mean + half])
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "mean"


def test_only_families_of_the_data_sets_shown_are_left_out_by_name(tables):
    """A model of another data set, which has too few families to be drawn, isn't said not to interpolate."""
    elsewhere = [tables[name].query("model == 'mlp'").assign(dataset="digits", model="linear") for name in tables]
    more = {name: pd.concat([tables[name], rows]) for name, rows in zip(tables, elsewhere, strict=True)}
    assert "Left out, since they don't interpolate: Kernel classifier." in synthetic.words(mixup_families.draw(**more))


def test_what_a_temperature_leaves_and_a_map_changes_is_about_the_base_loss(tables):
    metrics = tables["metrics"].query("calibrator == 'exact'")
    better = metrics.assign(calibrator="partner", value=metrics["value"] - 0.4)
    both = {"metrics": pd.concat([metrics, better]), "runs": tables["runs"]}
    left = repair_families.left_by_fit(**both).pivot(index="model", columns="fit", values="mean")
    assert set(left.index) == set(MODELS)
    assert left["exact"].to_numpy() == pytest.approx(1.1)
    assert left["partner"].to_numpy() == pytest.approx(0.7)
    (axes,) = (ax for ax in repair_families.draw(**both).axes if ax.lines)
    drawn = {round(float(x), 6) for line in axes.lines for x in line.get_xdata() if line.get_linestyle() == "None"}
    assert drawn == {1.1, 0.7}
    assert "No data set has" in synthetic.words(repair_families.draw(metrics, tables["runs"]))


def test_certainty_is_that_of_the_base_loss_around_training_samples(tables):
    rows = []
    for cell in tables["runs"].to_dict("records"):
        key = {name: cell[name] for name in ("dataset", "model", "loss", "seed")}
        for probe, quantity, radius in (
            ("sphere", "certainty", 1.5 if cell["loss"] == "cross_entropy" else 0.7),
            ("nearest_other", "decision", 0.5),
        ):
            row = {"points": "train", "probe": probe, "kind": probe, "quantity": quantity, "calibrator": "none"}
            rows += [
                key | row | {"relative_median": radius + held} | ({"points": "heldout"} if held else {})
                for held in (0, 9)
            ]
    effects = reach_families._effects(pd.DataFrame(rows), tables["runs"])
    (certainty,) = effects.values()
    assert set(certainty.index.get_level_values("model")) == set(MODELS)
    assert certainty.to_numpy() == pytest.approx(1.5)
    assert [*effects] == ["Certainty, random direction\ncross-entropy"]
