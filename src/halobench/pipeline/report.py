"""The stages that present: overview, figure, table, explorer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import require
from halobench.experiment.displays import tables_read
from halobench.pipeline.stage import Code, stage
from halobench.results.manifest import read_manifest
from halobench.storage import files, tables_io
from halobench.storage.layout import EXPLORED, TABLES


def run_overview(
    spec: Mapping[str, Any],
    manifest: Path,
    results: Path,
    tables: Path,
    out: Path,
    figure: Path | None = None,
    code: Code | None = None,
) -> None:
    """Write an experiment's pages to `out`: overview.html, cells.html and front.html.

    Parameters
    ----------
    spec : mapping
        ``config``, the part of the configuration that made it, and ``note``, which leads each page (that cells are
        missing, say).
    manifest, results, tables : Path
        Its cells, the results folder that holds their records, and its tables.
    out : Path
    figure : Path, optional
        The PNG that sums it up.
    code : mapping, optional
        The code version that was asked for.
    """
    require(isinstance(spec, Mapping), "spec", spec, "a mapping of config and note")
    experiment, names = read_manifest(manifest), (*TABLES, "claims")
    shown_spec = {"experiment": experiment["experiment"], "note": "", "config": {}} | dict(spec)
    with stage("overview", out / "overview.json", shown_spec, code=code, packages=["pandas", "pyyaml"]) as run:
        from halobench.reporting.pages import cells, elements, overview, run_costs

        read, jobs = tables_io.read_tables(tables, names), run_costs.read_jobs(experiment, results, tables)
        picture, name, note = figure.read_bytes() if figure else b"", shown_spec["experiment"], shown_spec["note"]
        shown = overview.Overview(name, read["runs"], read["claims"], jobs, shown_spec["config"], picture, note)
        pages = {
            "overview": overview.overview_page(shown),
            "cells": cells.cells_page(name, read, note),
            "front": overview.front(shown),
        }
        for path in run.outputs:
            elements.write(path, pages[path.stem])
        run.facts["inputs"] = {"manifest": files.checksum(manifest)} | tables_io.checksums(tables, names)


def run_figure(name: str, tables: Path, out: Path, note: str = "", code: Code | None = None) -> None:
    """Draw a figure from the tables that it names; write `out`.pdf and `out`.png.

    Parameters
    ----------
    name : str
        A file of ``reporting/figures``, or ``module:function``.
    tables : Path
        An experiment's tables.
    out : Path
        Without suffix.
    note : str
        Printed in the figure's corner: that cells are missing, say.
    code : mapping, optional
        The code version that was asked for.
    """
    spec, used = {"figure": name, "note": note}, [("figures", name)]
    packages = ["matplotlib", "pandas", "seaborn"]
    with stage("figure", Path(f"{out}.json"), spec, code=code, plugins=used, packages=packages) as run:
        from halobench.reporting.plotting import saving

        names = tables_read("figures", name)
        figure = plugins.load("figures", name)(*tables_io.read_tables(tables, names).values())
        if note:
            saving.add_note(figure, note)
        run.outputs = list(saving.save(figure, out))
        run.facts["inputs"] = tables_io.checksums(tables, names)


def run_table(name: str, tables: Path, out: Path, note: str = "", code: Code | None = None) -> None:
    """Make a table for print from the tables that it names; write `out`.csv, `out`.tex and `out`.html.

    Parameters
    ----------
    name : str
        A file of ``reporting/tables``, or ``module:function``.
    tables : Path
        An experiment's tables.
    out : Path
        Without suffix.
    note : str
        Printed with the table: that cells are missing, say.
    code : mapping, optional
        The code version that was asked for.
    """
    spec, used = {"table": name, "note": note}, [("tables", name)]
    with stage("table", Path(f"{out}.json"), spec, code=code, plugins=used, packages=["pandas"]) as run:
        from halobench.reporting.print_tables import layout

        names = tables_read("tables", name)
        table = plugins.load("tables", name)(*tables_io.read_tables(tables, names).values())
        run.outputs = layout.save(table, out, note)
        run.facts["inputs"] = tables_io.checksums(tables, names)


def run_explorer(
    results: Path,
    out: Path,
    experiments: Iterable[str] = (),
    tables: Path | None = None,
    note: str = "",
    code: Code | None = None,
) -> None:
    """Write the page that explores cells to `out`.

    Parameters
    ----------
    results : Path
        The results folder.
    out : Path
    experiments : iterable of str
        By default all whose tables are there.
    tables : Path, optional
        The folder of the experiments' tables; by default ``tables`` in `results`.
    note : str
        Shown on the page: that cells are missing, say.
    code : mapping, optional
        The code version that was asked for.
    """
    from halobench.reporting import explorer

    folder = tables or results / "tables"
    shown = explorer.shown(folder, experiments)
    spec = {"experiments": shown, "note": note}
    with stage("explorer", out.with_suffix(".json"), spec, code=code, packages=["plotly"]) as run:
        explorer.write(results, out, shown, folder, note)
        run.outputs = [out]
        run.facts["inputs"] = {
            f"{name}/{table}": digest
            for name in shown
            for table, digest in tables_io.checksums(folder / name, EXPLORED).items()
        }
