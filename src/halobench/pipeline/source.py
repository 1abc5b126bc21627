"""The source and weights stages."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import require
from halobench.core.spec_codec import canonical, parse
from halobench.core.specs import ModelSpec, SourceSpec
from halobench.data import sources
from halobench.experiment.code_version import code_in_force
from halobench.storage import files
from halobench.storage.provenance import record


def run_source(spec: Mapping[str, Any], out: Path) -> None:
    """Write a source's images, labels and meta data to `out`."""
    began = time.perf_counter()
    source = parse(SourceSpec, spec)
    options = plugins.without_defaults("data", source.loader, dict(source.options))
    source = dataclasses.replace(source, options=options)
    code = code_in_force("source", [("data", source.loader)])
    files.sweep(out)
    paths = sources.write_source(source, out)
    packages = ["scikit-learn", "mlxtend", "torchvision", "pillow"]
    facts = record("source", canonical(source), None, code, paths, time.perf_counter() - began, packages)
    files.write_json(out / "source.json", facts)


def run_weights(spec: Mapping[str, Any], out: Path) -> None:
    """Fetch the weights that timm publishes for a model; write model.safetensors and weights.json to `out`."""
    began = time.perf_counter()
    model = parse(ModelSpec, spec)
    require(model.pretrained, "spec.pretrained", model.pretrained, "true")
    code = code_in_force("weights")
    files.sweep(out)
    from halobench.models.pretrained import fetch

    path = fetch(model, out / "model.safetensors")
    seconds = time.perf_counter() - began
    made = record("weights", canonical(model), None, code, [path], seconds, ["timm", "torch", "safetensors"])
    files.write_json(out / "weights.json", made)
