"""Define the class of answers, and functions for pairs, scores, means and wording that answers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from halobench.analysis.names import NO_LOSS, Style
from halobench.analysis.shared_samples import seed_corrections
from halobench.core.formatting import count, number, within
from halobench.core.plugins.facts import facts
from halobench.reporting import labels, table_views
from halobench.reporting.answers.takeaways import MLP
from halobench.reporting.leaders import preferred_labels
from halobench.reporting.seed_statistics import over_seeds
from halobench.storage.columns import KEYS, REFERENCE

PAIR, GROUP = ["dataset", "model"], ["dataset", "model", "loss"]
MOST_JOINED = 30  # rows of joined dots in a figure
LEAST_NATS, SLIGHT_SHARE = 0.01, 0.005  # nats of which a share says something, and a share that is rounded to 0%
BASE = "cross_entropy"  # the loss whose models the questions are about, if the grid has it
NLL = "test NLL{}\n(nats; left is better)"
OF_WHAT = {  # by whether the posterior is known for all pairs, some or none
    (True,): " above that of the known posterior",
    (False, True): ", above the posterior's if it is known",
    (False,): "",
}
ON_IMAGES = (
    "collage",
    "image_overlap",
)  # distributions whose samples are made of images; those of others are synthetic
ONE_SEED = " One seed: pairs are shown, but not counted; the table metrics has intervals over test samples."
CHANGE = "change in test NLL from {}\n(nats; left is better)"
# Why an answer has no fit: it wasn't asked for, or it has no finite score.
NO_FIT = {
    "none": "Not measured: this grid doesn't score uncalibrated models.",
    "exact": "Not measured: this grid doesn't fit the optimal temperature.",
}
NO_SCORE = {
    "none": "Not measured: no uncalibrated model has a score.",
    "exact": "Not measured: no model has a finite optimal temperature. There is none if all validation samples are"
    " classified correctly.",
}


@dataclass(frozen=True)
class Series:
    """The dots of one kind: their label (empty if another series' label covers them), style and values.

    Attributes
    ----------
    values : DataFrame
        Per dataset, model and loss: the mean over seeds, its interval (NaN for one seed), and whether the mean is only
        a lower bound (`open`).
    """

    label: str
    style: Style
    values: pd.DataFrame
    hollow: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes
    ----------
    key, question : str
        The name of the answer's figure, and the question.
    short, detail, limit : str
        In this order: the answer in numbers, or why there is none; further numbers; and caveats about both.
    takeaway : str
        The answer in at most 15 words; "" if no rule in `takeaways` applies.
    length : str
        Which models the answer is about: how long they were trained.
    null : str
        A sentence on what happens without what the question asks about; "" if that wasn't measured.
    caveat : str
        What the take-away must not be read without, as the end of a sentence; "" if there is nothing.
    populations : Populations, optional
        The populations by which the rows of the figure are grouped.
    series : tuple of Series
        The series of dots in the order of the legend; empty if there is no answer.
    axis : str
        The label of the value axis, which has a reference line at `line`.
    spans : DataFrame
        Per dataset, model and loss, a range from `low` to `high` behind the dots; `span` is its label in the legend.
    hollow : str
        What hollow marks mean, if their series have no labels of their own.
    log : bool
        Whether the value axis is logarithmic above 1%, with room for 0.
    joined : bool
        Whether a line joins the dots of a row; otherwise, the dots are drawn one below the other.
    percent : bool
        Whether values are shown as percentages.
    more : str
        A sentence on losses or maps that only the leaderboard shows; "" if there are none.
    """

    key: str
    question: str
    short: str
    detail: str = ""
    limit: str = ""
    series: tuple[Series, ...] = ()
    axis: str = ""
    line: float = 0.0
    spans: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*GROUP, "low", "high"]))
    span: str = ""
    hollow: str = ""
    joined: bool = False
    percent: bool = False
    more: str = ""
    takeaway: str = ""
    length: str = ""
    null: str = ""
    caveat: str = ""
    log: bool = False
    populations: Populations | None = None

    @property
    def lead(self) -> str:
        """Return the take-away or, if there is none, the answer in numbers, with the caveat."""
        said = self.takeaway or self.short
        if not self.caveat:
            return said
        return f"{said.removesuffix('.')}, {self.caveat}." if self.takeaway else f"{said} Caveat: {self.caveat}."

    @property
    def title(self) -> str:
        """Return the take-away with its caveat or, if there is none, the question."""
        return self.lead if self.takeaway else self.question

    @property
    def note(self) -> str:
        """Return the line below the title: the question, unless it is the title; the answer in numbers; the models."""
        said = self.question if self.takeaway else self.lead
        return f"{said} About {self.length}." if self.length else said

    @property
    def words(self) -> dict[str, str]:
        """Return the answer without its figure, for files and pages."""
        names = ("key", "question", "takeaway", "length", "null", "caveat", "lead", "short", "limit")
        return {name: getattr(self, name) for name in names} | {"detail": f"{self.detail} {self.more}".strip()}


