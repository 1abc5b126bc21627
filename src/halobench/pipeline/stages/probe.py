"""Probe the neighbourhoods of a trained cell's samples, or resume probing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.data import written_sources
from halobench.pipeline.stage import Code, check_folder, parse_parts, resumable, stage

STAGE = {
    "of": "cell",
    "reads": {"source": ["meta.json"], "train": ["model.safetensors", "logits.safetensors"]},
    "writes": ["neighbourhood.parquet", "radii.parquet"],
    "code": ["probing.probe"],
    "cells": "probed",
    "target": "probes",
    "device": True,
    "memory": 4000,
    "minutes": 240,
}

PARTS = {"dataset": DatasetSpec, "model": ModelSpec, "train": TrainSpec}
PACKAGES = ("torch", "pandas", "pyarrow")


def run(
    *,
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    folder: Path,
    code: Code | None = None,
    every: float = 60.0,
    slots: int = 1,
) -> None:
    """Probe the trained cell in `folder`; write neighbourhood.parquet and radii.parquet there."""
    specs, probes = _parse(spec)
    check_folder("source", source)
    canonical_spec = canonical({**specs, "probes": probes})
    directions = [plugin for probe in probes.values() for plugin in probe.plugged]
    used = [("models", specs["model"].name), *written_sources.sampler(source), *directions]
    options: Any = {"seed": seed, "code": code, "plugins": used, "packages": PACKAGES}
    with (
        stage("probe", folder, canonical_spec, reads={"source": source, "train": folder}, **options) as job,
        resumable(job, specs["train"].device, every, slots) as checkpoint_of,
    ):
        from halobench.probing.probe import probe_trained_cell
        from halobench.probing.progress import Progress
        from halobench.training.device import keep_freed_memory, resolve_device

        keep_freed_memory()
        checkpoint = checkpoint_of(str(resolve_device(specs["train"].device)))
        parts = specs["dataset"], specs["model"], specs["train"]
        result, dimension = probe_trained_cell(source, folder, *parts, probes, seed, Progress(checkpoint))
        job.claim_folder()
        job.write(result.curves, result.radii)
        job.facts = {"made_on": checkpoint.made_on, "dimension": dimension}
    checkpoint.remove()


def _parse(spec: Any) -> tuple[dict[str, Any], dict[str, ProbeSpec]]:
    """Parse a spec into its parts and its probes by name."""
    require(isinstance(spec, Mapping), "spec", spec, "a mapping with the keys dataset, model, train and probes")
    probes = spec.get("probes")
    require(isinstance(probes, Mapping) and probes, "spec.probes", probes, "at least one probe")
    parts = {key: value for key, value in spec.items() if key != "probes"}
    return parse_parts(parts, PARTS), parse_parts(probes, dict.fromkeys(probes, ProbeSpec))
