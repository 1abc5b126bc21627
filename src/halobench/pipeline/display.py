"""Run the stages ``figure`` and ``table``, whose plug-ins receive the tables that their functions name."""

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
from halobench.experiment.figure_choice import tables_read
from halobench.pipeline.stage import Code, StageRun, stage
from halobench.reporting import labels
from halobench.storage import tables_io


@contextlib.contextmanager
def displaying(
    kind: str, spec: Any, tables: Path, out: Path, code: Code | None, packages: list[str]
) -> Iterator[tuple[StageRun, Any]]:
    """Run the stage of a "figure" or "table"; yield the stage's run and the plug-in's result.

    The spec has the plug-in's name under the stage's name, and perhaps a ``note``. `out` is the stem of the files that
    the stage writes, or the path of the record next to these files.
    """
    is_spec = isinstance(spec, Mapping) and isinstance(spec.get(kind), str)
    require(is_spec, "spec", spec, f"a mapping with the name of a {kind} under {kind!r}")
    name, shown_spec = spec[kind], {kind: spec[kind], "note": spec.get("note", "")}
    record = out if out.suffix == ".json" else Path(f"{out}.json")
    used = [(f"{kind}s", name)]
    options: Any = {"plugins": used, "packages": packages, "record_path": record}
    with stage(kind, record.parent, shown_spec, code=code, **options) as job:
        names = tables_read(f"{kind}s", name)
        read = tables_io.read_tables(tables, dict.fromkeys([*names, "runs"]))
        with labels.naming(read["runs"]):
            yield job, _called(f"{kind}s", name, (read[name] for name in names))
        job.inputs = tables_io.checksums(tables, read)


def _called(kind: str, name: str, tables: Iterable[pd.DataFrame]) -> Any:
    """Return a plug-in's result; if it fails, print the traceback, and raise a SpecError that names the line."""
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
