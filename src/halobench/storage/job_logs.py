"""Read the ends of job logs."""

from __future__ import annotations

import re
from pathlib import Path

DONE = "(ended well, and had nothing to say)"
SILENT = "(no word: killed, or never started)"


def lines(log: Path) -> list[str]:
    """The lines of a log that aren't empty."""
    return [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]


def last_line(log: Path) -> str:
    """The last line of a log that isn't empty; of a log that breaks off after its command, that it says nothing."""
    found = lines(log)
    if not found or found[-1].startswith("$ "):
        return SILENT
    return found[-1].removeprefix("halobench: error: ")


def before_last(log: Path, most: int = 2) -> list[str]:
    """Up to `most` lines before the last one, without the command that a log opens with."""
    return [line for line in lines(log)[:-1] if not line.startswith("$ ")][-most:]


def why_ended(log: Path) -> str:
    """The line of one of SLURM's logs that tells why its job ended; empty if it tells nothing."""
    telling = [line for line in lines(log) if TELLING.fullmatch(line)]
    # A time limit or a kill is told by SLURM; what the Snakemake around the stage says after it is only that it failed.
    return next((line for line in reversed(telling) if line.startswith("slurmstepd")), telling[-1] if telling else "")


# How SLURM's daemons, and the Snakemake that runs a job on a node, tell why it ended.
TELLING = re.compile(
    r"slurmstepd.*|.*\boom[-_ ]kill.*|.*(?:No such file|not found|denied|Errno).*|\w*(?:Error|Exception): .+"
)
