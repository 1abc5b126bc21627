"""Write the index page of the results: each experiment with its finding, figure and links to all its pages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from halobench.reporting.rendering import render, write
from halobench.results import finding


def write_index(
    path: Path, experiments: Sequence[str], tables: Path, figures: Mapping[str, str], notes: Mapping[str, str]
) -> None:
    """Write the page; `figures` names the figure to show for each experiment, by default its summary."""
    shown = []
    for name in experiments:
        figure = tables.parent / "figures" / name / f"{figures.get(name) or 'summary'}.png"
        rows = finding.read_claims(tables / name / "claims.csv")
        shown.append(
            {
                **{"name": name, "note": notes.get(name, ""), "folder": _relative(tables / name, path)},
                **{"effects": finding.effects(rows), "finding": finding.finding(rows)},
                "figure": _relative(figure, path) if figure.exists() else "",
            }
        )
    write(path, render("index.html", title="halobench results", note="", experiments=shown))


def _relative(path: Path, page: Path) -> str:
    return os.path.relpath(path.resolve(), page.resolve().parent).replace(os.sep, "/")
