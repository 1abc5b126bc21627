"""Answer the four questions from the published runs, for README.md and docs/findings.md.

``python docs/answers.py`` draws docs/answer-QUESTION.png for each question. docs/published.py writes sentences and
numbers of the answers, `QUERIES`, into the pages.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path

import pandas as pd
import pictures
import published

from halobench.analysis.identities import architectures
from halobench.reporting import labels
from halobench.reporting.answers.answer import (
    BASE,
    GROUP,
    Answer,
    Populations,
    by_kind,
    excess_nll,
    judged,
    losses,
    means_of,
    removes,
    spread,
    wins,
)
from halobench.reporting.answers.answers import answers
from halobench.reporting.answers.reach import way
from halobench.reporting.answers.takeaways import MOST
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.saving import save
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS, REFERENCE

DOCS = Path(__file__).parent
WIDTH = 1000  # pixels
RUNS = {  # that answer each question
    "reach": ("architectures", "halos", "fashion", "halo-nulls", "architectures-nulls", "paper-small", "demo"),
    "temperature": ("architectures", "headline", "fashion", "halos", "paper-small"),
    "mixup": ("architectures", "headline", "fashion", "halos", "paper-small"),
    "maps": ("architectures", "repair", "fashion", "fashion-overlap"),
}
# Maps that some runs didn't fit, what was varied to understand partner scaling or halos, synthetic data in runs on
# images (see `SYNTHETIC`), a CNN that doesn't fit its training labels, and losses other than Mixup.
LEFT_OUT = {
    "calibrator": r"(?!(none|paper|exact|partner|top_rest)$).*",
    "dataset": r"overlap-(val|m4|all).*|.*-shuffled|gaussians.*",
    "model": r"linear|mlp-untrained|cnn-bare",
    "loss": r"(?!cross_entropy|mixup[235]|untrained).*",
}
UNSEEN_RUN = "architectures"  # on whose images no map's form was chosen
SAME_FIT_RUN = "architectures-fit"  # in which the base loss is trained for fewer epochs
SYNTHETIC, SYNTHETIC_RUNS = r"gaussians.*|overlap-k\d+", ("repair", "paper-small")
RADII = {  # the series of the answer on reach
    "worst": ("certain, worst direction",),
    "random": ("certain, random direction", "the same for MLPs"),
    "decision": ("decision changes, worst direction",),
}
NETWORKS = {4: "four"}  # of studies/paths
SHORTER = "For some networks; at the same fit of the labels, cross-entropy after TS does better."


@functools.cache
def answer(key: str, run: str = "") -> Answer:
    """Return the answer to a question from its published runs; that on certainty is about models that interpolate."""
    found = next(each for each in answers(_tables(key, run)) if each.key == key)
    return dataclasses.replace(found, null=_stopped()) if key == "temperature" else found


@functools.cache
def _tables(key: str, run: str = "") -> dict[str, pd.DataFrame]:
    """Return the tables that the answer to a question is made of."""
    runs = (run,) if run else RUNS[key]
    tables = {name: _kept(_joined(name, runs), runs) for name in ("metrics", "radii", "runs")}
    if key == "reach":
        cells = tables["runs"].loc[tables["runs"]["interpolates"] | tables["runs"]["model"].eq("linear"), KEYS]
        tables["radii"] = tables["radii"].merge(cells, on=KEYS)
    return tables


def lead(key: str) -> str:
    """Return the take-away of an answer, with its caveat.

    Of Mixup, a study at equal fit decides, and of maps, the run on which no map's form was chosen.
    """
    found = answer(key, UNSEEN_RUN if key == "maps" else "")
    said = found.lead if found.takeaway else ""
    if key == "mixup" and said:
        lost = [_at_same_fit(loss) for loss in ("mixup2", "mixup5")]
        return SHORTER if all(base_wins >= MOST * of for _, base_wins, of in lost) else said
    return said


def length(key: str) -> str:
    """Return which models an answer is about, as a sentence."""
    said = answer(key, UNSEEN_RUN if key == "maps" else "").length
    return f"{said[:1].upper()}{said[1:]}."


def removed(fit: str, *words: str) -> str:
    """Return the share of the uncalibrated excess that a fit removes, or what is ``left``, in nats.

    ``partner`` removes a share of what the optimal temperature leaves, on the run on which its form wasn't chosen.
    """
    question = ("maps", UNSEEN_RUN) if fit == "partner" else ("temperature", "")
    found, tables = answer(*question), _tables(*question)
    fits = {series.label: series.values for series in found.series}
    values = fits[labels.calibrator_label(fit)]
    if fit == "partner":
        gain, whole = values.assign(mean=-values["mean"]), found.spans.assign(mean=-found.spans["low"])
    else:
        values, whole = (each[each["loss"] == BASE] for each in (values, fits[labels.calibrator_label("none")]))
        both = values.merge(whole[[*GROUP, "mean"]], on=GROUP, suffixes=("", "_whole"))
        gain = both.assign(mean=both["mean_whole"] - both["mean"])
    if "left" in words:
        return f"{spread(_chosen(values, tables, words)['mean'])} nats"
    return removes(_chosen(gain[[*values]], tables, words), whole).removeprefix("removes ")


def won(mixed: str, fit: str, *words: str) -> str:
    """Return on how many pairs uncalibrated losses win against the base loss after a fit; or, if ``lost``, lose.

    `mixed` is a loss, or several with commas between them. With ``same_fit``, the base loss has the optimal temperature
    and fits as many noisy labels.
    """
    sides = [_at_same_fit(loss) if fit == "same_fit" else _won(loss, fit, words) for loss in mixed.split(",")]
    counts = dict.fromkeys(f"{side['lost' in words]}" for side in sides)
    (of,) = {side[2] for side in sides}
    return f"{' and '.join(counts)} of {of}"


def _won(loss: str, fit: str, words: tuple[str, ...]) -> tuple[int, int, int]:
    """Return on how many pairs a loss wins, on how many it loses, and of how many."""
    tables = _on_synthetic() if "synthetic" in words else _tables("mixup")
    scores = excess_nll(tables["metrics"]).droplevel("base")
    other, base = (scores.xs(name, level="loss") for name in (loss, BASE))
    gap = pd.concat({loss: other["none"] - base[fit]}, names=["loss"]).reorder_levels(KEYS).dropna()
    runs = tables["runs"]
    if "corrected" in words:  # as if the registered study's intervals were for other test images, too
        shared = runs["test_points"] / runs["train_points"]
        runs = runs.assign(seed_correction=runs["seed_correction"].mask(runs["train_block"].notna(), shared))
    gaps = _chosen(means_of(gap, runs), tables, words)
    return wins(gaps), losses(gaps), len(gaps)


def reached(radius: str, *words: str) -> str:
    """Return how far certainty or decisions reach, as a range over pairs, or ``below`` how many of them end by 100%."""
    of = [series for series in answer("reach").series if series.label in RADII[radius]]
    values = _chosen(pd.concat([series.values for series in of]), _tables("reach"), words)
    if "below" in words:
        return f"{(values['mean'] < 1).sum()} of {len(values)}"
    return way(values)


def null(key: str) -> str:
    """Return the sentence on what an answer is compared with."""
    return answer(key).null


QUERIES = {"lead": lead, "length": length, "null": null, "removed": removed, "won": won, "reached": reached}


def _chosen(values: pd.DataFrame, tables: dict[str, pd.DataFrame], words: tuple[str, ...]) -> pd.DataFrame:
    """Return the pairs with label noise, without (``clean``) or ``all``; of these, those of ``mlp`` or ``other``."""
    runs = tables["runs"]
    parts = [*Populations.of(runs, tables["metrics"]).parts(judged(values)).values()]
    chosen = pd.concat(parts) if "all" in words else parts["clean" in words]
    of = dict(by_kind(chosen, architectures(runs)))
    return of["mlp" in words] if {"mlp", "other"} & {*words} else chosen


@functools.cache
def _on_synthetic() -> dict[str, pd.DataFrame]:
    """Return the tables of the runs on synthetic classes."""
    tables = {name: _joined(name, SYNTHETIC_RUNS) for name in ("metrics", "radii", "runs")}
    wanted = {"dataset": SYNTHETIC, "loss": f"cross_entropy|mixup[235]|{REFERENCE}"}
    for column, pattern in wanted.items():
        tables = {name: table[table[column].astype(str).str.fullmatch(pattern)] for name, table in tables.items()}
    return tables


def _stopped() -> str:
    """Say what a temperature removes if cross-entropy stops at its best length, and how that compares with TS later."""
    means = published.study_table(published.ROOT / "studies/paths/compared.csv").set_index("comparison")["mean"]
    better, share = -means["10 CE, best, minus CE + TS, 100%"], means["12 share of CE's KL that TS removes, best"]
    return (
        f"Stopped by validation NLL, {NETWORKS[len(better)]} of these networks are {spread(better)} nats better without"
        f" any calibration; TS then removes {spread(share, '.0%')}."
    )


def _at_same_fit(loss: str) -> tuple[int, int, int]:
    """Return in how many families a form of Mixup beats the base loss, in how many it is beaten, and of how many."""
    fits = {"loss": loss, "calibrator": "none", "base_calibrator": "exact"}
    families = published.by_seed(SAME_FIT_RUN, "same_fit.value", fits)
    return *published.sides(families, SAME_FIT_RUN), len(families)


def _joined(name: str, runs: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of a table in all runs; of a row in several runs, the first."""
    runs = tuple(run for run in runs if (published.PUBLISHED / run / f"{name}.parquet").exists())
    parts = [published.table(run, name) for run in runs]
    if not parts:
        return pd.DataFrame(columns=[*published.table("demo", name)])
    return published.first_of(parts)


def _kept(joined: pd.DataFrame, runs: tuple[str, ...]) -> pd.DataFrame:
    """Return a table without what isn't part of the answers."""
    for column, pattern in LEFT_OUT.items():
        if column == "model" and "halo-nulls" in runs:
            pattern = pattern.removeprefix("linear|")
        if column in joined:
            joined = joined[~joined[column].astype(str).str.fullmatch(pattern)]
    if "paper-small" in runs:  # whose overlapping classes aren't images
        joined = joined[~joined["dataset"].str.startswith("overlap")]
    if "headline" in runs:  # which has this pair with test images of its own
        joined = joined[(joined["dataset"] != "mnist5k-noise50") | (joined["model"] != "mlp")]
    return joined


@styled
def draw_all() -> None:
    """Draw the figures of all four questions."""
    with tempfile.TemporaryDirectory() as folder:
        for key in RUNS:
            *_, png = save(answer_page(answer(key)), Path(folder) / key)
            pictures.write(png, DOCS / f"answer-{key}.png", WIDTH)


if __name__ == "__main__":
    draw_all()
