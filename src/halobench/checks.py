"""What only building can check: that sources are large enough, and that each model takes the images it will get.

The checks import torch, so they run in a process of their own, and only for specs that haven't passed before.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halobench import plugins, store
from halobench.config import ConfigError
from halobench.grid import Cell, Config
from halobench.provenance import PACKAGE, code_map, versions
from halobench.specs import DatasetSpec, LossSpec, ModelSpec, SourceSpec, SpecError, canonical, parse, to_json


def request(config: Config) -> dict[str, Any]:
    """What is to be checked for the experiments that will run, each distinct thing once."""
    cells = [cell for experiment in config.run for cell in config.cells(experiment)]
    datasets = sorted({cell.dataset for cell in cells})
    sources = sorted({config.datasets[name].source for name in datasets})
    pairs = sorted({(cell.model, config.datasets[cell.dataset].source, _least_batch(config, cell)) for cell in cells})
    return {
        "sources": {name: canonical(config.sources[name]) for name in sources},
        "datasets": {name: canonical(config.datasets[name]) for name in datasets},
        "losses": {name: canonical(config.losses[name]) for name in sorted({cell.loss for cell in cells})},
        "models": {name: canonical(config.models[name]) for name in sorted({cell.model for cell in cells})},
        "pairs": pairs,
    }


def _least_batch(config: Config, cell: Cell) -> int:
    """2, or 1 where a cell trains on single images, which batch norm may refuse."""
    return min(2, config.recipes[cell.dataset, cell.model].batch)


def ensure(config: Config, cache: Path) -> dict[str, Any]:
    """Run the checks unless the same ones passed before with the same versions and code.

    Parameters
    ----------
    cache : Path
        Folder of the reports of what passed, named after digests of what was asked.

    Returns
    -------
    dict
        The report: of each source its classes and bytes, of each (model, source) pair the bytes of its weights.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    asked = request(config)
    used = [("data", spec["loader"]) for spec in asked["sources"].values()]
    used += [("losses", spec["name"]) for spec in asked["losses"].values()]
    used += [("models", spec["name"]) for spec in asked["models"].values()]
    code = code_map("train", used) | code_map("source")
    text = to_json([asked, code, versions("torch", "torchvision", "timm")])
    stamp = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    if stamp.exists():
        return store.read_json(stamp)
    command = [sys.executable, "-m", "halobench.cli", "check"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()}
    done = subprocess.run(command, input=to_json(asked), capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 2):
        raise ConfigError([f"the check of the configuration failed: {done.stderr.strip()[-2000:]}"])
    problems, report = json.loads(done.stdout.splitlines()[-1])
    if problems:
        raise ConfigError(problems)
    store.write_json(stamp, report)
    return report


def put_scripts_on_path() -> None:
    """Let jobs find `halobench`: it lies beside the Python that runs, also where that environment isn't activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def put_modules_on_path(folder: Path | str) -> None:
    """Let jobs import ``module:object`` from the folder of the Snakefile, as Snakemake's own process does."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))


def _search_path() -> str:
    """This process's module search path, so that ``module:object`` means the same in the check's process."""
    return os.pathsep.join([str(PACKAGE.parent), *(path or os.getcwd() for path in sys.path)])


def run(asked: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Build everything that was asked for; return a line per problem, and the report that `ensure` describes."""
    from halobench import data, losses, models

    problems: list[str] = []
    found: dict[str, data.Description] = {}
    weights: dict[str, dict[str, int]] = {}

    def attempt(where: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except SpecError as error:
            problems.append(str(error.within(where)))
        except Exception as error:  # plug-ins outside the package may raise anything
            problems.append(f"{where}: expected a plug-in that can be built ({plugins.told(error)})")
        return None

    for name, spec in asked["sources"].items():
        described = attempt(f"sources.{name}", lambda spec=spec: data.describe(parse(SourceSpec, spec)))
        if described is not None:
            found[name] = described
    for name, spec in asked["datasets"].items():
        dataset = parse(DatasetSpec, spec)
        if source := found.get(dataset.source):
            attempt(f"datasets.{name}", lambda d=dataset, s=source: data.check_size(d, s.size, s.parts))
    for name, spec in asked["losses"].items():
        attempt(f"losses.{name}", lambda spec=spec: losses.build(parse(LossSpec, spec)))
    for name, source, batch in asked["pairs"]:
        if described := found.get(source):
            model = parse(ModelSpec, asked["models"][name])
            taken = attempt(
                f"models.{name}", lambda m=model, d=described, b=batch: models.check(m, d.shape, d.classes, b)
            )
            weights.setdefault(name, {})[source] = taken or 0
    sizes = {name: {"classes": of.classes, "bytes": of.size * math.prod(of.shape)} for name, of in found.items()}
    return list(dict.fromkeys(problems)), {"sources": sizes, "weights": weights}
