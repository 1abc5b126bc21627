"""Answer what a temperature can repair."""

from __future__ import annotations

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    GROUP,
    MOST_JOINED,
    NLL,
    Answer,
    Populations,
    Series,
    base_label,
    excess_nll,
    judged,
    left_out,
    means_of,
    mixup_losses,
    of_base,
    removes,
    sentences,
    spread,
    without_fit,
)
from halobench.reporting.styles import calibrator_style

QUESTION = "What can a temperature repair?"
BEST = "the temperature that is optimal on validation samples"
FITS = ("none", "paper", "exact")
LIMIT = (
    "With {}. The temperature is fitted to validation samples of the same distribution, and doesn't change any"
    " prediction. If few of them are misclassified, it can be far too low."
)
GIVEN = (
    " The posterior of flipped labels is given the official label, which a classifier of images doesn't know: part of"
    " that KL may be beyond any classifier."
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
    values = {fit: means_of(shown.loc[np.isfinite(shown["exact"]), fit], runs) for fit in fits}
    populations = Populations.of(runs, metrics)
    gains = {fit: judged(means_of(fitted["none"] - fitted[fit], runs)) for fit in fits[1:]}
    left, early = populations.parts(judged(base["exact"])), []
    for where, part in populations.parts(gains["paper"]).items() if "paper" in gains else ():
        early += [f"{share} {where}".rstrip()] if (share := removes(part, base["none"])) else []
    early = [*early[:1], *(share.removeprefix("removes ") for share in early[1:])]
    noisy = populations.known & {*runs.loc[runs["noise"] > 0, "dataset"]}
    return Answer(
        "temperature",
        QUESTION,
        sentences(
            _kept(
                where,
                part,
                populations,
                removes(gains["exact"].merge(part[GROUP]), base["none"]),
                BEST if i == 0 else "it",
            )
            for i, (where, part) in enumerate(left.items())
        ),
        f"The paper's fit, which often stops early, {', and '.join(early)}." if early else "",
        LIMIT.format(base_label(scores)) + (GIVEN if noisy else "") + left_out(models["exact"], base["exact"]),
        tuple(Series(labels.calibrator_label(fit), calibrator_style(fit), values[fit]) for fit in fits),
        NLL,
        joined=True,
    )


def _kept(where: str, left: pd.DataFrame, populations: Populations, removed: str, subject: str) -> str:
    """Say what the optimal temperature removes and leaves in pairs of one population."""
    of_what = "the KL from the known posterior" if set(left["dataset"]) <= populations.known else "the NLL"
    removed = f"{removed} of {of_what} and leaves" if removed else f"leaves, of {of_what},"
    return f"{where and f'{where}, '}{subject} {removed} {spread(left['mean'])} nats."
