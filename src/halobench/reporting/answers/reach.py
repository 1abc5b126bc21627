"""Answer how far certainty reaches around training samples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from halobench.analysis.identities import architectures, identities
from halobench.analysis.names import Style
from halobench.core.plugins.facts import stem
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import (
    GROUP,
    Answer,
    Populations,
    Series,
    base_label,
    by_kind,
    counted,
    if_mixed,
    length,
    means_of,
    pairs,
    sentences,
    spread,
    with_base,
)
from halobench.reporting.answers.takeaways import takeaway
from halobench.storage.columns import KEYS, SURVIVAL, SURVIVAL_COLUMNS

QUESTION = "How far does certainty reach?"
MISSING = (
    "Not measured: this grid probes neither random directions nor the worst one. Add `sphere` and `adversarial` to"
    " `probes`."
)
UNIT = "of the distance to the nearest sample with another label"
AXIS = "median distance, in % of that to the nearest other label"
NULL = "random direction, if boundaries were flat"
RANDOM = ("sphere", "manifold", "mixup_line")  # the directions that stand for random ones, best first
WORST = ("adversarial", "nearest_other")  # the directions that stand for the worst one, best first
WAYS = {
    "sphere": "in random directions",
    "manifold": "along principal components",
    "mixup_line": "towards random points of other classes",
    "adversarial": "in the worst direction found",
    "nearest_other": "towards the nearest other class",
}
SHORT = {
    "sphere": "random direction",
    "manifold": "principal components",
    "mixup_line": "to random other class",
    "adversarial": "worst direction",
    "nearest_other": "to nearest other class",
}
RANDOM_STYLE, OF_MLPS = Style("#D55E00", "o"), Style("#F0A35E", "o")
NULL_SERIES = (
    ("worst direction, linear models", Style("#7B6FA8", "v")),
    ("worst direction, certain held-out samples", Style("#2E9E8F", "^")),
)
BLUE, INK = "#1F4E9E", "#222222"


def reach(radii: pd.DataFrame, runs: pd.DataFrame, metrics: pd.DataFrame) -> Answer:
    """Answer from median relative radii around training samples (evaluation samples for models trained elsewhere)."""
    table = table_views.by_kind(radii)
    table = with_base(table[table["relative_median"].notna()])
    table = table[table["loss"] == table["base"]].assign(among_certain=_among_certain)
    heldout, linear = table["points"] == "heldout", _linear(table, runs)
    of_linear, around_heldout = table[linear & ~heldout], table[heldout & ~linear]
    table, around = table_views.with_evaluation_as_train(table[~heldout & ~linear])
    certain = table[table["quantity"] == "certainty"]
    random, worst = (_first(certain, names) for names in (RANDOM, WORST))
    changes = _first(table[table["quantity"] == "decision"], WORST)
    after = f"the same after {labels.calibrator_label('exact')}"
    wanted = [
        (f"certain, {SHORT.get(random)}", RANDOM_STYLE, (random, "certainty", "none")),
        (f"certain, {SHORT.get(worst)}", Style(BLUE, "s"), (worst, "certainty", "none")),
        (after, Style(BLUE, "s"), (worst, "certainty", "exact")),
        (f"decision changes, {SHORT.get(changes)}", Style(INK, "D"), (changes, "decision", "none")),
    ]
    measured = {which: _medians(table, *which, runs) for _, _, which in wanted}
    kinds = architectures(runs)
    series = [
        Series(
            "the same for MLPs" if mlps else label,
            OF_MLPS if mlps else look,
            part,
            label == after,
        )
        for label, look, key in wanted
        if len(measured[key])
        for mlps, part in by_kind(measured[key], if_mixed(measured[key], kinds) if look is RANDOM_STYLE else {})
    ]
    if not any(len(measured[probe, "certainty", "none"]) for probe in (random, worst)):
        return Answer("reach", QUESTION, MISSING)
    at_random, at_worst = ((probe, "certainty", "none") for probe in (random, worst))
    reached = pd.concat([measured[key]["mean"] for key in (at_random, at_worst) if len(measured[key])])
    populations = Populations.of(runs, metrics)
    nulls = [
        _medians(rows, worst, "certainty", "none", runs, "among_certain") for rows in (of_linear, around_heldout, table)
    ]
    below = [Series(*look, values) for look, values in zip(NULL_SERIES, nulls, strict=False) if len(values)]
    worst_ends = next((i for i, each in enumerate(series) if each.style == Style(INK, "D")), len(series))
    series[worst_ends:worst_ends] = below
    null = _medians(table, "adversarial", "half_spaces", "none", runs) if random == "sphere" else pd.DataFrame()
    detail = [_null(null, measured[at_random], populations) if len(null) else ""]
    if ends := populations.described(measured[worst, "certainty", "exact"], way):
        detail += [f"After the optimal temperature, certainty ends {WAYS[worst]} after {ends}."]
    if alters := populations.described(measured[changes, "decision", "none"], way):
        detail += [f"The decision, which no temperature alters, changes {WAYS[changes]} after {alters}."]
    by_pair = {
        which: counted(measured[key]).set_index(GROUP)["mean"]
        for which, key in (("worst", at_worst), ("random", at_random))
        if key[0] in (WORST[0], RANDOM[0]) and len(measured[key])
    }
    return Answer(
        "reach",
        QUESTION,
        _short([(measured[at_worst], worst), (measured[at_random], random)], populations, not reached.gt(0).any()),
        " ".join(filter(None, detail)),
        _limit(table, around),
        tuple(series),
        AXIS,
        1.0,
        null.assign(low=null["mean"], high=math.inf) if len(null) else Answer("", "", "").spans,
        NULL,
        percent=True,
        log=True,
        takeaway=takeaway("reach", {"": pd.concat(by_pair, axis=1, join="inner").reset_index()})
        if "worst" in by_pair
        else "",
        length=length(measured[at_worst if len(measured[at_worst]) else at_random], runs),
        null=_nulls(nulls[0], nulls[1], nulls[2], populations),
        populations=populations,
    )


def _linear(table: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return which rows are of linear models, if there are others; what is true of both isn't due to networks."""
    plugins = {key: each.plugin for key, each in identities(runs)["models"].items()}
    linear = table["model"].map(lambda model: plugins.get(model, stem(model, ("linear",))) == "linear").astype(bool)
    return ~linear if linear.all() else linear


