"""Write the pages of an experiment's figures and tables, with download links for their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from halobench.experiment.figure_choice import QUESTIONS, display_facts
from halobench.reporting.rendering import render
from halobench.storage.layout import ORIGINS, TABLES

FIRST = ("summary", *QUESTIONS)  # figures shown first


def figures_page(experiment: str, figures: Iterable[str], captions: Mapping[str, str], note: str = "") -> str:
    """Return the page of figures, each as SVG with the first sentences of its caption and links to its files."""
    names = sorted(figures, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    shown = _listed("figures", names, captions)
    folder = f"../../figures/{experiment}/"
    return render(
        "figures.html", title=f"Figures of {experiment}", experiment=experiment, note=note, figures=shown, at=folder
    )


def tables_page(experiment: str, tables: Iterable[str], captions: Mapping[str, str], note: str = "") -> str:
    """Return the page of tables, with the files of print tables and of the tables from which figures are drawn."""
    printed = _listed("tables", tables, captions)
    data = [(name, ("csv", "parquet")) for name in (*TABLES, "claims")] + [(name, ("parquet",)) for name in ORIGINS]
    return render(
        "table_list.html", title=f"Tables of {experiment}", experiment=experiment, note=note, printed=printed, data=data
    )


def _listed(kind: str, names: Iterable[str], captions: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the file name, the title and the beginning of the caption of each figure or table."""
    listed = [(name, display_facts(kind, name).label, captions.get(name, "")) for name in names]
    return [{"name": name, "title": title, "caption": first_sentences(text)} for name, title, text in listed]


def first_sentences(caption: str, most: int = 2) -> str:
    """Return the first sentences of a caption as plain text.

    Examples
    --------
    >>> first_sentences("The *first* one.\\nMore. Last.")
    'The first one. More.'
    """
    text = re.sub(r"``|\*", "", " ".join(caption.split()))
    return " ".join(re.split(r"(?<=[.?!])\s+(?=[A-Z])", text)[:most])
