"""Read job logs, mainly their last lines."""

from __future__ import annotations

import re
from pathlib import Path

DONE = "(succeeded, without output)"
SILENT = "(no output: killed, ended without a message, or never started)"
STOPPED = "stopped by SIG"  # in the last line of a stage that saved its work and ended because of a signal
KILLED = "halobench: error: killed by SIG"  # by SIGINT or SIGTERM while a stage was still importing
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# How SLURM's daemons, and the Snakemake process that runs a job on a node, report why the job ended.
REASON = re.compile(
    r"SLURM job \S+: .*|slurmstepd.*|"
    r".*\boom[-_ ]kill.*|.*(?:No such file|not found|denied|Errno).*|\w*(?:Error|Exception): .+"
)

# What that Snakemake process prints in any case, also about a job that failed.
CHATTER = re.compile(
    r"(Assuming|Building|Complete log|Elapsed|Error in|Execute|Exiting|Finished|Job stats|Provided|Removing"
    r"|Rules claiming|Select|Shutting|Storing|Trying|Using|Will exit|At least one"
    r"|\(command exited|\d+ of \d+ steps|\[.*\d\d:\d\d"
    r"|(host|input|output|log|jobid|reason|wildcards|resources|threads|shell|message|external_jobid): ?).*|[\w ]+:"
)


def lines(log: Path) -> list[str]:
    """Return the stripped non-empty lines of a log without terminal colours; no lines if the log can't be read."""
    try:
        text = ESCAPE.sub("", log.read_text(errors="replace"))
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def last_line(log: Path) -> str:
    """Return the message in a log's last non-empty line, or `SILENT` if no line follows the command.

    A line that says only that the process was interrupted becomes `STOPPED`, followed by ``INT`` or ``TERM``.
    """
    texts = lines(log)
    if not texts or texts[-1].startswith("$ "):
        return SILENT
    if texts[-1] in ("KeyboardInterrupt", f"{KILLED}INT", f"{KILLED}TERM"):
        return f"{STOPPED}{'TERM' if texts[-1].endswith('TERM') else 'INT'}"
    return texts[-1].removeprefix("halobench: ").removeprefix("error: ")


def before_last(log: Path, most: int = 2) -> list[str]:
    """Return up to `most` lines before a log's last line, without the command at the top of the log."""
    return [line for line in lines(log)[:-1] if not line.startswith("$ ")][-most:]


def python_path(log: Path) -> str:
    """Return the part of a log's command that sets PYTHONPATH in a shell; empty if there is no such part or log."""
    first = next(iter(lines(log)), "")
    return first.removeprefix("$ ").partition(" halobench ")[0] if first.startswith("$ PYTHONPATH=") else ""


def why_ended(log: Path) -> str:
    """Return the line of a SLURM log that says why its job ended; "" if no line does."""
    reasons = [line for line in lines(log) if REASON.fullmatch(line)]
    # The run notes SLURM's final state. SLURM reports a time limit or a kill; Snakemake, which runs the stage, only
    # adds that the job failed.
    telling = (line for start in ("SLURM job", "slurmstepd") for line in reversed(reasons) if line.startswith(start))
    return next(telling, reasons[-1] if reasons else "")


def last_words(log: Path) -> str:
    """Return the last line of a SLURM log that Snakemake doesn't print in any case; "" if there is none."""
    return next((line for line in reversed(lines(log)) if not CHATTER.fullmatch(line)), "")