def _among_certain(table: pd.DataFrame) -> np.ndarray:
    """Return median relative radii of certain samples, interpolated; a network may not predict a held-out label."""
    shares = table[[*SURVIVAL_COLUMNS]].to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = shares / shares[:, :1]
    return np.array([np.interp(-0.5, -each, SURVIVAL) for each in shares])


def _nulls(linear: pd.DataFrame, heldout: pd.DataFrame, trained: pd.DataFrame, populations: Populations) -> str:
    """Say after what distance certainty ends, in the worst direction, in linear models and around held-out samples."""
    said = [f"{linear['mean'].median():.0%} in linear models ({pairs(linear)})"] if len(linear) else []
    both = heldout.merge(trained, on=GROUP, suffixes=("", "_trained")) if len(heldout) and len(trained) else heldout
    for where, part in (populations.parts(both) if len(both) else {}).items():
        around, trained_on = (f"{part[column].median():.0%}" for column in ("mean", "mean_trained"))
        of = ("", "") if "held-out" in "".join(said) else (" around held-out", " around training samples")
        said.append(f"{where}, {around}{of[0]} and {trained_on}{of[1]} ({pairs(part)})")
    start = "For comparison, medians over samples that models are certain of"
    return f"{start}: {'; '.join(each.removeprefix(', ') for each in said)}." if said else ""


def _first(table: pd.DataFrame, names: tuple[str, ...]) -> str:
    probes = set(table["probe"].astype(str))
    return next((name for name in names if name in probes), "")


def _medians(
    table: pd.DataFrame,
    probe: str,
    quantity: str,
    calibrator: str,
    runs: pd.DataFrame,
    column: str = "relative_median",
) -> pd.DataFrame:
    """Return means over seeds of median radii; a mean is open if, for some seed, over half of the rays are censored."""
    table = table[table[column].notna()]
    rows = table[(table["probe"] == probe) & (table["quantity"] == quantity) & (table["calibrator"] == calibrator)]
    if rows.empty:
        return pd.DataFrame()
    means = means_of(rows.set_index(KEYS)[column], runs)
    ends = rows.groupby(GROUP)["censored"].max().gt(0.5).rename("open").reset_index()
    means = means.drop(columns="open").merge(ends, on=GROUP)
    return means.assign(low=means["low"].clip(lower=0))


def way(values: pd.DataFrame) -> str:
    """Return the range of distances over pairs as text, with the median unless some distances are only lower bounds."""
    more = values["open"].any()
    return spread(values["mean"], ".0%", median=not more) + (" or more" if more else "")


def _short(measured: list[tuple[pd.DataFrame, str]], populations: Populations, nowhere: bool) -> str:
    """Say, for each population, after what distance certainty ends in the worst direction and in random directions."""
    if nowhere:
        return "Nowhere: the models aren't certain of most points' labels, even at the points themselves."
    (worst, direction), *others = ((values, WAYS[probe]) for values, probe in measured if len(values))
    whole = "of the distance to it" if direction == WAYS["nearest_other"] else UNIT
    elsewhere = [(populations.parts(values), other) for values, other in others]
    said: list[str] = []
    for where, part in populations.parts(worst).items():
        start = f"it ends after {way(part)}" if said else f"{direction}, certainty ends after {way(part)} {whole}"
        further = [f"{other}, after {way(parts[where])}" for parts, other in elsewhere if where in parts]
        said.append(f"{'; '.join([f'{where}, {start}' if where else start, *further])}.")
    return sentences(said)


def _null(null: pd.DataFrame, random: pd.DataFrame, populations: Populations) -> str:
    """Compare how far certainty reaches in random directions with the null; return "" if no null is above 0."""
    both = random.merge(null[null["mean"] > 0], on=GROUP, suffixes=("", "_null"))

    def times(part: pd.DataFrame) -> str:
        more, twice = "or more " if part["open"].any() else "", int((~part["open"] & (part["ratio"] <= 2)).sum())
        return f"{spread(part['ratio'], '.1f')} {more}times as far (at most twice as far on {twice} of {pairs(part)})"

    said = populations.described(both.assign(ratio=both["mean"] / both["mean_null"]), times)
    flat = "In random directions, compared with boundaries that are flat at the worst distance, it reaches"
    return f"{flat} {said}." if said else ""


def _limit(table: pd.DataFrame, around: str) -> str:
    level = " or ".join(f"{threshold:g}" for threshold in sorted(table["threshold"].dropna().unique()))
    meant = f"Certain: confidence above {level}, uncalibrated unless stated, with {base_label(table.set_index('base'))}"
    parts = [f"{meant}; medians {around}."]
    attacked = "An attack finds an upper bound: certainty may end sooner in a direction that it missed."
    missing = "No attack was run (`adversarial`), so certainty may end much sooner in other directions."
    parts.append(attacked if "adversarial" in set(table["probe"]) else missing)
    return " ".join(parts)
