"""Serve forks of the command line to the jobs of a run: ``python -m halobench.cli.server SOCKET``."""

from __future__ import annotations

import sys
from pathlib import Path

from halobench.cli.main import main
from halobench.runner.fork_server import run

if __name__ == "__main__":
    run(Path(sys.argv[1]), main)
