"""Write the pages of an experiment's figures and tables, with download links for their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from halobench.reporting.rendering import render
from halobench.results.names import title
from halobench.storage.layout import ORIGINS, TABLES

FIRST = ("summary", "claims")  # figures shown first


def figures_page(experiment: str, figures: Iterable[str], captions: Mapping[str, str], note: str = "") -> str:
    """Return the page of figures, each as SVG with the first sentences of its caption and links to its files."""
    names = sorted(figures, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    shown = [
        {"name": name, "title": title(name), "caption": first_sentences(captions.get(name, ""), experiment)}
        for name in names
    ]
    folder = f"../../figures/{experiment}/"
    return render(
        "figures.html", title=f"Figures of {experiment}", experiment=experiment, note=note, figures=shown, at=folder
    )


def tables_page(experiment: str, tables: Iterable[str], captions: Mapping[str, str], note: str = "") -> str:
    """Return the page of tables, with the files of those for print and of those that figures are drawn from."""
    printed = [
        {"name": name, "title": title(name), "caption": first_sentences(captions.get(name, ""), experiment)}
        for name in tables
    ]
    data = [(name, ("csv", "parquet")) for name in (*TABLES, "claims")] + [(name, ("parquet",)) for name in ORIGINS]
    return render(
        "table_list.html", title=f"Tables of {experiment}", experiment=experiment, note=note, printed=printed, data=data
    )


def first_sentences(caption: str, experiment: str, most: int = 2) -> str:
    """Return the first sentences of a caption, which has the markup of Snakemake's report, as plain text.

    Examples
    --------
    >>> first_sentences("Experiment {{ snakemake.wildcards.experiment }}: *what* it is. More.\\nLast.", "demo")
    'What it is. More.'
    """
    text = re.sub(r"\{\{ *snakemake\.wildcards\.experiment *\}\}", experiment, caption)
    text = re.sub(r"\{[%{#].*?[%}#]\}|``|\*", "", " ".join(text.split()))
    text = re.sub(rf"^Experiment {re.escape(experiment)}:? *", "", text)
    sentences = re.split(r"(?<=[.?!])\s+(?=[A-Z])", text)
    return title(" ".join(sentences[:most]))
