"""The jobs of an experiment: what each is asked for, and the record that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halobench.experiment.code_version import code_map
from halobench.experiment.grid import Cell, Config


def expected_records(config: Config, results: Path) -> dict[Path, tuple[Any, int | None, dict[str, str]]]:
    """The record of each job on what the experiments that run consist of: its spec, seed and code map."""
    cells = sorted({cell for experiment in config.run for cell in config.cells(experiment)})
    probed = {cell for experiment in config.run for cell in config.probed(experiment)}
    found: dict[Path, tuple[Any, int | None, dict[str, str]]] = {}
    for name in sorted({config.datasets[cell.dataset].source for cell in cells}):
        code = code_map("source", [("data", config.sources[name].loader)])
        found[results / "sources" / name / "source.json"] = (config.source_spec(name), None, code)
    for model in sorted({cell.model for cell in cells if config.models[cell.model].pretrained}):
        place = results / "weights" / model / "weights.json"
        found[place] = (config.weights_spec(model), None, code_map("weights"))
    for cell in cells:
        for stage, (spec, code) in asked_of_cell(config, cell, cell in probed).items():
            found[results / "runs" / cell.path / f"{stage}.json"] = (spec, cell.seed, code)
    for dataset, seed in sorted({(cell.dataset, cell.seed) for cell in cells}):
        place = results / f"references/{dataset}/seed{seed}/reference.json"
        found[place] = (config.reference_spec(dataset), seed, code_map("reference", config.sampler(dataset)))
    return found


def asked_of_cell(config: Config, cell: Cell, probed: bool) -> dict[str, tuple[Any, dict[str, str]]]:
    """What each stage of a cell would be given now: its spec and code map."""
    names = (cell.dataset, cell.model)
    asked = {
        "train": (config.train_spec(*names, cell.loss), code_map("train", config.train_plugins(*names, cell.loss))),
        "probe": (config.probe_spec(*names), code_map("probe", config.probe_plugins(*names))),
        "calibrate": (config.calibrate_spec(), code_map("calibrate", config.calibrate.plugged)),
    }
    return asked if probed else {stage: given for stage, given in asked.items() if stage != "probe"}
