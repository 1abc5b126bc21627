"""Check whether the disk has room for what a configuration will write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.formatting import size
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config
from halobench.storage.files import nearest_existing

CELL = 2**18  # bytes taken by a cell's tables, records and logs, as measured on the demo
RESUME = 3  # a resume point holds weights and two moments


def needed(config: Config, report: Mapping[str, Any], results: Path) -> int:
    """Return the bytes needed by cells and sources not yet in `results`, and by the largest model's resume point.

    `report` is what `halobench.experiment.validation.ensure` returns.
    """
    cells = {cell for experiment in config.run for cell in config.cells(experiment)}
    total, largest = 0, 0
    for cell in cells:
        if (results / "runs" / cell.path / "train.json").exists():
            continue
        dataset = config.datasets[cell.dataset]
        weights = report["weights"][cell.model][dataset.source]
        classes = report["sources"][dataset.source]["classes"]
        points = dataset.train + dataset.val + dataset.test
        total += weights + CELL + points * (4 * classes + 16)  # float32 logits, two int64 labels per point
        if config.sampler(cell.dataset):  # the posteriors of up to 1.5 k regions, and each point's region
            total += 12 * classes**2 + 8 * points
        largest = max(largest, weights)
    for name, source in report["sources"].items():
        total += 0 if (results / "sources" / name / "meta.json").exists() else source["bytes"]
    return total + RESUME * largest


def require_room(config: Config, report: Mapping[str, Any], results: Path) -> None:
    """Raise ConfigError unless the disk that holds `results` has room for the bytes that `needed` returns."""
    wanted, free = needed(config, report, results), _free(results)
    if wanted > free:
        what = f"{results} = {size(free)} free: expected at least {size(wanted)} for the cells that are still"
        raise ConfigError([f"{what} to be computed; free some space or run fewer cells"])


def full_disk_line(results: Path, least: int = 2**20) -> str:
    """Return a line to show if fewer than `least` bytes are free, since logs may have no room for it, or else ""."""
    free = _free(results)
    return f"{results}: No space left on device ({size(free)} free): make room first." if free < least else ""


def _free(folder: Path) -> int:
    """Return the bytes that are free at a folder, or at its nearest existing parent."""
    return shutil.disk_usage(nearest_existing(folder)).free
