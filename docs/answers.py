"""Answer the four questions from the published runs, for README.md and docs/findings.md.

``python docs/answers.py`` draws docs/answer-QUESTION.png for each question, and docs/answers.png with all four.
docs/published.py writes the answers in words.
"""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

import pandas as pd
import pictures
import published

from halobench.reporting import labels
from halobench.reporting.answers.answer import BASE, Answer, Populations, judged, removes, spread
from halobench.reporting.answers.answers import answers
from halobench.reporting.answers.mixup import wins_by_loss
from halobench.reporting.answers.takeaways import MOST
from halobench.reporting.plotting.answer_panels import answer_page, answers_page
from halobench.reporting.plotting.saving import save
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS, REFERENCE

DOCS = Path(__file__).parent
WIDTH = 1000  # pixels
RUNS = {  # that answer each question
    "reach": ("architectures", "halos", "fashion", "halo-nulls", "paper-small", "demo"),
    "temperature": ("architectures", "headline", "fashion", "halos", "paper-small"),
    "mixup": ("architectures", "headline", "fashion", "halos", "paper-small"),
    "maps": ("architectures", "repair", "fashion", "fashion-overlap"),
}
# What was varied to understand partner scaling or halos, synthetic data in runs on images, which `_on_synthetic` is
# about, a CNN that doesn't fit its training labels, and losses other than Mixup.
LEFT_OUT = {
    "calibrator": r"probmetrics/SVSCalibrator",
    "dataset": r"overlap-(val|m4|all).*|.*-shuffled|gaussians.*",
    "model": r"linear|mlp-untrained|cnn-bare",
    "loss": r"(?!cross_entropy|mixup[235]|untrained).*",
}
# Where the form of a map wasn't chosen, in words, and the run.
UNSEEN, UNSEEN_RUN = (
    "the eight families of the registered study, whose images its form wasn't chosen on",
    "architectures",
)
NULL_RUN = "halo-nulls"
SAME_FIT_RUN = "architectures-fit"  # in which the base loss is trained for fewer epochs
SAME_FITS = ("none", "exact"), ("exact", "exact")  # of Mixup and of the base loss
SYNTHETIC, SYNTHETIC_RUNS = r"gaussians.*|overlap-k\d+", ("repair", "paper-small")
# The sentences of an answer and its detail, by number, that README.md has; the others are in findings.md.
IN_README = {"reach": (0,), "temperature": (0, 2), "mixup": (0, 1), "maps": ()}
SHORTER = "For some networks; cross-entropy trained for fewer epochs does better."


@functools.cache
def answer(key: str, run: str = "") -> Answer:
    """Return the answer to a question from its published runs; that on certainty is about models that interpolate."""
    runs = (run,) if run else RUNS[key]
    tables = {name: _kept(_joined(name, runs), runs) for name in ("metrics", "radii", "runs")}
    if key == "reach":
        cells = tables["runs"].loc[tables["runs"]["interpolates"], KEYS]
        tables["radii"] = tables["radii"].merge(cells, on=KEYS)
    return _answered(key, tables)


def _answered(key: str, tables: dict[str, pd.DataFrame]) -> Answer:
    return next(each for each in answers(tables) if each.key == key)


def lead(key: str) -> str:
    """Return the take-away of an answer.

    Of Mixup, a study at equal fit decides, and of maps, the run on which no map's form was chosen.
    """
    said = answer(key, UNSEEN_RUN if key == "maps" else "").takeaway
    if key == "mixup" and said and all(base_wins >= MOST * of for _, base_wins, of in _at_fit(SAME_FITS[0])):
        return SHORTER
    return said


def brief(key: str) -> str:
    """Return the sentences of an answer that README.md has."""
    said = re.split(r"(?<=\.) ", f"{answer(key).short} {answer(key).detail}")
    said = [re.sub(r", and (?:[^,]|, \d+ pairs)* without label noise\.$", ".", sentence) for sentence in said]
    said = [re.sub(r" and raises it on 0| \(higher on 0\)", "", sentence) for sentence in said]
    return " ".join([*(said[i] for i in IN_README[key] if i < len(said)), further(key, brief=True)]).strip()


def further(key: str, brief: bool = False) -> str:
    """Return what a control, a null, or data that an answer leaves out or on which a map wasn't chosen say."""
    parts = {
        "reach": [] if brief else [_for_linear_models],
        "temperature": [] if brief else [_left_on_synthetic],
        "mixup": [lambda: _at_the_same_fit(brief)] + ([] if brief else [_mixup_on_synthetic, _by_one_rule]),
        "maps": [_where_unseen] + ([] if brief else [_without_names, _without_signal]),
    }
    return " ".join(filter(None, (part() for part in parts[key])))


def _for_linear_models() -> str:
    """Compare the reach of linear models in random directions with the null, as the answer does for networks."""
    which = f"run={NULL_RUN} points=train calibrator=none model=linear probe=sphere quantity=certainty"
    null = "probe=adversarial quantity=half_spaces"
    ratios = published.filled(f"radii.relative_median {which} over {null} spread .1f", {}, ", ")
    return f"In linear models, it reaches {ratios} or more times as far."


def _left_on_synthetic() -> str:
    """Say what the optimal temperature leaves on synthetic classes."""
    values = _answered("temperature", _on_synthetic()).series[-1].values
    left = judged(values[values["loss"] == BASE])["mean"]
    return f"On overlapping Gaussians and balls, it leaves {spread(left)} nats."


def _mixup_on_synthetic() -> str:
    """Say on how many pairs with synthetic classes Mixup wins."""
    return f"On overlapping Gaussians and balls, {_wins(_on_synthetic())}"


