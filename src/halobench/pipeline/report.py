"""The stages that present: overview, figure, table, explorer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import require
from halobench.experiment.code_version import code_in_force
from halobench.experiment.grid import tables_read
from halobench.pipeline.stage import _checksums
from halobench.storage import files
from halobench.storage.layout import EXPLORED, TABLES
from halobench.storage.provenance import record


def run_overview(
    manifest: Path,
    results: Path,
    tables: Path,
    out: Path,
    spec: Mapping[str, Any],
    figure: Path | None = None,
    note: str = "",
) -> None:
    """Write an experiment's pages, overview.html, cells.html and front.html, and overview.json to `out`.

    Parameters
    ----------
    manifest, results, tables : Path
        Its cells, the results folder that holds their records, and its tables.
    spec : mapping
        The part of the configuration that made it, to be shown.
    figure : Path, optional
        The PNG that sums it up.
    note : str
        Leads each page, e.g. that cells are missing.
    """
    began = time.perf_counter()
    require(isinstance(spec, Mapping), "spec", spec, "a mapping")
    code = code_in_force("overview")
    files.sweep(out)
    from halobench.reporting.pages import cells, elements, overview, run_costs
    from halobench.results.manifest import read_manifest
    from halobench.storage.tables_io import read_tables

    listed, found = read_manifest(manifest), read_tables(tables, (*TABLES, "claims"))
    name, jobs = listed["experiment"], run_costs.read_jobs(listed, results, tables)
    picture = figure.read_bytes() if figure else b""
    told = overview.Overview(name, found["runs"], found["claims"], jobs, spec, picture, note)
    pages = {
        "overview": overview.page(told),
        "cells": cells.page(name, found, note),
        "front": overview.front(told),
    }
    for stem, text in pages.items():
        elements.write(out / f"{stem}.html", text)
    asked = {"experiment": name, "note": note, "config": dict(spec)}
    asked |= {"manifest": files.checksum(manifest), "tables": _checksums(tables, (*TABLES, "claims"))}
    paths = [out / f"{stem}.html" for stem in pages]
    made = record("overview", asked, None, code, paths, time.perf_counter() - began, ["pandas", "pyyaml"])
    files.write_json(out / "overview.json", made)


def run_figure(name: str, tables: Path, out: Path, note: str = "") -> None:
    """Draw a figure from the tables it names; write `out`.pdf, `out`.png and `out`.json.

    Parameters
    ----------
    note : str
        Printed in the figure's corner, e.g. that cells are missing.
    """
    began = time.perf_counter()
    from halobench.reporting.plotting import saving
    from halobench.storage.tables_io import read_tables

    code = code_in_force("figure", [("figures", name)])
    files.sweep(out.parent)
    wanted = tables_read("figures", name)
    with saving.garbage_collection_off():
        figure = plugins.load("figures", name)(*read_tables(tables, wanted).values())
        if note:
            saving.add_note(figure, note)
        paths = saving.save(figure, out)
    asked = {"figure": name, "note": note, "tables": _checksums(tables, wanted)}
    seconds = time.perf_counter() - began
    made = record("figure", asked, None, code, paths, seconds, ["matplotlib", "pandas", "seaborn"])
    files.write_json(Path(f"{out}.json"), made)


def run_explorer(
    results: Path, out: Path, experiments: Iterable[str] = (), tables: Path | None = None, note: str = ""
) -> None:
    """Write the page that explores cells to `out`, and its record beside it.

    Parameters
    ----------
    experiments : iterable of str
        By default all whose tables are there.
    tables : Path, optional
        The folder of the experiments' tables; by default ``tables`` in `results`.
    note : str
        Shown on the page, e.g. that cells are missing.
    """
    began = time.perf_counter()
    code = code_in_force("explorer")
    files.sweep(out.parent)
    from halobench.reporting import explorer

    shown = explorer.write(results, out, experiments, tables, note)
    asked: dict[str, Any] = {"experiments": shown, "note": note}
    asked["tables"] = {name: _checksums((tables or results / "tables") / name, EXPLORED) for name in shown}
    seconds = time.perf_counter() - began
    files.write_json(out.with_suffix(".json"), record("explorer", asked, None, code, [out], seconds, ["plotly"]))


def run_table(name: str, tables: Path, out: Path, note: str = "") -> None:
    """Make a table for print from the tables it names; write `out`.csv, `out`.tex, `out`.html and `out`.json.

    Parameters
    ----------
    note : str
        Printed with the table, e.g. that cells are missing.
    """
    began = time.perf_counter()
    code = code_in_force("table", [("tables", name)])
    files.sweep(out.parent)
    from halobench.reporting.print_tables import layout
    from halobench.storage.tables_io import read_tables

    wanted = tables_read("tables", name)
    made = plugins.load("tables", name)(*read_tables(tables, wanted).values())
    paths = layout.save(made, out, note)
    asked = {"table": name, "note": note, "tables": _checksums(tables, wanted)}
    seconds = time.perf_counter() - began
    files.write_json(Path(f"{out}.json"), record("table", asked, None, code, paths, seconds, ["pandas"]))
