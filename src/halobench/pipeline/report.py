"""Run the stages that present results: overview, figure, table and explorer."""

from __future__ import annotations

import contextlib
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError, require
from halobench.experiment.figure_choice import captions, tables_read
from halobench.pipeline.stage import Code, StageRun, stage
from halobench.results.job_and_fit_tables import RECORD_KEYS, job_row, jobs_table
from halobench.storage import tables_io
from halobench.storage.files import checksum, read_json
from halobench.storage.layout import EXPLORED, ORIGINS, TABLES
from halobench.storage.records import check_recorded, read_record

ANSWERS = "answers.json"  # of the claims stage
TABLE_STAGES = ("aggregate", "claims")  # stages with records next to the tables


def run_overview(
    spec: Mapping[str, Any],
    tables: Path,
    out: Path,
    code: Code | None = None,
) -> None:
    """Write an experiment's pages, listed in `halobench.storage.layout.PAGES`, to `out`, from its folder of tables.

    The spec contains ``config``, the part of the configuration that the experiment used; ``note``, a text shown at the
    top of each page (for example, to say that cells are missing); ``experiment``, by default the name of the folder;
    and ``figures`` and ``tables``, the names of the figures and tables to link to.
    """
    require(isinstance(spec, Mapping), "spec", spec, "a mapping with the keys config and note")
    names = (*TABLES, *ORIGINS, "claims")
    empty = {"note": "", "config": {}, "figures": [], "tables": []}
    shown_spec = {"experiment": tables.resolve().name} | empty | dict(spec)
    with stage("overview", out / "overview.json", shown_spec, code=code, packages=["pandas", "pyyaml"]) as run:
        from halobench.reporting import rendering
        from halobench.reporting.pages import overview

        read, name = tables_io.read_tables(tables, names), shown_spec["experiment"]
        rows = [job_row(name, read_record(tables / f"{stage_name}.json", RECORD_KEYS)) for stage_name in TABLE_STAGES]
        read["jobs"] = pd.concat([read["jobs"], jobs_table(rows)], ignore_index=True)
        check_recorded(tables / ANSWERS)
        answers = read_json(tables / ANSWERS, ["answers"])["answers"]
        pages = overview.pages(read, answers, shown_spec, captions(shown_spec))
        for path in run.outputs:
            rendering.write(path, pages[path.stem])
        run.inputs = tables_io.checksums(tables, names) | {ANSWERS: checksum(tables / ANSWERS)}


def run_figure(name: str, tables: Path, out: Path, note: str = "", code: Code | None = None) -> None:
    """Draw the figure of this name from its tables, as `out`.pdf, .svg and .png, with a note in a corner."""
    with _displaying("figure", name, tables, out, note, code, ["matplotlib", "pandas", "seaborn"]) as (run, figure):
        from halobench.reporting.plotting import saving

        if note:
            saving.add_note(figure, note)
        run.outputs = list(saving.save(figure, out))


def run_table(name: str, tables: Path, out: Path, note: str = "", code: Code | None = None) -> None:
    """Make the print table of this name from its tables, as `out`.csv, .tex and .html, with a note."""
    with _displaying("table", name, tables, out, note, code, ["pandas"]) as (run, table):
        from halobench.reporting.print_tables import layout

        run.outputs = layout.save(table, out, note, tables.resolve().name)


@contextlib.contextmanager
def _displaying(
    stage_name: str, name: str, tables: Path, out: Path, note: str, code: Code | None, packages: list[str]
) -> Iterator[tuple[StageRun, Any]]:
    """Run the stage of a figure or table; yield its run and the plug-in's result from the tables that it reads."""
    kind, spec = f"{stage_name}s", {stage_name: name, "note": note}
    with stage(stage_name, Path(f"{out}.json"), spec, code=code, plugins=[(kind, name)], packages=packages) as run:
        names = tables_read(kind, name)
        yield run, _called(kind, name, tables_io.read_tables(tables, names).values())
        run.inputs = tables_io.checksums(tables, names)


def _called(kind: str, name: str, tables: Iterable[pd.DataFrame]) -> Any:
    """Return a plug-in's result; if it raises an error, log the traceback, ending with the plug-in's own line."""
    function = plugins.load(kind, name)
    try:
        return function(*tables)
    except SpecError:
        raise
    except Exception as error:
        traceback.print_exc()
        calls = traceback.extract_tb(error.__traceback__)
        installed = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"))
        outside = [call for call in calls if not call.filename.startswith(installed)] or calls
        place = f"{outside[-1].filename}, line {outside[-1].lineno}"
        raise RefusedError(f"{kind}.{name}", f"raised {type(error).__name__} in {place} (traceback above)") from None


def _explored(tables: Path) -> list[str]:
    """Return the tables of an experiment that the shared pages read; without verdicts, there is no table of claims."""
    return [name for name in (*EXPLORED, "claims") if (tables / f"{name}.parquet").exists()]


def run_explorer(
    results: Path,
    out: Path,
    spec: Mapping[str, Any],
    tables: Path | None = None,
    code: Code | None = None,
    others: bool = False,
) -> None:
    """Write the page for exploring cells to `out`, and index.html, which leads to all pages, next to it.

    The spec contains ``experiments``, by default all that have tables (with `others`, these are shown as well);
    ``note``, a text shown on the pages, or a mapping from experiments' names to such texts; and ``figures``, which maps
    experiments to the file names of the figures to show on the index page.
    """
    from halobench.reporting import explorer
    from halobench.reporting.pages.index import write_index

    folder = tables or results / "tables"
    shown, note = list(spec["experiments"]) or explorer.experiments_in(folder), spec.get("note", "")
    figures = dict(spec.get("figures", {}))
    shown_spec = {"experiments": shown, "note": note, "figures": figures}
    with stage("explorer", out.with_suffix(".json"), shown_spec, code=code, packages=["plotly"]) as run:
        written = explorer.write(out, shown, folder, note, others)
        index = out.with_name("index.html")
        write_index(index, written, folder, figures, note if isinstance(note, Mapping) else dict.fromkeys(shown, note))
        run.outputs = [out, index]
        run.facts["shown"] = written
        run.inputs = {
            f"{name}/{table}": digest
            for name in written
            for table, digest in tables_io.checksums(folder / name, _explored(folder / name)).items()
        }
        answers = {f"{name}/{ANSWERS}": folder / name / ANSWERS for name in written}
        run.inputs |= {name: checksum(path) for name, path in answers.items() if path.exists()}
