"""Which configuration a run has, and what it may use at once, told by Snakemake's arguments without Snakemake.

Importing Snakemake takes a second, which a look at a run shouldn't cost. Only what such a look needs is read here.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from halobench.core.errors import SpecError
from halobench.experiment.config_file import check_file
from halobench.experiment.config_loader import ConfigError
from halobench.runner.dry_run import BUILT_IN
from halobench.runner.forecast.plan import Limits

MAIN = "config.yaml"
USUAL = "profiles/default"  # what Snakemake lays over all, unless a workflow profile is named


@dataclass(frozen=True)
class Selection:
    """What of Snakemake's arguments selects a configuration: files laid over `MAIN`, and values laid over these."""

    configfiles: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def parser() -> argparse.ArgumentParser:
    """A parser of those of Snakemake's arguments that count here."""
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[])
    made.add_argument("--config", "-C", nargs="+", action="extend", default=[])
    made.add_argument("--workflow-profile")
    made.add_argument("--cores", "-c", nargs="?", const="all")
    made.add_argument("--jobs", "-j", nargs="?", const="unlimited")
    made.add_argument("--local-cores")
    made.add_argument("--executor", "-e")
    made.add_argument("--resources", "--res", nargs="+", default=[])
    return made


def selected(arguments: Iterable[str]) -> Selection:
    """What Snakemake's arguments select."""
    given = parser().parse_known_args(list(arguments))[0]
    return Selection(tuple(given.configfile), tuple(given.config))


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with another one laid over it: mappings are merged key by key, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = laid_over(base[key], value) if both else value
    return merged


def read_selected(chosen: Selection, folder: Path, base: Path | None = None) -> dict[str, Any]:
    """The configuration that a selection stands for in a working directory, as YAML gives it.

    Parameters
    ----------
    chosen : Selection
    folder : Path
        The working directory, in which `MAIN` lies.
    base : Path, optional
        What paths of configuration files start from; the present directory by default.

    Raises
    ------
    ConfigError
        If a file can't be read, or there is none.
    SpecError
        If a value isn't given as KEY=VALUE.
    """
    main = folder / MAIN
    paths = [*([main] if main.exists() else []), *(Path(base or "") / path for path in chosen.configfiles)]
    if not paths:
        raise ConfigError([f"{main} = no such file: expected the configuration, or --configfile FILE"])
    merged: dict[str, Any] = {}
    for path in paths:
        check_file(path)
        merged = laid_over(merged, yaml.safe_load(path.read_text(encoding="utf-8")))
    for entry in chosen.values:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            raise SpecError("--config", entry, "KEY=VALUE, such as run=[demo]")
        merged = laid_over(merged, {key: yaml.safe_load(text)})
    return merged


def limits(arguments: Iterable[str], folder: Path) -> Limits:
    """What a run may use at once: the caps in Snakemake's arguments, and in the workflow profile that counts for them.

    As `halobench.runner.forecast.plan.limits` has it, which asks Snakemake.
    """
    given = vars(parser().parse_known_args(list(arguments))[0])
    # Snakemake takes `none` for no profile at all; a profile's values count where the command line gives none.
    named = given["workflow_profile"]
    profile = {} if named == "none" else read_profile(folder / (named or USUAL))
    asked = profile | {key: value for key, value in given.items() if value not in (None, [])}
    remote = asked.get("executor") not in (None, *BUILT_IN)
    caps = pairs(asked.get("resources", []))
    jobs = whole(asked.get("jobs"))
    cores = whole(asked.get("local_cores") if remote else asked.get("cores")) or (None if remote else jobs)
    return Limits(cores or os.cpu_count() or 1, jobs if remote else None, whole(caps.get("gpu")), remote)


def read_profile(folder: Path) -> dict[str, Any]:
    """The values of a profile by the names of Snakemake's options, underscores for dashes; empty without one."""
    for path in sorted(folder.glob("*.y*ml")):
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            continue  # the run itself would tell of it
        if isinstance(found, Mapping):
            return {str(key).replace("-", "_"): value for key, value in found.items()}
    return {}


def pairs(entries: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """Resources as a command line has them (``gpu=2``), or a profile's mapping."""
    if isinstance(entries, Mapping):
        return dict(entries)
    return dict(entry.split("=", 1) for entry in entries if "=" in str(entry))


def whole(value: Any) -> int | None:
    """A whole number of at least 1; None for anything else, such as ``unlimited``; all cores for ``all``."""
    if value == "all":
        return os.cpu_count()
    text = str(value)
    return int(text) if text.isdecimal() and int(text) else None
