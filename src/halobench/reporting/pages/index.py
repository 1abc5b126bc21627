"""Write the index page of the results: each experiment's four questions with their answers and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from halobench.reporting.pages.questions import questions
from halobench.reporting.rendering import render, write
from halobench.storage.files import read_json


def write_index(
    path: Path,
    experiments: Sequence[str],
    tables: Path,
    figures: Mapping[str, Sequence[str]],
    notes: Mapping[str, str],
) -> None:
    """Write the index page with the named `figures` of each experiment."""
    shown = []
    for name in experiments:
        drawn = tables.parent / "figures" / name
        pictures = {stem: _relative(drawn / f"{stem}.svg", path) for stem in figures.get(name, ())}
        answered = tables / name / "answers.json"
        answers = read_json(answered, ["answers"])["answers"] if answered.exists() else []
        asked = questions(answers, pictures)
        others = [picture for stem, picture in pictures.items() if stem not in {each["key"] for each in asked}]
        folder = _relative(tables / name, path)
        shown.append({"name": name, "note": notes.get(name, ""), "folder": folder, "asked": asked, "others": others})
    write(path, render("index.html", title="halobench results", note="", experiments=shown))


def _relative(path: Path, page: Path) -> str:
    return os.path.relpath(path.resolve(), page.resolve().parent).replace(os.sep, "/")