def _wins(tables: dict[str, pd.DataFrame]) -> str:
    """Say on how many pairs each form of Mixup wins against the base loss with the optimal temperature."""
    losses = {labels.loss_label(loss): loss for loss in labels.LOSSES}
    gaps: dict[str, pd.DataFrame] = {}
    loss = ""
    for series in _answered("mixup", tables).series:  # a loss's MLPs, which are hollow, follow its other networks
        if series.hollow:
            gaps[loss] = pd.concat([gaps[loss], series.values])
        else:
            loss = losses[series.label]
            gaps[loss] = series.values
    return wins_by_loss(gaps, "uncalibrated ", Populations.of(tables["runs"], tables["metrics"]))


@functools.cache
def _on_synthetic() -> dict[str, pd.DataFrame]:
    """Return the tables of the runs on synthetic classes."""
    tables = {name: _joined(name, SYNTHETIC_RUNS) for name in ("metrics", "radii", "runs")}
    wanted = {"dataset": SYNTHETIC, "loss": f"cross_entropy|mixup[235]|{REFERENCE}"}
    for column, pattern in wanted.items():
        tables = {name: table[table[column].astype(str).str.fullmatch(pattern)] for name, table in tables.items()}
    return tables


def _at_the_same_fit(brief: bool) -> str:
    """Say in how many families the base loss beats each form of Mixup that fits the training labels as well."""
    lost, after = map(_at_fit, SAME_FITS)
    families = f"{_both(lost, 1)} of {lost[0][2]} families (Fashion-MNIST, 50% pair flips)"
    tempered = f"in {after[0][1]} (2 points, losing in {after[0][0]}; added later) and {after[1][1]} (5 points)"
    further = "" if brief else f"; if Mixup has TS, too, {tempered}"
    return f"At the same fit of noisy labels, cross-entropy after TS beats uncalibrated Mixup in {families}{further}."


def _at_fit(fits: tuple[str, str]) -> list[tuple[int, int, int]]:
    return [_sides(loss, *fits) for loss in ("mixup2", "mixup5")]


def _both(families: list[tuple[int, int, int]], side: int) -> str:
    return " and ".join(dict.fromkeys(str(each[side]) for each in families))


def _sides(loss: str, fit: str, base_fit: str) -> tuple[int, int, int]:
    """Return in how many families a form of Mixup beats the base loss, in how many it is beaten, and of how many."""
    fits = {"loss": loss, "calibrator": fit, "base_calibrator": base_fit}
    families = published.by_seed(SAME_FIT_RUN, "same_fit.value", fits)
    return *published.sides(families, SAME_FIT_RUN), len(families)


def _where_unseen() -> str:
    """Say what partner scaling removes where its form wasn't chosen."""
    found = answer("maps", UNSEEN_RUN)
    gaps = next(series.values for series in found.series if series.label == labels.calibrator_label("partner"))
    where, part = next(iter(Populations.of(published.table(UNSEEN_RUN, "runs")).parts(judged(gaps)).items()))
    share = removes(part.assign(mean=-part["mean"]), found.spans.assign(mean=-found.spans["low"]))
    return f"For {UNSEEN}, partner scaling {share} {where}; we had predicted more than half."


def _without_names() -> str:
    """Say how much of partner scaling's gain a map has that treats all classes alike."""
    rows = {"dataset": "fashion3k-pairs50", "loss": "cross_entropy", "split": "test", "labels": "noisy"}
    exact, partner, alike = (
        published.by_seed(UNSEEN_RUN, "kl", rows | {"calibrator": fit}).mean(axis=1).droplevel("calibrator")
        for fit in ("exact", "partner", "top_rest")
    )
    return (
        f"There, a map that treats all classes alike (top-versus-rest scaling) has"
        f" {spread((exact - alike) / (exact - partner), '.0%')} of this gain."
    )


def _by_one_rule() -> str:
    """Say how wins would count if the registered study's intervals were for other test images, too."""
    runs = RUNS["mixup"]
    tables = {name: _kept(_joined(name, runs), runs) for name in ("metrics", "radii", "runs")}
    fixed = tables["runs"]["train_block"].notna()
    shared = tables["runs"]["test_points"] / tables["runs"]["train_points"]
    tables["runs"]["seed_correction"] = tables["runs"]["seed_correction"].mask(fixed, shared)
    return (
        "In the registered study, seeds have training images of their own, so intervals are for its test images. By the"
        f" rule for other runs, the counts would be: {_wins(tables)}"
    )


def _without_signal() -> str:
    """Say what partner scaling does where nothing can be gained: labels that were shuffled before training."""
    which = {"dataset": "*-shuffled", "loss": "cross_entropy", "split": "test", "labels": "noisy"}
    change = published.compared(NULL_RUN, "nll", [which | {"calibrator": "partner"}, {"calibrator": "exact"}], "minus")
    _, raised = published.sides(change, NULL_RUN)
    means = change.mean(axis=1)
    return (
        f"On shuffled labels, where nothing can be gained, partner scaling adds {spread(means, '.3f')} nats"
        f" (clearly on {raised} of {len(means)})."
    )


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
        figures = {f"answer-{key}": answer_page(answer(key)) for key in RUNS}
        for name, figure in (figures | {"answers": answers_page([*map(answer, RUNS)])}).items():
            *_, png = save(figure, Path(folder) / name)
            pictures.write(png, DOCS / f"{name}.png", WIDTH if name != "answers" else 2 * WIDTH)


if __name__ == "__main__":
    draw_all()
