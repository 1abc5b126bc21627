"""Which loss leads on a data set, against SciPy's paired t interval, widened for seeds that share samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from halobench.core.formatting import number
from halobench.reporting import labels
from halobench.reporting.leaders import compared, leader

MODELS, LOSSES, CALIBRATORS = ("mlp", "b"), ("mine", "focal", "cross_entropy"), ("none", "exact", "oracle")


def table() -> pd.DataFrame:
    """Scores by model, loss, calibrator and seed; the oracle is always best, and `alone` has one loss only."""
    rng = np.random.default_rng(3)
    index = pd.MultiIndex.from_product([MODELS, LOSSES, CALIBRATORS, range(4)])
    rows = pd.Series(rng.normal(1, 0.1, len(index)), index).rename_axis(["model", "loss", "calibrator", "seed"])
    rows = rows.reset_index(name="value")
    rows["value"] += 2 * (rows["loss"] == "focal") - 5 * (rows["calibrator"] == "oracle")
    alone = rows[(rows["model"] == "mlp") & (rows["loss"] == "mine")].assign(model="alone", value=-9.0)
    rows = pd.concat([rows, alone]).assign(dataset="d", split="test", labels="noisy", metric="kl")
    return pd.concat([rows, rows.assign(labels="clean", value=0.0), rows.assign(split="val", value=0.0)])


CORRECTION = 0.45  # test samples by training samples
RUNS = pd.DataFrame({"dataset": ["d"], "seed_correction": [CORRECTION]})


def test_the_leader_is_compared_with_the_next_loss_by_paired_differences():
    rows = table()
    used = rows[(rows["split"] == "test") & (rows["labels"] == "noisy") & rows["model"].isin(MODELS)]
    means = used.groupby(["loss", "calibrator", "seed"])["value"].mean().unstack().drop("oracle", level="calibrator")
    best = {loss: part.loc[part.mean(axis=1).idxmin()] for loss, part in means.groupby(level="loss")}
    first, second, _ = sorted(best, key=lambda loss: best[loss].mean())
    assert "focal" not in (first, second)
    gap = (best[second] - best[first]).mean()
    low, high = stats.ttest_rel(best[second], best[first]).confidence_interval()
    low, high = (gap + (end - gap) * np.sqrt(1 + 4 * CORRECTION) for end in (low, high))  # Nadeau and Bengio: 4 seeds
    line = leader(compared(rows.sample(frac=1, random_state=0), RUNS)["d"])
    assert line.startswith(f"{labels.loss_label(first)} ({labels.calibrator_label(best[first].name[1])})")
    assert f" has the lowest KL, {number(best[first].mean())} [" in line
    assert f"; {labels.loss_label(second)} (" in line
    assert f" is {number(gap)} [{number(low)}, {number(high)}] above it (4 seeds with " in line
    assert sorted(line.partition(" with ")[2].rstrip(").").split(", ")) == sorted(map(labels.model_label, MODELS))


def test_one_loss_alone_leads_nothing_and_one_seed_has_no_interval():
    rows = table()
    assert leader(compared(rows[rows["loss"] == "mine"], RUNS)["d"]) == ""
    line = leader(compared(rows[rows["seed"] == 0], RUNS)["d"])
    assert "[" not in line
    assert "(1 seed with" in line
    assert set(compared(rows, RUNS)) == {"d"}
    assert compared(rows, RUNS)["d"].metric == "kl"
    for entropy, metric in ((0.0, "nll"), (0.69, "kl")):
        both = pd.concat([rows, rows.assign(metric="nll", value=rows["value"] + entropy)])
        assert compared(both, RUNS)["d"].metric == metric, "if labels are certain, no posterior is known, and KL is NLL"
