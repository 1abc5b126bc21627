"""Run the source and weights stages, which load or download the data and weights that later stages need."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import require
from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.data import SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.data import sources
from halobench.models import package_weights
from halobench.pipeline.stage import Code, stage


def run_source(spec: Mapping[str, Any], out: Path, code: Code | None = None) -> None:
    """Write a source's images, labels and metadata to `out`."""
    source = parse(SourceSpec, spec)
    source = dataclasses.replace(
        source, options=plugins.find("data", source.loader).without_defaults(dict(source.options))
    )
    used = [("data", source.loader)]
    packages = ["scikit-learn", "mlxtend", "torchvision", "pillow"]
    with stage("source", out / "source.json", canonical(source), code=code, plugins=used, packages=packages) as run:
        run.outputs = sources.write_source(source, out)


def run_weights(spec: Mapping[str, Any], out: Path, code: Code | None = None) -> None:
    """Write the weights that timm or an installed package publishes for a model to `out`/model.safetensors."""
    model = parse(ModelSpec, spec)
    require(model.pretrained, "spec.pretrained", model.pretrained, "true or the name of a package")
    shipped = package_weights.distributions(model.pretrained) if isinstance(model.pretrained, str) else []
    packages = ["timm", "torch", "safetensors", *shipped]
    with stage("weights", out / "weights.json", canonical(model), code=code, packages=packages) as run:
        from halobench.models.pretrained import fetch

        fetch(model, run.outputs[0])