# Models and scores ----------------------------------------------------------------------------------------------------


def with_base(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the column `base`, the loss of the models that the questions are about in each pair.

    The base loss is cross-entropy or, in pairs without it, the first loss. Models that halobench didn't train are left
    out, unless there are no others.
    """
    table = table[table["loss"] != REFERENCE].astype(dict.fromkeys(GROUP, str))
    trained = table[table["loss"] != NO_LOSS]
    table = trained if len(trained) else table
    base = {
        pair: BASE if BASE in losses else losses[0]
        for pair, rows in table_views.groups_of(table, PAIR).items()
        for losses in [table_views.losses_in(rows)]
    }
    return table.assign(base=[base[pair] for pair in table[PAIR].itertuples(index=False, name=None)])


def base_label(table: pd.DataFrame) -> str:
    """Return words, as within a sentence, for the models whose losses are in the index level `base`."""
    losses = set(table.index.get_level_values("base"))
    if losses == {NO_LOSS}:
        return "models trained elsewhere"
    return within(labels.loss_label(losses.pop())) if len(losses) == 1 else "each pair's first loss"


def excess_nll(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return test scores with a row per cell, indexed by dataset, model, loss, seed and `base`, and a column per fit.

    A score is the KL from the known posterior, i.e. the NLL minus the posterior's NLL, or the NLL itself if no
    posterior is known.
    """
    rows = preferred_labels(metrics[metrics["metric"].isin(("kl", "nll"))])
    rows = with_base(rows).astype({"calibrator": str, "metric": str})
    wide = rows.pivot_table("value", [*KEYS, "base", "calibrator"], "metric").reindex(columns=["kl", "nll"])
    return wide["kl"].fillna(wide["nll"]).unstack("calibrator")


def of_base(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of scores whose loss is the base loss of their pair of data set and model."""
    return scores[scores.index.get_level_values("loss") == scores.index.get_level_values("base")]


def length(values: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Return how long the models of the pairs in `values` were trained, and whether they fit all labels."""
    cells = runs.astype(dict.fromkeys(GROUP, str)).merge(values[GROUP].drop_duplicates())
    if cells.empty or "interpolates" not in cells:
        return ""
    if {*cells["loss"]} == {NO_LOSS}:
        return "models trained elsewhere"
    fit = cells.groupby(PAIR)["interpolates"].all()
    if fit.all():
        return "networks trained until they fit all labels"
    return f"networks trained to the end (all epochs); {fit.sum()} of {pairs(fit)} fit all labels"


def mixup_losses(runs: pd.DataFrame) -> set[str]:
    """Return the losses that are forms of Mixup, whatever their names."""
    return {*runs.loc[runs["loss_family"] == facts("losses", "mixup").family, "loss"]}


def without_fit(metrics: pd.DataFrame, scores: pd.DataFrame, fits: Iterable[str] = ("none", "exact")) -> str:
    """Return why the first of `fits` without any score for a base model has none; "" if all have scores."""
    base, tried = of_base(scores), set(metrics["calibrator"].astype(str))
    for fit in fits:
        if fit not in base or base[fit].isna().all():
            return NO_SCORE[fit] if fit in tried else f"{NO_FIT[fit]} Add `{fit}` to `calibrators`."
    return ""


def means_of(values: pd.Series, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of values over seeds and its t interval by dataset, model and loss, in the order of panels.

    The interval is widened if seeds share samples.
    """
    table = values.rename("value").reset_index()
    table["seed_correction"] = table["dataset"].map(seed_corrections(runs))
    means = over_seeds(table, GROUP, "value").assign(open=False)
    order = {pair: i for i, pair in enumerate(table_views.cells_in(means))}
    rank = [order[pair] for pair in means[PAIR].itertuples(index=False, name=None)]
    return means.iloc[np.argsort(rank, kind="stable")].reset_index(drop=True)


# Words ----------------------------------------------------------------------------------------------------------------


def spread(values: pd.Series, form: str = ".2f", median: bool = False) -> str:
    """Return the smallest and largest value as text, e.g. ``0.12 to 0.30``, or one number if both read the same.

    With `median`, a range over at least three values is followed by their median and number in parentheses.
    """
    said = " to ".join(dict.fromkeys(number(value, form) for value in (values.min(), values.max())))
    if median and len(values) > 2 and " to " in said:
        return f"{said} (median {number(values.median(), form)}, {pairs(values)})"
    return said


def with_shares(part: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs whose mean in `whole` is at least `LEAST_NATS`, with `share`, the ratio of part to whole.

    The share is 1 if part and whole are both infinite.
    """
    both = part.merge(whole, on=GROUP, suffixes=("", "_whole"))
    both = both[both["mean_whole"] >= LEAST_NATS]
    with np.errstate(invalid="ignore"):
        shares = (both["mean"] / both["mean_whole"]).mask(both["mean"].eq(np.inf) & both["mean_whole"].eq(np.inf), 1.0)
    return both.assign(share=shares).dropna(subset=["share"])


def removes(part: pd.DataFrame, whole: pd.DataFrame) -> str:
    """Say what share of `whole` the gains in `part` remove, as a range over pairs, e.g. ``removes 2% to 90%``.

    Shares below -`SLIGHT_SHARE` are reported as added. The result is "" if no pair's whole is at least `LEAST_NATS`.
    """
    shares = with_shares(part, whole)["share"]
    if shares.empty:
        return ""
    if shares.min() >= -SLIGHT_SHARE:
        return f"removes {spread(shares, '.0%', median=True)}"
    lost = shares if shares.max() <= SLIGHT_SHARE else shares[shares < -SLIGHT_SHARE]
    more = f"{number(-lost.max(), '.0%')} or more" if np.isinf(lost.min()) else spread(-lost, ".0%")
    added = f"adds {'infinitely much' if np.isinf(lost.max()) else more}"
    if len(lost) == len(shares):
        return added
    return f"removes {spread(shares.drop(lost.index), '.0%')} (and {added} on {len(lost)} of {pairs(shares)})"


def counted(values: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with several seeds, since one seed can't show whether a difference is more than chance."""
    return values[values["n"] > 1]


def judged(values: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with several seeds or, if no pair has several, all pairs."""
    several = counted(values)
    return several if len(several) else values


def left_out(optimal: pd.Series, means: pd.DataFrame) -> str:
    """Say how many models have no optimal temperature, and how many pairs have one seed if others have several.

    `optimal` has the models' scores at their optimal temperatures, and `means` has the pairs' means over seeds. If no
    pair has several seeds, `ONE_SEED` is returned too.
    """
    models, single = int((~np.isfinite(optimal)).sum()), len(means) - len(judged(means))
    kinds = [
        f"{count(models, 'model')} without an optimal temperature" if models else "",
        f"{count(single, 'pair')} with one seed" if single else "",
    ]
    said = f" Left out: {' and '.join(filter(None, kinds))}." if any(kinds) else ""
    return said if len(counted(means)) else said + ONE_SEED


NOISE, PLANTED, UNSURE, CERTAIN, SYNTHETIC = "label noise", "planted overlap", "uncertain labels", "", "synthetic"


class Populations(NamedTuple):
    """The kind of each data set, and the data sets with a known posterior.

    There are three populations: real data with uncertain labels (noise, planted overlap, or a posterior that came with
    the data), other real data, and synthetic classes.
    """

    kinds: dict[str, str]
    known: frozenset[str]

    @classmethod
    def of(cls, runs: pd.DataFrame, metrics: pd.DataFrame) -> Populations:
        """Return the kinds of data sets in `runs`; a posterior is known if `metrics` have its entropy."""
        known = frozenset(table_views.posterior_entropies(metrics))
        kinds: dict[str, str] = {}
        row: Any
        for row in runs.astype({"dataset": str}).drop_duplicates("dataset").itertuples():
            if row.distribution and row.distribution not in ON_IMAGES:
                kinds[row.dataset] = SYNTHETIC
            elif row.noise > 0 or (row.distribution and row.dataset in known):
                kinds[row.dataset] = NOISE if row.noise > 0 else PLANTED
            else:
                kinds[row.dataset] = UNSURE if row.dataset in known else CERTAIN
        return cls(kinds, known | {name for name, kind in kinds.items() if kind == SYNTHETIC})

    def parts(self, values: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Return the pairs of each population by its description, or all under "" if the grid has one population."""
        kind, kinds = values["dataset"].map(self.kinds), {*self.kinds.values()}
        uncertain = (NOISE, PLANTED, UNSURE)
        given = [name for name in uncertain if (kind == name).any()] or [name for name in uncertain if name in kinds]
        others = f"without {given[0] if len(given) == 1 else 'either'}" if given else "on real data"
        parts = {
            f"with {' or '.join(given)}": values[kind.isin(given)],
            others: values[kind == CERTAIN],
            "on synthetic classes": values[kind == SYNTHETIC],
        }
        parts = {where: part for where, part in parts.items() if len(part)}
        populations = {UNSURE if name in uncertain else name for name in kinds}
        return parts if parts and len(populations) > 1 else {"": values}

    def described(self, values: pd.DataFrame, describe: Callable[[pd.DataFrame], str]) -> str:
        """Return what `describe` says of each population's pairs as text, or "" if there are no pairs."""
        parts = self.parts(values) if len(values) else {}
        return ", and ".join(f"{describe(part)} {where}".rstrip() for where, part in parts.items())


def if_mixed(values: pd.DataFrame, kinds: Mapping[str, str]) -> Mapping[str, str]:
    """Return `kinds` if it has the kinds of all models in `values`, and some but not all are MLPs; otherwise, {}."""
    kind = values["model"].map(kinds).fillna("")
    return kinds if (kind != "").all() and (kind == MLP).any() and (kind != MLP).any() else {}


def by_kind(values: pd.DataFrame, kinds: Mapping[str, str]) -> list[tuple[bool, pd.DataFrame]]:
    """Return the pairs of non-MLPs (False) and of MLPs (True), if any; a model without a kind counts as a non-MLP."""
    of_mlps = values["model"].map(kinds).eq(MLP)
    return [(mlps, values[of_mlps == mlps]) for mlps in (False, True) if (of_mlps == mlps).any()]


def outcomes(values: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with several seeds, and whether each is `won` or `lost`.

    A pair is won if its interval over seeds lies below 0 or its mean is -infinity, and lost if the interval lies above
    0 or the mean is infinity.
    """
    several = counted(values)
    low, high, mean = (several[name] for name in ("low", "high", "mean"))
    return several.assign(won=(high < 0) | (mean == -np.inf), lost=(low > 0) | (mean == np.inf))


def wins(values: pd.DataFrame) -> int:
    """Count the pairs that are won."""
    return int(outcomes(values)["won"].sum())


def losses(values: pd.DataFrame) -> int:
    """Count the pairs that are lost."""
    return int(outcomes(values)["lost"].sum())


def uncounted(values: pd.DataFrame) -> str:
    """Return words for how much the NLL changes on pairs with one seed."""
    return f"changes the NLL by {spread(values['mean'], '.3f')} nats on {pairs(values)} with one seed"


def pairs(values: pd.DataFrame | pd.Series) -> str:
    """Return the number of pairs of data set and model as text, e.g. ``3 pairs``."""
    return count(len(values), "pair")


def sentences(parts: Iterable[str]) -> str:
    """Join sentences that aren't empty, each with a capital first letter."""
    return " ".join(f"{part[:1].upper()}{part[1:]}" for part in parts if part)
