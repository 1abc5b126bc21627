"""The environment that jobs run in."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def put_scripts_on_path() -> None:
    """Let jobs find `halobench`: it lies beside the Python that runs, also where that environment isn't activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def put_modules_on_path(folder: Path | str) -> None:
    """Let jobs import ``module:object`` from the folder of the Snakefile, as Snakemake's own process does."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
