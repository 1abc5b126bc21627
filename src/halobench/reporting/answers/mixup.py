"""Answer whether training with Mixup, or with another loss, avoids the excess NLL that a temperature can't remove."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from halobench.analysis.identities import architectures
from halobench.core.formatting import count, within
from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    CHANGE,
    GROUP,
    PAIR,
    Answer,
    Populations,
    Series,
    base_label,
    by_kind,
    counted,
    excess_nll,
    if_mixed,
    judged,
    left_out,
    length,
    losses,
    means_of,
    mixup_losses,
    of_base,
    outcomes,
    pairs,
    sentences,
    spread,
    uncounted,
    wins,
    without_fit,
)
from halobench.reporting.answers.takeaways import takeaway
from halobench.reporting.styles import loss_styles
from halobench.storage.columns import KEYS, PAIRED

MIXUP, OTHER = "Does Mixup do better?", "Does another loss do better?"
MISSING = "Not measured: this grid trains no model with two losses. Add a second one, such as `mixup2`, to `losses`."
MOST_LOSSES_IN_AN_ANSWER = 4  # losses; Mixup's come first
LIMIT = (
    "A pair is a data set with a model. Test NLL in expectation under the posterior, where it is known, paired by seed;"
    " a pair counts if its 95% interval excludes 0. Only {} is calibrated here. On clean labels, the order can differ."
)


def mixup(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer the question from the uncalibrated NLL of each other loss, minus the NLL of the base loss after TS."""
    scores = excess_nll(metrics)
    mixed = mixup_losses(runs)
    trained, base = (scores.index.get_level_values(name) for name in ("loss", "base"))
    others, styles = scores[trained != base], loss_styles(trained[trained != base].unique())
    ranked = sorted(styles, key=lambda loss: loss not in mixed)
    drawn, more = ranked[:MOST_LOSSES_IN_AN_ANSWER], len(ranked[MOST_LOSSES_IN_AN_ANSWER:])
    mixes = [loss for loss in drawn if loss in mixed]
    question = MIXUP if mixes or not drawn else OTHER
    if missing := without_fit(metrics, scores) if drawn else MISSING:
        return Answer("mixup", question, missing)
    fits = [fit for fit in ("exact", "paper") if fit in scores]
    gaps = {fit: means_of(_gaps(others, of_base(scores), fit), runs) for fit in fits}
    of_loss = {(fit, loss): gaps[fit][gaps[fit]["loss"] == loss].assign(loss="") for fit in fits for loss in drawn}
    models = base_label(scores)
    first, rest = drawn[: len(mixes) or 1], drawn[len(mixes) or 1 :]
    populations = Populations.of(runs, metrics)
    asked = (
        ("exact", first, f"{models} with the optimal temperature", "uncalibrated "),
        ("paper", first, "the paper's temperature", ""),
        ("exact", rest, "the optimal temperature", ""),
    )
    kinds = architectures(runs)
    said = [
        f"against {against}, "
        + wins_by_loss({loss: of_loss[fit, loss] for loss in compared}, raw, populations, kinds if raw else None)
        for fit, compared, against, raw in asked
        if fit in fits and compared
    ]
    won = pd.concat([outcomes(of_loss["exact", loss]).assign(loss=loss) for loss in first])
    won = won[won["won"] & won["dataset"].isin(populations.known)]
    left = means_of(others["none"].droplevel("base"), runs).merge(won[GROUP])
    kls = populations.described(left, lambda part: f"of {spread(part['mean'])}")
    still = f"Where it wins, it still leaves a KL, in nats, {kls}." if kls else ""
    both = if_mixed(gaps["exact"], kinds)
    series = [
        Series("" if i else labels.loss_label(loss), styles[loss], part, mlps)
        for loss in drawn
        for i, (mlps, part) in enumerate(by_kind(of_loss["exact", loss], both))
    ]
    return Answer(
        "mixup",
        question,
        sentences(said[:1]),
        sentences([still, *said[1:]]),
        LIMIT.format(models) + left_out(of_base(scores)["exact"], gaps["exact"].drop_duplicates(PAIR)),
        tuple(series),
        CHANGE.format(f"{models} after TS"),
        more=f"{count(more, 'more loss is', 'more losses are')} in the leaderboard." if more else "",
        hollow="hollow: MLPs" if both else "",
        takeaway=_takeaway({loss: of_loss["exact", loss] for loss in first}, within(models), kinds, populations)
        if base.nunique() == 1  # else a sentence can't name it
        else "",
        length=length(means_of(of_base(scores)["exact"].droplevel("base"), runs), runs).replace(
            "networks", f"{within(models)} networks"
        ),
        null=_symmetric(_gaps(others, of_base(scores), "exact", "exact"), first, populations, runs),
        populations=populations,
    )


