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

from halobench.reporting.answers.answer import Answer
from halobench.reporting.answers.answers import answers
from halobench.reporting.plotting.answer_panels import answer_page, answers_page
from halobench.reporting.plotting.saving import save
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import KEYS

DOCS = Path(__file__).parent
WIDTH = 1000  # pixels
# The runs that answer each question, and in words what the answer was measured on.
EVIDENCE = {
    "reach": (
        ("architectures", "halos", "fashion", "halo-nulls", "demo"),
        "MLPs, CNNs and small modern networks that fit 1,000 to 10,000 images of digits, MNIST or Fashion-MNIST",
    ),
    "temperature": (
        ("architectures", "headline", "fashion", "halos", "paper-small"),
        "such models, about half with flipped labels",
    ),
    "mixup": (("architectures", "headline", "fashion", "halos", "paper-small"), ""),
    "maps": (
        ("architectures", "repair", "fashion", "fashion-overlap"),
        "digits, Fashion-MNIST, collages of it and synthetic classes that overlap in pairs",
    ),
}
# What was varied to understand partner scaling or halos, synthetic data in runs on images, and losses other than Mixup.
LEFT_OUT = {
    "calibrator": r"svs",
    "dataset": r"overlap-(val|m4|all).*|.*-shuffled|gaussians.*",
    "model": r"linear|mlp-untrained|cnn-bare",
    "loss": r"(?!cross_entropy|mixup[235]|untrained).*",
}
# The names of calibrators in run `repair` that have others today.
RENAMED = {"matrix": "probmetrics/SMSCalibrator", "matrix_cv": "matrix"}
# Where the form of a map wasn't chosen, in words, and the run.
UNSEEN, UNSEEN_RUN = "the eight families of the registered study, on which its form wasn't chosen", "architectures"
SAME_FIT_RUN = "architectures-fit"  # in which the base loss is trained for fewer epochs


@functools.cache
def answer(key: str, run: str = "") -> Answer:
    """Return the answer to a question from its published runs; that on certainty is about models that interpolate."""
    runs = (run,) if run else EVIDENCE[key][0]
    tables = {name: _joined(name, runs) for name in ("metrics", "radii", "runs")}
    if key == "reach":
        cells = tables["runs"].loc[tables["runs"]["interpolates"], KEYS]
        tables["radii"] = tables["radii"].merge(cells, on=KEYS)
    return next(each for each in answers(tables) if each.key == key)


def further(key: str) -> str:
    """Return a sentence on data on which a map wasn't chosen, or on a control; "" if a question has none."""
    return {"mixup": _at_the_same_fit, "maps": _where_unseen}.get(key, str)()


def _at_the_same_fit() -> str:
    """Say in how many families the base loss beats each form of Mixup that fits the training labels as well."""
    beaten = {fit: [_beaten(loss, fit) for loss in ("mixup2", "mixup5")] for fit in ("none", "exact")}
    (two, of), (five, _) = beaten["none"]
    (two_after, _), (five_after, _) = beaten["exact"]
    return (
        f"Stopped at the same fit, cross-entropy after TS beats them in {_both(two, five)} of {of} families"
        f" (Fashion-MNIST, 50% pair flips), or {_both(two_after, five_after)} if Mixup has TS."
    )


def _both(two: int, five: int) -> str:
    return f"{two}" if two == five else f"{two} and {five}"


def _beaten(loss: str, fit: str) -> tuple[int, int]:
    """Return in how many families the base loss after TS beats a form of Mixup after a fit, and of how many."""
    fits = {"loss": loss, "calibrator": fit, "base_calibrator": "exact"}
    families = published.by_seed(SAME_FIT_RUN, "same_fit.value", fits)
    return published.sides(families, SAME_FIT_RUN)[1], len(families)


def _where_unseen() -> str:
    """Say what partner scaling removes where its form wasn't chosen."""
    short = answer("maps", UNSEEN_RUN).short
    share = re.search(r"((?:removes|adds) .*?) of what the optimal temperature leaves(.*?)[,;]", short)
    return f"For {UNSEEN}, it {share[1]}{share[2]}." if share else ""


def _joined(name: str, runs: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of a table in all runs; of a row in several runs, the first."""
    runs = tuple(run for run in runs if (published.PUBLISHED / run / f"{name}.parquet").exists())
    parts = [published.table(run, name) for run in runs]
    if not parts:
        return pd.DataFrame(columns=[*published.table("demo", name)])
    parts = [_renamed(part) if run == "repair" else part for run, part in zip(runs, parts, strict=True)]
    joined = published.first_of(parts)
    for column, pattern in LEFT_OUT.items():
        if column in joined:
            joined = joined[~joined[column].astype(str).str.fullmatch(pattern)]
    if "paper-small" in runs:  # whose overlapping classes aren't images, and which repeats a pair of `headline`
        again = (joined["dataset"] == "mnist5k-noise50") & (joined["model"] == "mlp")
        joined = joined[~(again | joined["dataset"].str.startswith("overlap"))]
    return joined


def _renamed(part: pd.DataFrame) -> pd.DataFrame:
    """Return a table of run `repair` with today's names of calibrators."""
    return part.assign(calibrator=part["calibrator"].astype(str).replace(RENAMED)) if "calibrator" in part else part


@styled
def draw_all() -> None:
    """Draw the figures of all four questions."""
    with tempfile.TemporaryDirectory() as folder:
        figures = {f"answer-{key}": answer_page(answer(key)) for key in EVIDENCE}
        for name, figure in (figures | {"answers": answers_page([*map(answer, EVIDENCE)])}).items():
            *_, png = save(figure, Path(folder) / name)
            pictures.write(png, DOCS / f"{name}.png", WIDTH if name != "answers" else 2 * WIDTH)


if __name__ == "__main__":
    draw_all()
