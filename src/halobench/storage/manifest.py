"""Build and read manifests, which list an experiment's cells and references with the checksums of their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import refuse
from halobench.storage import files
from halobench.storage.layout import STAGES
from halobench.storage.records import check_seal, read_record

CHANGES_NUMBERS = True  # see `halobench.experiment.code_version`


def list_files(listed: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Return the manifest for the cells and references listed by `halobench.experiment.jobs.list_cells`.

    The manifest is this list, together with the checksums of the cells' and references' files from their records.
    """

    def outputs(stages: Iterable[str], path: str) -> dict[str, str]:
        listed = (read_record(results / STAGES[stage].record_path(path))["outputs"] for stage in stages)
        return {name: digest for output in listed for name, digest in output.items()}

    of_references = [stage.name for stage in STAGES.values() if stage.of == "dataset"]
    cells = [cell | {"outputs": outputs(cell["stages"], cell["path"])} for cell in listed["cells"]]
    scored = [each | {"outputs": outputs(of_references, each["path"])} for each in listed["references"]]
    return {"experiment": listed["experiment"], "cells": cells, "references": scored}


def check_entries(path: Path | str, manifest: Mapping[str, Any]) -> None:
    """Raise SpecError unless a manifest's cells and references are mappings with paths and outputs."""
    for key in ("cells", "references"):
        entries = manifest[key] if isinstance(manifest[key], list) else [None]
        whole = all(isinstance(entry, Mapping) and {"path", "outputs"} <= entry.keys() for entry in entries)
        refuse(not whole, str(path), f"isn't a manifest, since its {key} have no paths and outputs {files.REMEDY}")


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Return the manifest in a file; raise SpecError if the file isn't a manifest, was edited or lists no cells."""
    manifest = files.read_json(path, ("cells", "references"))
    check_seal(path, manifest)
    check_entries(path, manifest)
    refuse(not manifest["cells"], str(path), "lists no cells")
    return manifest