def _symmetric(gaps: pd.Series, losses_compared: list[str], populations: Populations, runs: pd.DataFrame) -> str:
    """Say on how many pairs of the first population each loss wins if it has the optimal temperature, too."""
    means = means_of(gaps.dropna(), runs)
    means = means[means["loss"].isin(losses_compared)]
    if not len(counted(means)):
        return ""
    where, part = next(iter(populations.parts(counted(means)).items()))
    clauses: list[str] = []
    for loss in losses_compared:
        if len(each := part[part["loss"] == loss]):
            of = len(each) if clauses else pairs(each)
            clauses.append(f"{labels.loss_label(loss)} wins on {wins(each)} of {of} and loses on {losses(each)}")
    return f"If both have the optimal temperature, {where and f'{where}, '}{'; '.join(clauses)}."


def _takeaway(gaps: Mapping[str, pd.DataFrame], base: str, kinds: Mapping[str, str], populations: Populations) -> str:
    """Return the take-away about the loss with the most wins minus defeats in the first population."""
    table = pd.concat([outcomes(values).assign(loss=loss) for loss, values in gaps.items()])
    table = table.assign(architecture=table["model"].map(kinds).fillna(""))
    if table.empty:
        return ""
    parts = populations.parts(table)
    first = next(iter(parts.values()))
    net = first["won"].astype(int) - first["lost"]
    loss = str(net.groupby(first["loss"], sort=False).sum().idxmax())
    of_loss = {where: part[part["loss"] == loss] for where, part in parts.items()}
    return takeaway("mixup", of_loss, loss=within(labels.loss_label(loss)), base=base)


def wins_by_loss(
    gaps: Mapping[str, pd.DataFrame], raw: str, populations: Populations, kinds: Mapping[str, str] | None = None
) -> str:
    """Say on how many pairs each loss wins and loses, as the end of a sentence that the caller begins.

    `raw` is put before the name of the first loss. Each population has a separate sentence, since effects can differ
    between populations. MLPs and other networks also have separate sentences if a population has both and `kinds` lists
    all its models.
    """
    compared = pd.concat([judged(values).assign(loss=loss) for loss, values in gaps.items()])
    said: list[str] = []
    for where, of_population in populations.parts(compared).items():
        mixed = if_mixed(of_population, kinds or {})
        for mlps, part in reversed(by_kind(of_population, mixed)):
            start = "on MLPs" if mlps else "on other networks" if mixed else ""
            start = " ".join(filter(None, (start, "" if mixed and not mlps else where)))
            clauses: list[str] = []
            for loss in part["loss"].unique():
                values = part[part["loss"] == loss]
                label = labels.loss_label(loss)
                label = within(label) if loss in labels.LOSSES else label
                label, of = (label, len(values)) if said or clauses else (f"{raw}{label}", pairs(values))
                won, lost = wins(values), losses(values)
                outcome = f"wins on {won} of {of}{f' and loses on {lost}' if won < len(values) else ''}"
                outcome = f"loses on all {of}" if lost == len(values) > 2 else outcome
                clauses.append(f"{label} {outcome if len(counted(values)) else uncounted(values)}")
            said.append(f"{start and f'{start}, '}{'; '.join(clauses)}.")
    return " ".join(filter(None, [said[0], sentences(said[1:])]))


def _gaps(others: pd.DataFrame, base: pd.DataFrame, fit: str, own: str = "none") -> pd.Series:
    """Return each cell's score after the fit `own` minus the base loss's after `fit`, for the same pair and seed."""
    other, fitted = others[own].rename("other").reset_index(), base[fit].rename("fit").reset_index()
    joined = other.merge(fitted[[*PAIRED, "fit"]], on=PAIRED)
    return joined.assign(gap=joined["other"] - joined["fit"]).set_index(KEYS)["gap"]
