"""Answer whether training with Mixup, or with another loss, avoids what a temperature can't repair."""

from __future__ import annotations

import pandas as pd

from halobench.core.formatting import within
from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    CHANGE,
    Answer,
    Series,
    base_label,
    excess_nll,
    listed,
    of_base,
    outcome,
    over_seeds,
    with_base,
)
from halobench.reporting.styles import loss_styles

MIXUP, OTHER = "Does Mixup avoid it?", "Does another loss avoid it?"
MISSING = "Not measured: this grid trains no model with two losses. Add a second one, such as `mixup2`, to `losses`."
MOST = 4  # losses; Mixup's come first
LIMIT = (
    "The other losses are uncalibrated. Differences in expected test NLL under the known label noise, paired by seed; a"
    " win or a loss counts if its 95% interval excludes 0. Scores on clean labels can differ."
)


def mixup(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer from the NLL of each loss, uncalibrated, minus that of the base loss after TS."""
    scores = excess_nll(metrics)
    losses, base = (scores.index.get_level_values(name) for name in ("loss", "base"))
    others, styles = scores[losses != base], loss_styles(losses[losses != base].unique())
    shown = sorted(styles, key=lambda loss: not loss.startswith("mixup"))[:MOST]
    mixes = [loss for loss in shown if loss.startswith("mixup")]
    question = MIXUP if mixes or not shown else OTHER
    if not shown or "exact" not in scores:
        return Answer("mixup", question, MISSING)
    fits = [fit for fit in ("exact", "paper") if fit in scores]
    gaps = {fit: over_seeds(_gaps(others, of_base(scores), fit), runs) for fit in fits}
    of_loss = {(fit, loss): gaps[fit][gaps[fit]["loss"] == loss].assign(loss="") for fit in fits for loss in shown}
    said = {key: f"{within(labels.loss_label(key[1]))} {outcome(values)}" for key, values in of_loss.items()}
    rest = [said["exact", loss] for loss in shown if loss not in (mixes or shown)]
    parts = [f"Against the paper's fit: {'; '.join(said['paper', loss] for loss in shown)}."] if len(fits) > 1 else []
    return Answer(
        "mixup",
        question,
        f"Against {base_label(with_base(metrics))} with the optimal temperature, "
        f"{'; '.join(said['exact', loss] for loss in mixes or shown)}.",
        " ".join([*([listed(rest)] if rest else []), *parts]),
        LIMIT,
        tuple(
            Series(labels.loss_label(loss) if fit == "exact" else "", styles[loss], of_loss[fit, loss], fit == "paper")
            for fit in fits
            for loss in shown
        ),
        CHANGE.format(f"{base_label(with_base(metrics))} after TS"),
        hollow=f"hollow: against {labels.calibrator_label('paper')}" if len(fits) > 1 else "",
    )


def _gaps(others: pd.DataFrame, base: pd.DataFrame, fit: str) -> pd.Series:
    """Return, by cell, the uncalibrated score minus that of the base loss after a fit, in the same pair and seed."""
    keys = ["dataset", "model", "seed"]
    other, fitted = others["none"].rename("other").reset_index(), base[fit].rename("fit").reset_index()
    joined = other.merge(fitted[[*keys, "fit"]], on=keys)
    return joined.assign(gap=joined["other"] - joined["fit"]).set_index(["dataset", "model", "loss", "seed"])["gap"]
