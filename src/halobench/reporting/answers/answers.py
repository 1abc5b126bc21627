"""Answer all four questions, in order, and write the answers in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from halobench.reporting.answers.answer import Answer
from halobench.reporting.answers.maps import maps
from halobench.reporting.answers.mixup import mixup
from halobench.reporting.answers.reach import reach
from halobench.reporting.answers.temperature import temperature
from halobench.storage import files


def answers(tables: Mapping[str, pd.DataFrame]) -> list[Answer]:
    """Answer the four questions from an experiment's tables metrics, radii and runs."""
    metrics, runs = tables["metrics"], tables["runs"]
    return [reach(tables["radii"], runs, metrics), *(answer(metrics, runs) for answer in (temperature, mixup, maps))]


def write_answers(path: Path, all_answers: Sequence[Answer], claims: Sequence[Mapping[str, str]] = ()) -> None:
    """Write the answers in words, and the outcomes of `own_claims`, for pages and the last lines of a run to show."""
    files.write_json(path, {"answers": [answer.words for answer in all_answers], "claims": [*claims]})
