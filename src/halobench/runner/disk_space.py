"""Whether the disk has room for what a configuration will write."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config

CELL = 2**18  # bytes of a cell's tables, records and logs, as measured on the demo
RESUME = 3  # a resume point holds weights and two moments


def needed(config: Config, report: Mapping[str, Any], results: Path) -> int:
    """Bytes that the cells and sources still to be computed will take, with one resume point of the largest model.

    Parameters
    ----------
    report : mapping
        As `halobench.experiment.validation.ensure` gives it.
    results : Path
        What lies there already isn't counted.
    """
    cells = {cell for experiment in config.run for cell in config.cells(experiment)}
    missing = [cell for cell in cells if not (results / "runs" / cell.path / "train.json").exists()]
    total, largest = 0, 0
    for cell in missing:
        dataset = config.datasets[cell.dataset]
        weights = report["weights"][cell.model][dataset.source]
        classes = report["sources"][dataset.source]["classes"]
        points = dataset.train + dataset.val + dataset.test
        total += weights + CELL + points * (4 * classes + 16)  # logits are float32; two int64 labels each
        if config.sampler(cell.dataset):  # the posterior of up to 1.5 k regions, and each point's region
            total += 12 * classes**2 + 8 * points
        largest = max(largest, weights)
    for name, size in report["sources"].items():
        if not (results / "sources" / name / "meta.json").exists():
            total += size["bytes"]
    return total + RESUME * largest


def require_room(config: Config, report: Mapping[str, Any], results: Path) -> dict[str, int]:
    """Bytes needed and free where `results` lies.

    Raises
    ------
    ConfigError
        If less is free than needed.
    """
    wanted = needed(config, report, results)
    free = shutil.disk_usage(_existing(results)).free
    if wanted > free:
        what = f"{results} = {_words(free)} free: expected at least {_words(wanted)}, which the cells still to be"
        raise ConfigError([f"{what} computed will take; make room or run fewer"])
    return {"needed": wanted, "free": free}


def full_disk_line(results: Path, least: int = 2**20) -> str:
    """Return a line on a disk with less than `least` bytes left, which logs may not hold; empty if there is room."""
    free = shutil.disk_usage(_existing(results)).free
    return f"{results}: No space left on device ({_words(free)} free): make room first." if free < least else ""


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest around it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _words(count: float) -> str:
    """Return a number of bytes to read."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count, units = count / 1024, units[1:]
    return f"{count:.3g} {units[0]}"
