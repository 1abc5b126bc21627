"""Answer which maps of the logits repair what a temperature leaves."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from halobench.core.formatting import count
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import (
    CHANGE,
    GROUP,
    Answer,
    Series,
    apart,
    base_label,
    excess_nll,
    judged,
    left_out,
    losses,
    means_of,
    of_base,
    pairs,
    removes,
    sentences,
    wins,
    without_fit,
)
from halobench.reporting.styles import calibrator_styles

QUESTION = "What can repair the rest?"
MISSING = "Not measured: this grid fits no calibrator beyond a temperature. Add `partner` or `auto` to `calibrators`."
TEMPERATURES = ("none", "paper", "exact", "oracle")
MOST = 5  # calibrators; those of the user come first
LIMIT = (
    "For {}. Classes also overlap if labels are noisy. All maps are fitted to validation samples, and may change which"
    " class is predicted. A pair counts if its 95% interval excludes 0."
)
CHOSEN = (
    " The form of partner scaling was chosen on digits and MNIST with pair flips, and on synthetic classes that overlap"
    " in pairs."
)


def maps(metrics: pd.DataFrame, runs: pd.DataFrame) -> Answer:
    """Answer from the excess NLL after each map minus that after the optimal temperature."""
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
    shown = list(dict.fromkeys([*own, *preferred, *others]))[:MOST]
    left = means_of(scores["exact"], runs)
    gaps = {name: every[name] for name in shown}
    left = left.merge(pd.concat([*gaps.values()])[GROUP].drop_duplicates(), on=GROUP)  # where any map was fitted
    unclear = table_views.posterior_entropies(metrics)
    said = [_gained(labels.calibrator_label(name), values, left, unclear) for name, values in gaps.items()]
    styles = calibrator_styles(shown)
    more = len(others) - len(shown)
    return Answer(
        "maps",
        QUESTION,
        sentences(said[:1]),
        sentences(said[1:]),
        LIMIT.format(models) + left_out(scores["exact"], every[shown[0]]) + (CHOSEN if "partner" in shown else ""),
        tuple(Series(labels.calibrator_label(name), styles[name], gaps[name].assign(loss="")) for name in shown),
        CHANGE.format("the optimal temperature"),
        0.0,
        left[GROUP].assign(loss="", low=-left["mean"], high=-left["mean"]),
        "all of it",
        more=f"{count(more, 'more map is', 'more maps are')} in the leaderboard." if more else "",
    )


def _gained(name: str, gaps: pd.DataFrame, left: pd.DataFrame, unclear: Collection[str]) -> str:
    """Say which share of the remaining excess NLL a map removes, and on how many pairs it lowers and raises the NLL."""
    gaps = judged(gaps)
    lowered = f"lowers the NLL on {wins(gaps)} of {pairs(gaps)} and raises it on {losses(gaps)}"
    shares = {where: removes(part.assign(mean=-part["mean"]), left) for where, part in apart(gaps, unclear).items()}
    if not any(shares.values()):
        return f"{name} {lowered}."
    (where, first), *others = [(where, share) for where, share in shares.items() if share]
    said = [f"{first} of what the optimal temperature leaves {where}".rstrip()]
    said += [f"{share.removeprefix(first.split()[0]).lstrip()} {where}" for where, share in others]
    return f"{name} {', and '.join(said)}; it {lowered}."
