"""Write the pages of each published run from its tables in results/published, and the page that lists the runs.

``python docs/runs.py FOLDER [RUN ...]`` writes them, by default of all runs; docs/hooks.py adds them to the site. The
code of the pages is that of a run's own site. They have what the published tables have, so no reliability diagrams,
training curves and fits, and the figures of the four questions and of the documentation.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pictures
import published
import yaml
from plotly.offline import get_plotlyjs

from halobench.core import plugins
from halobench.experiment.figure_choice import QUESTIONS, captions, display_facts, file_stem, has_content, tables_read
from halobench.reporting import explorer, finding, labels, rendering
from halobench.reporting.answers.answer import Answer
from halobench.reporting.answers.answers import answers, write_answers
from halobench.reporting.pages.claims_page import claims_html
from halobench.reporting.pages.index import write_index
from halobench.reporting.pages.overview import pages
from halobench.reporting.plotting.answer_panels import answer_page
from halobench.reporting.plotting.saving import save
from halobench.reporting.plotting.style import styled
from halobench.storage.columns import NO_LOSS, TABLE_COLUMNS
from halobench.storage.tables_io import write_csv

FORMATS = ("svg",)  # of figures: the others take six times as long
BRAND = "<b>halobench"  # the first words of a page's navigation
LISTED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))  # the title and question of each run
LANDING = """# Published runs

Browse each run behind the documentation's numbers: its four answers, every cell, all methods ranked, and the verdicts
on claims. These are the pages that `halobench run` writes for a grid of your own, here made from the tables in
[results/published](../results/README.md). [This page](judging.md#how-a-claim-is-judged) explains the verdicts.

| run | cells | finished (commit) |
|---|---|---|
"""


def landing() -> str:
    """Return the page that lists the runs, as Markdown."""
    rows = []
    for run, (title, question) in LISTED.items():
        record, top = published.records(published.PUBLISHED / run)["aggregate"], f"runs/{run}/"
        at = {page: rendering.site_address(page, run, f"{top}tables/{run}/", top) for page in rendering.SITE}
        shown = ", ".join(f"[{page}]({at[page]})" for page in ("explorer", "leaderboard", "claims", "figures"))
        origin = f"{len(published.table(run, 'runs'))} | {record['finished'][:10]} ({published.commit(record)})"
        rows.append(f"| **[{title}]({top}index.html)**<br>{question}<br>{shown} | {origin} |")
    return LANDING + "\n".join(rows) + "\n"


def write(out: Path, *chosen: str) -> None:
    """Write the pages of runs, by default all, to a folder, which is emptied; each is like a results folder."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "plotly.js").write_text(get_plotlyjs(), "utf-8")
    for run in chosen or LISTED:
        tables = run_tables(run)
        with labels.naming(tables["runs"]):
            write_run(run, tables, out / run)
        link_back(out / run)


def link_back(run: Path) -> None:
    """Add a link to the documentation's list of published runs to each page of a run, before the run's name."""
    for page in run.rglob("*.html"):
        up = "../" * len(page.relative_to(run).parts)
        link = f'<b><a href="{up}../runs.html">Published runs</a></b>\n'
        page.write_text(page.read_text("utf-8").replace(BRAND, link + BRAND, 1), "utf-8")


@functools.cache  # `mkdocs serve` builds the site again after each edit
def site_files() -> dict[str, Path]:
    """Write the pages of all runs to a folder that lasts as long as the process; return the files by address."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    out = Path(folder.name)
    write(out)
    return {f"runs/{path.relative_to(out)}": path for path in sorted(out.rglob("*")) if path.is_file()}


def run_tables(run: str) -> dict[str, pd.DataFrame]:
    """Return all tables of a run by name; those that aren't published are empty."""
    tables = {name: pd.DataFrame(columns=list(columns)) for name, columns in TABLE_COLUMNS.items()}
    files = [path.stem for path in (published.PUBLISHED / run).glob("*.parquet")]
    return tables | {name: published.table(run, name) for name in (*files, "claims")}


def write_run(run: str, tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write a run's pages, with the files that they link to."""
    folder = out / "tables" / run
    shutil.copytree(published.PUBLISHED / run, folder, ignore=shutil.ignore_patterns("*.json"))
    data = {path.stem: ("parquet",) for path in sorted(folder.iterdir())} | {"claims": ("csv",)}
    write_csv(folder / "claims.csv", tables["claims"])
    found = answers(tables)
    figures = draw(run, tables, found, out / "figures" / run)
    claims = claims_html(tables["claims"], run, formats=data["claims"], figures=figures)
    rendering.write(folder / "claims.html", claims)

    missing = [
        display_facts("figures", name).label
        for name in plugins.names("figures")
        if any(tables[table].empty for table in tables_read("figures", name))
    ]
    undrawn = f"Left out, since the tables that they read aren't published: {', '.join(missing)}."
    spec = {"experiment": run, "note": "", "config": {}, "figures": figures, "tables": []}
    spec |= {"data": data, "formats": FORMATS, "undrawn": undrawn}
    for name, text in pages(tables, [answer.words for answer in found], spec, captions(spec)).items():
        rendering.write(folder / f"{name}.html", text)
    write_answers(folder / "answers.json", found, finding.own_claims(tables["claims"].to_dict("records")))
    write_index(out / "index.html", [run], out / "tables", {run: [name for name in QUESTIONS if name in figures]}, {})
    cells = explorer.page_data({run: explorer.experiment_data(tables)}, {})
    (out / "explorer.html").write_text(explorer.explorer_page(cells, plotly="../plotly.js"), "utf-8")


def draw(run: str, tables: Mapping[str, pd.DataFrame], found: Iterable[Answer], out: Path) -> list[str]:
    """Draw the answers that have something to show, and the run's figures in the documentation; return their stems."""
    kinds, losses = {*tables["radii"]["kind"]}, {*tables["runs"]["loss"]} - {NO_LOSS}
    calibrators = {*tables["metrics"]["calibrator"]}
    asked = [answer for answer in found if has_content("figures", answer.key, kinds, calibrators, len(losses))]
    figures = {answer.key: styled(answer_page)(answer) for answer in asked}
    for name in (name for of, name in pictures.PUBLISHED.values() if of == run):
        read = (pictures.published_table(run, table) for table in tables_read("figures", name))
        figures[file_stem(name)] = plugins.load("figures", name)(*read)
    out.mkdir(parents=True)
    for stem, figure in figures.items():
        save(figure, out / stem, FORMATS)
    return list(figures)


if __name__ == "__main__":
    write(Path(sys.argv[1]), *sys.argv[2:])
