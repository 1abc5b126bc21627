"""Answer what a temperature can repair."""

from __future__ import annotations

import numpy as np
import pandas as pd

from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import (
    GROUP,
    MOST_JOINED,
    NLL,
    Answer,
    Series,
    apart,
    base_label,
    excess_nll,
    judged,
    left_out,
    means_of,
    mixup_losses,
    of_base,
    removes,
    spread,
    without_fit,
)
from halobench.reporting.styles import calibrator_style

QUESTION = "What can a temperature repair?"
FITS = ("none", "paper", "exact")
LIMIT = (
    "With {}. The lowest possible NLL is that of the known posterior; where none is known, it counts as 0. Classes also"
    " overlap if labels are noisy. The temperature is fitted to validation samples of the same distribution, and"
    " doesn't change any prediction. If few of them are misclassified, it can be far too low."
)


def temperature(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer from the excess NLL without calibration and after each fit of the temperature."""
    scores = excess_nll(metrics)
    if missing := without_fit(metrics, scores):
        return Answer("temperature", QUESTION, missing)
    fits = [fit for fit in FITS if fit in scores]
    models = of_base(scores)
    fitted = models[np.isfinite(models["exact"])]  # shares compare the same cells
    base = {fit: means_of(fitted[fit], runs) for fit in fits}
    trained = scores.index.get_level_values("loss")
    shown = scores[trained.isin(mixup_losses(runs)) | (trained == scores.index.get_level_values("base"))]
    if len(shown.groupby(level=GROUP)) > MOST_JOINED:  # then each pair still has a row, for its base loss
        shown = of_base(scores)
    values = {fit: means_of(shown[fit], runs) for fit in fits}
    removed = {fit: _removed(fitted["none"] - fitted[fit], base["none"], runs) for fit in fits[1:]}
    optimal, early = removed["exact"], removed.get("paper", "")
    kept = apart(judged(base["exact"]), table_views.posterior_entropies(metrics))
    of_what = " of it" if optimal.startswith("removes") else "" if optimal else " above the lowest possible NLL"
    (first_where, first), *rest = kept.items()
    left = [f"{spread(first['mean'])} nats{of_what} {first_where}".strip()]
    left += [f"an NLL of {spread(part['mean'])} nats {where}" for where, part in rest]
    return Answer(
        "temperature",
        QUESTION,
        f"The optimal temperature {f'{optimal} of the NLL above the lowest possible and ' if optimal else ''}"
        f"leaves {', and '.join(left)}.",
        f"The paper's fit, which often stops early, {early}." if early else "",
        LIMIT.format(base_label(scores)) + left_out(models["exact"], base["exact"]),
        tuple(Series(labels.calibrator_label(fit), calibrator_style(fit), values[fit]) for fit in fits),
        NLL,
        joined=True,
    )


def _removed(gains: pd.Series, before: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Return the range over pairs of the share of the excess that a fit removes, with the verb."""
    return removes(judged(means_of(gains, runs)), before)
