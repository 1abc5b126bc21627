"""Time a step of models of which no job has run, for estimates.

Run as a program, the module reads a configuration, a results folder and keys of models as JSON, and prints the models'
paces as JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from halobench.core.specs.codec import canonical
from halobench.data import sources
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config
from halobench.results.time_estimate import Paces, pace_key
from halobench.runner.build_checks import written_description
from halobench.runner.validation import run_apart
from halobench.storage import files
from halobench.storage.provenance import versions

LONGEST = 4.0  # seconds after which no further model is tried


def measure(keys: Sequence[str], raw: Mapping[str, Any], results: Path, cache: Path) -> Paces:
    """Return the paces of models by `pace_key`, measured in a separate process or as noted in the folder `cache`."""
    if not keys:
        return {}
    content = json.dumps([list(keys), versions("torch", "timm")])
    note = cache / f"paces-{hashlib.sha256(content.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError):
        return files.read_json(note)
    # Jobs may be using the GPUs, and optimisers start CUDA even if all tensors are on the CPU.
    process = run_apart("model_trials", [raw, str(results), list(keys)], CUDA_VISIBLE_DEVICES="")
    try:
        paces: Paces = json.loads(process.stdout.splitlines()[-1])  # plug-ins may have printed something first
    except (IndexError, ValueError):  # without a trial, there is no estimate
        return {}
    with contextlib.suppress(OSError):
        files.write_json(note, paces)
    return paces


def run(config: Config, results: Path, keys: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Time a step of models on the CPU in the order of their keys; stop after `LONGEST` seconds."""
    from halobench.training.trial import seconds_per_sample

    cells: dict[str, tuple[str, str]] = {}
    for experiment in config.run:
        for cell in config.cells(experiment):
            key = pace_key(canonical(config.models[cell.model]), config.datasets[cell.dataset].source)
            cells.setdefault(key, (cell.dataset, cell.model))
    paces: dict[str, tuple[float, float]] = {}
    stop = time.monotonic() + LONGEST
    for key in keys:
        if time.monotonic() > stop:
            break
        dataset, model = cells[key]
        name = config.datasets[dataset].source
        recipe = dataclasses.replace(config.recipe(dataset, model), device="cpu")
        with contextlib.suppress(Exception):  # it is only an estimate, and the checks have passed
            source = written_description(config, name, results) or sources.describe(config.sources[name])
            if pace := seconds_per_sample(config.models[model], recipe, source.shape, source.classes):
                paces[key] = pace
    return paces


def main() -> None:
    """Read a configuration, a results folder and keys of models, and print the models' paces."""
    raw, results, keys = json.load(sys.stdin)
    print(json.dumps(run(load_config(raw), Path(results), keys)))


if __name__ == "__main__":
    main()
