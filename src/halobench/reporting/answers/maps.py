"""Answer which maps of the logits remove the excess NLL that a temperature leaves."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from halobench.core.formatting import within
from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    CHANGE,
    GROUP,
    Answer,
    Populations,
    Series,
    base_label,
    counted,
    excess_nll,
    judged,
    left_out,
    length,
    losses,
    means_of,
    of_base,
    outcomes,
    pairs,
    removes,
    sentences,
    spread,
    uncounted,
    wins,
    with_shares,
    without_fit,
)
from halobench.reporting.answers.takeaways import takeaway
from halobench.reporting.styles import calibrator_styles
from halobench.storage.columns import NO_LOSS

QUESTION = "What can repair the rest?"
MISSING = "Not measured: this grid fits no calibrator beyond a temperature. Add `partner` or `auto` to `calibrators`."
TEMPERATURES = ("none", "paper", "exact", "oracle")
MOST_MAPS_IN_AN_ANSWER = 5  # calibrators
LIMIT = (
    "For {}. All maps are fitted to validation samples, and may change which class is predicted. A pair counts if its"
    " 95% interval excludes 0."
)
BEST_MAP = " The first map has the lowest mean NLL on the {} on which all maps were fitted, by these test samples."
# The data sets, by name, on which a map's form was chosen (of `auto`, that of its candidate `partner`): by results of
# the demo and of `theory`, as docs/calibrate.md says. A gain there is no test of the form, unless models are from
# elsewhere.
CHOSEN_ON = dict.fromkeys(("partner", "auto"), r"(digits|mnist5k|overlap)(-.*)?")


def maps(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer the question from the excess NLL after each map, minus the excess NLL after the optimal temperature."""
    scores = excess_nll(metrics)
    names = [name for name in labels.ordered(scores.columns, labels.CALIBRATORS) if name not in TEMPERATURES]
    if missing := without_fit(metrics, scores, ["exact"]) if names else MISSING:
        return Answer("maps", QUESTION, missing)
    models, scores = base_label(scores), of_base(scores).droplevel("base")
    every = {name: means_of(scores[name] - scores["exact"], runs) for name in names}
    others = [name for name in names if len(every[name])]
    if not others:
        return Answer("maps", QUESTION, MISSING)
    own = [name for name in others if name not in labels.CALIBRATORS and "/" not in name]
    preferred = [name for name in ("partner", "auto") if name in others]
    populations = Populations.of(runs, metrics)
    best, shared, where = _best(every, populations)
    drawn = list(dict.fromkeys([*best[:1], *own, *preferred, *best, *others]))[:MOST_MAPS_IN_AN_ANSWER]
    left = means_of(scores["exact"], runs)
    gaps = {name: every[name] for name in drawn}
    left = left.merge(pd.concat([*gaps.values()])[GROUP].drop_duplicates(), on=GROUP)  # where any map was fitted
    said = [_gained(labels.calibrator_label(name), values, left, populations) for name, values in gaps.items()]
    if len(drawn) > 1:
        said[0] += f" {_compared(gaps, scores, runs, populations)}"
    gained = outcomes(gaps[drawn[0]])
    parts = populations.parts(with_shares(gained.assign(mean=-gained["mean"]), left))
    if next(iter(parts), None) != where:  # on which the best map was chosen
        parts = {}
    leading, styles = labels.calibrator_label(drawn[0]), calibrator_styles(drawn)
    more = [labels.calibrator_label(name) for name in others if name not in drawn]
    first = next(iter(parts.values()), gained)
    chosen = first["dataset"].str.fullmatch(CHOSEN_ON.get(drawn[0], "")) & first["loss"].ne(NO_LOSS)
    caveat = "on data used to choose its form" if chosen.any() else ""
    if caveat and not chosen.all():
        caveat = f"partly {caveat} ({chosen.sum()} of {pairs(chosen)})"
    best_map = BEST_MAP.format(shared) if shared and len(others) > 1 else ""
    return Answer(
        "maps",
        QUESTION,
        sentences(said[:1]),
        sentences(said[1:]),
        LIMIT.format(models) + best_map + left_out(scores["exact"], every[drawn[0]]),
        tuple(Series(labels.calibrator_label(name), styles[name], gaps[name].assign(loss="")) for name in drawn),
        CHANGE.format("the optimal temperature"),
        0.0,
        left[GROUP].assign(loss="", low=-left["mean"], high=-left["mean"]),
        "all that the temperature leaves",
        more=f"Not shown: {', '.join(more)}." if more else "",
        takeaway=takeaway(
            "maps",
            parts,
            bool(chosen.any()),
            map=within(leading),
            best=f"the best map, {within(leading)}," if others[1:] else leading,
        ),
        length=length(left, runs),
        null=f"After the optimal temperature alone, {spread(left['mean'], '.2f')} nats are left.",
        caveat=caveat,
        populations=populations,
    )


def _best(gaps: Mapping[str, pd.DataFrame], populations: Populations) -> tuple[list[str], str, str | None]:
    """Return the maps from the lowest mean NLL to the highest, and a description of the pairs averaged over.

    The third value is the population of these pairs, as in `Populations.parts`.

    The means are over the pairs on which all maps were fitted, in the first population with such pairs. Pairs with one
    seed count only if there are no others. If there is no pair on which all maps were fitted, the list of maps is
    empty.
    """
    means = pd.DataFrame({name: judged(values).set_index(GROUP)["mean"] for name, values in gaps.items()}).dropna()
    if means.empty:
        return [], "", None
    where, part = next(iter(populations.parts(means.reset_index()).items()))
    ranked = part.set_index(GROUP).mean().sort_values(kind="stable")
    return ranked.index.tolist(), f"{pairs(part)}{where and f' {where}'}", where


def _compared(
    gaps: Mapping[str, pd.DataFrame], scores: pd.DataFrame, runs: pd.DataFrame, populations: Populations
) -> str:
    """Return a sentence that compares the first two maps where both were fitted; "" if no pair has several seeds."""
    first, second, *_ = gaps
    both = judged(means_of((scores[first] - scores[second]).dropna(), runs))
    if not len(counted(both)):
        return ""
    clauses = [
        f"on {wins(part)} of {pairs(part)}{where and f' {where}'} (higher on {losses(part)})"
        for where, part in populations.parts(both).items()
    ]
    return f"Its NLL is lower than that of {within(labels.calibrator_label(second))} {', '.join(clauses)}."


def _gained(name: str, gaps: pd.DataFrame, left: pd.DataFrame, populations: Populations) -> str:
    """Say what share of the remaining excess NLL a map removes, and on how many pairs it lowers and raises the NLL."""
    clauses: list[str] = []
    for where, part in populations.parts(judged(gaps)).items():
        share = removes(part.assign(mean=-part["mean"]), left)
        counts = f"lowers the NLL on {wins(part)} of {pairs(part)} and raises it on {losses(part)}"
        change = counts if len(counted(part)) else uncounted(part)
        first = f"{share} of what the optimal temperature leaves{where and f' {where}'}; it " if share else ""
        start = f"{where}, it {share and f'{share}; it '}" if clauses else f"{name} {first or (where and f'{where} ')}"
        clauses.append(f"{start}{change}.")
    return sentences(clauses)
