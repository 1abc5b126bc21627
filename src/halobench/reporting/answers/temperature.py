"""Answer how much of the excess NLL a temperature can remove."""

from __future__ import annotations

import numpy as np
import pandas as pd

from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    GROUP,
    MOST_JOINED,
    NLL,
    OF_WHAT,
    Answer,
    Populations,
    Series,
    base_label,
    counted,
    excess_nll,
    judged,
    left_out,
    length,
    means_of,
    mixup_losses,
    of_base,
    removes,
    sentences,
    spread,
    with_shares,
    without_fit,
)
from halobench.reporting.answers.takeaways import takeaway
from halobench.reporting.styles import calibrator_style

QUESTION = "What can a temperature repair?"
OPTIMAL_TEMPERATURE = "the temperature that is optimal on validation samples"
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
    """Answer the question from the excess NLL without calibration and after each fit of the temperature."""
    scores = excess_nll(metrics)
    if missing := without_fit(metrics, scores):
        return Answer("temperature", QUESTION, missing)
    fits = [fit for fit in FITS if fit in scores]
    models = of_base(scores)
    fitted = models[np.isfinite(models["exact"])]  # shares compare the same cells
    base = {fit: means_of(fitted[fit], runs) for fit in fits}
    trained = scores.index.get_level_values("loss")
    drawn = scores[trained.isin(mixup_losses(runs)) | (trained == scores.index.get_level_values("base"))]
    if len(drawn.groupby(level=GROUP)) > MOST_JOINED:  # then each pair still has a row, for its base loss
        drawn = of_base(scores)
    values = {fit: means_of(drawn.loc[np.isfinite(drawn["exact"]), fit], runs) for fit in fits}
    populations = Populations.of(runs, metrics)
    gains = {fit: judged(means_of(fitted["none"] - fitted[fit], runs)) for fit in fits[1:]}
    left = populations.parts(judged(base["exact"]))
    subjects = [OPTIMAL_TEMPERATURE, *["it"] * (len(left) - 1)]
    kept = [
        _kept(where, part, removes(gains["exact"].merge(part[GROUP]), base["none"]), subject, populations)
        for subject, (where, part) in zip(subjects, left.items(), strict=True)
    ]
    parts = populations.parts(gains["paper"]) if "paper" in gains else {}
    shares = [f"{share} {where}".rstrip() for where, part in parts.items() if (share := removes(part, base["none"]))]
    early = ", and ".join(shares).replace(", and removes ", ", and ")  # the verb is said once
    noisy = populations.known & {*runs.loc[runs["noise"] > 0, "dataset"]}
    removed = [
        with_shares(counted(gain), base["none"]).set_index(GROUP)["share"].rename(fit) for fit, gain in gains.items()
    ]
    parts = populations.parts(pd.concat(removed, axis=1).dropna().reset_index())
    known = next(iter(parts.values()))["dataset"].isin(populations.known).all()
    return Answer(
        "temperature",
        QUESTION,
        sentences(kept),
        f"The paper's fit, which often stops early, {early}." if early else "",
        LIMIT.format(base_label(scores)) + (GIVEN if noisy else "") + left_out(models["exact"], base["exact"]),
        tuple(Series(labels.calibrator_label(fit), calibrator_style(fit), values[fit]) for fit in fits),
        NLL.format(OF_WHAT[tuple(sorted({name in populations.known for name in values["none"]["dataset"]}))]),
        joined=True,
        takeaway=takeaway("temperature", parts, what="excess" if known else "NLL"),
        length=length(base["exact"], runs),
        null=f"Without calibration, the excess is {spread(base['none']['mean'])} nats.",
        populations=populations,
    )


def _kept(where: str, left: pd.DataFrame, removed: str, subject: str, populations: Populations) -> str:
    """Say what the optimal temperature removes and leaves on the pairs of one population."""
    of_what = "the KL from the known posterior" if set(left["dataset"]) <= populations.known else "the NLL"
    removed = f"{removed} of {of_what} and leaves" if removed else f"leaves, of {of_what},"
    return f"{where and f'{where}, '}{subject} {removed} {spread(left['mean'])} nats."
