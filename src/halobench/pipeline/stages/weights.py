"""Download a timm model's published weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.model import ModelSpec
from halobench.pipeline.stage import Code, stage

STAGE = {
    "of": "model",
    "writes": ["model.safetensors"],
    "code": ["models.pretrained"],
    "memory": 4000,
    "minutes": 60,
}


def run(*, spec: Mapping[str, Any], out: Path, code: Code | None = None) -> None:
    """Write the weights of a published model to `out`/model.safetensors."""
    model = parse(ModelSpec, spec)
    require(model.pretrained, "spec.pretrained", model.pretrained, "true")
    with stage("weights", out, canonical(model), code=code, packages=["timm", "torch", "safetensors"]) as job:
        from halobench.models.pretrained import fetch

        fetch(model, job.outputs[0])
