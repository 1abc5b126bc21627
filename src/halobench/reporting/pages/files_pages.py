"""Write the pages of an experiment's figures and tables, with download links for their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from halobench.experiment.figure_choice import QUESTIONS, display_facts
from halobench.reporting.rendering import render
from halobench.storage.layout import ORIGINS, TABLES

FIRST = ("summary", *QUESTIONS)  # figures shown first
FORMATS = ("pdf", "svg", "png")  # of figures
# The formats of the tables that figures and pages are drawn from, and what a row of each is.
DATA = {name: ("csv", "parquet") for name in (*TABLES, "claims")} | {name: ("parquet",) for name in ORIGINS}
ROWS_OF_TABLES = {
    "metrics": "one metric of a cell, by split, labels and calibrator, with its interval over samples",
    "neighbourhood": "the confidence and logit gap at one distance of a walk away from samples",
    "radii": "how far certainty or a decision reaches: the quartiles over samples",
    "reliability": "one bin of a reliability diagram",
    "history": "one epoch of a training: its loss, learning rate and gradient norm",
    "runs": "one cell: its data set, training accuracy, temperatures, size and time",
    "claims": "the verdict on one claim, over all data sets and models or for one pair of them",
    "jobs": "one job: its settings, time, memory, machine and versions",
    "fits": "one fitted calibrator: its temperature, the NLL there, and whether it converged",
}


def figures_page(
    experiment: str,
    figures: Iterable[str],
    captions: Mapping[str, str],
    note: str = "",
    formats: Iterable[str] = FORMATS,
    undrawn: str = "",
) -> str:
    """Return the page of figures, each as SVG with the first two sentences of its caption and links to its `formats`.

    `undrawn` is a sentence on figures that are left out.
    """
    names = sorted(figures, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    shown = _listed("figures", names, captions)
    folder = f"../../figures/{experiment}/"
    files: dict[str, Any] = {"figures": shown, "at": folder, "formats": list(formats), "undrawn": undrawn}
    return render("figures.html", title=f"Figures of {experiment}", experiment=experiment, note=note, **files)


def tables_page(
    experiment: str,
    tables: Iterable[str],
    captions: Mapping[str, str],
    note: str = "",
    data: Mapping[str, Iterable[str]] = DATA,
) -> str:
    """Return the page of tables, with links to print tables and, in the formats of `data`, to the tables of results."""
    held = [(name, ROWS_OF_TABLES[name], formats) for name, formats in data.items()]
    files: dict[str, Any] = {"printed": _listed("tables", tables, captions), "data": held}
    return render("table_list.html", title=f"Tables of {experiment}", experiment=experiment, note=note, **files)


def _listed(kind: str, names: Iterable[str], captions: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the file name, the title and the beginning of the caption of each figure or table."""
    listed = [(name, display_facts(kind, name).label, captions.get(name, "")) for name in names]
    return [{"name": name, "title": title, "caption": first_sentences(text)} for name, title, text in listed]


def first_sentences(caption: str, most: int = 2) -> str:
    """Return the first `most` sentences of a caption as plain text.

    Examples
    --------
    >>> first_sentences("The *first* one.\\nMore. Last.")
    'The first one. More.'
    """
    text = re.sub(r"``|\*", "", " ".join(caption.split()))
    return " ".join(re.split(r"(?<=[.?!])\s+(?=[A-Z])", text)[:most])
