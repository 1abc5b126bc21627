"""Answer what a temperature can repair."""

from __future__ import annotations

import pandas as pd

from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    GROUP,
    NLL,
    Answer,
    Series,
    base_label,
    excess_nll,
    of_base,
    over_seeds,
    spread,
    with_base,
    without_fit,
)
from halobench.reporting.styles import calibrator_style

QUESTION = "What can a temperature repair?"
FITS = ("none", "paper", "exact")
BESIDES = ("mixup2", "mixup5")  # the losses that are shown next to the base loss
LIMIT = (
    "With {}. The lowest possible NLL is that of the known posterior; without label noise, it counts as 0. The"
    " temperature is fitted to validation samples with the same label noise, and doesn't change any prediction."
)


def temperature(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer from the excess NLL by fit of the temperature."""
    scores = excess_nll(metrics)
    if missing := without_fit(metrics, scores):
        return Answer("temperature", QUESTION, missing)
    fits = [fit for fit in FITS if fit in scores]
    base = {fit: over_seeds(of_base(scores)[fit], runs) for fit in fits}
    losses = scores.index.get_level_values("loss")
    shown = scores[losses.isin(BESIDES) | (losses == scores.index.get_level_values("base"))]
    values = {fit: over_seeds(shown[fit], runs) for fit in fits}
    early = _removed(base["none"], base["paper"]) if "paper" in fits else ""
    return Answer(
        "temperature",
        QUESTION,
        f"The optimal temperature removes {_removed(base['none'], base['exact'])} of the NLL above the lowest possible"
        f" and leaves {spread(base['exact']['mean'])} nats of it.",
        f"The paper's fit, which often stops early, removes {early}." if early else "",
        LIMIT.format(base_label(with_base(metrics))),
        tuple(Series(labels.calibrator_label(fit), calibrator_style(fit), values[fit]) for fit in fits),
        NLL,
        joined=True,
    )


def _removed(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """Return the range over pairs of the share of the excess that a fit removes."""
    both = after.merge(before, on=GROUP, suffixes=("", "_before"))  # a fit may have failed on some pairs
    return spread(1 - both["mean"] / both["mean_before"], ".0%")
