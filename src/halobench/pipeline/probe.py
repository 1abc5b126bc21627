"""The probe stage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halobench.calibration.temperature_scaling import fit_temperature
from halobench.core.errors import SpecError, describe_error, require
from halobench.core.specs import DatasetSpec, ModelSpec, ProbeSpec, TrainSpec
from halobench.data import sources, splits
from halobench.experiment.code_version import code_in_force
from halobench.pipeline.stage import EVERY, _canonical_parts, gpu_slot, naming, parse_parts, unless_superseded
from halobench.storage import arrays_io, files, tables_io
from halobench.storage.provenance import here, record
from halobench.training.device import keep_freed_memory


def run_probe(
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    folder: Path,
    checkpoint: Path | None = None,
    every: float = EVERY,
    slots: int = 1,
) -> None:
    """Probe a trained cell in `folder`; write neighbourhood.parquet, radii.parquet and probe.json beside it.

    Parameters
    ----------
    checkpoint : Path, optional
        Its resume point; by default a hidden file in `folder`.
    every : float
        Seconds between two savings of it.
    slots : int
        Processes that may share a GPU.
    """
    began = time.perf_counter()
    require(isinstance(spec, Mapping), "spec", spec, "a mapping of dataset, model, train, probes")
    probes: Any = spec.get("probes")
    require(isinstance(probes, Mapping) and probes, "spec.probes", probes, "at least one probe")
    parts = {key: value for key, value in spec.items() if key != "probes"}
    specs = parse_parts(parts, {"dataset": DatasetSpec, "model": ModelSpec, "train": TrainSpec})
    probes = parse_parts(probes, dict.fromkeys(probes, ProbeSpec))
    keep_freed_memory()
    from safetensors.torch import load_model

    from halobench.models import builder
    from halobench.probing.probe import ProbedModel, probe_cell
    from halobench.probing.progress import Progress
    from halobench.training import cell
    from halobench.training.checkpoint import Checkpoint, Signals
    from halobench.training.device import place, resolve_device, set_kernels

    weights = folder / "model.safetensors"
    walks = [plugin for probe in probes.values() for plugin in probe.plugged]
    code = code_in_force("probe", [("models", specs["model"].name), *sources.sampler(source), *walks])
    asked = _canonical_parts(specs) | {"probes": _canonical_parts(probes)}
    files.sweep(folder)
    with gpu_slot(specs["train"].device, slots), Signals() as signals, naming(folder):
        loaded = splits.load_data(source, specs["dataset"], seed)
        set_kernels(specs["train"])
        device = resolve_device(specs["train"].device)
        model = builder.build(specs["model"], loaded.shape, loaded.classes, (loaded.mean, loaded.std))
        cell.start_on(model, loaded)
        arrays_io.check_arrays(weights)
        try:
            load_model(model, str(weights))
        except (RuntimeError, ValueError) as error:
            what = f"the model of {weights} ({describe_error(error)})"
            raise SpecError("spec.model", specs["model"].name, what) from None
        logits = folder / "logits.safetensors"
        beta = exact_beta(arrays_io.read_arrays(logits))
        key = ["probe", asked, seed, code, *map(files.checksum, (source / "meta.json", weights, logits))]
        at = checkpoint or folder / ".probe.safetensors"
        resume = Checkpoint(at, key, every, signals, here=here(str(device)))
        model = place(model, specs["train"], device).eval()
        fitted = specs["model"].fitted_on(specs["dataset"].source)
        probed = ProbedModel(model, specs["train"], beta, fitted)
        found = probe_cell(probed, loaded, probes, seed, Progress(resume))
        paths = [folder / "neighbourhood.parquet", folder / "radii.parquet"]
        with unless_superseded(folder / "probe.json", asked, seed, code):
            tables_io.write_parquet(paths[0], found.curves)
            tables_io.write_parquet(paths[1], found.radii)
            seconds = time.perf_counter() - began
            packages, facts = ["torch", "pandas", "pyarrow"], {"made_on": resume.made_on}
            made = record("probe", asked, seed, code, paths, seconds, packages, str(device), facts)
            files.write_json(folder / "probe.json", made)
        resume.remove()


def exact_beta(arrays: Mapping[str, np.ndarray]) -> float | None:
    """The inverse of the exact temperature on validation logits and labels; None where they are separable."""
    fit = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    return None if fit.separable else fit.beta
