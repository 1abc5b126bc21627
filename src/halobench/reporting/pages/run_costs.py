"""Summarise what an experiment ran on and what it cost, from its table of jobs."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from halobench.core.formatting import count
from halobench.storage.provenance import short

MOST = 6  # the most machines or commits listed


def facts(jobs: pd.DataFrame) -> dict[str, Any]:
    """Return when jobs ran (UTC), what they cost, and their machines, commits and versions."""
    total = costs(jobs)
    return {
        "begun": _minute(jobs["started"].min()),
        "ended": _minute(jobs["finished"].max()),
        "cpu": float(total["cpu"].sum()),
        "gpu": float(total["gpu"].sum()),
        "peak": float(total["peak"].max()),
        "machines": _shares(jobs["hardware"].map(machine)),
        "commits": _shares(jobs["commit"].map(lambda commit: short(commit or "outside git"))),
        "versions": versions(jobs),
    }


def costs(jobs: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each stage, in order of first appearance."""
    on_gpu = jobs["device"].str.startswith("cuda")
    split = jobs.assign(cpu=jobs["seconds"].mask(on_gpu, 0.0), gpu=jobs["seconds"].where(on_gpu, 0.0))
    return split.groupby("stage", sort=False).agg(
        jobs=("seconds", "size"),
        cpu=("cpu", "sum"),
        gpu=("gpu", "sum"),
        longest=("seconds", "max"),
        peak=("peak_memory_mib", "max"),
    )


def versions(jobs: pd.DataFrame) -> dict[str, list[str]]:
    """Return the versions of each package that jobs used, Python and halobench first."""
    versions_of: dict[str, set[str]] = {}
    for recorded in jobs["versions"].unique():
        for name, version in json.loads(recorded).items():
            versions_of.setdefault(name, set()).add(version)
    names = sorted(versions_of, key=lambda name: (name != "python", name != "halobench", name))
    return {name: sorted(versions_of[name]) for name in names}


def machine(hardware: str) -> str:
    """Return a host with its processor, cores and card in words, from a record's ``hardware`` as JSON."""
    machine_facts = json.loads(hardware)
    card = f", {machine_facts['gpu']}" if "gpu" in machine_facts else ""
    return f"{machine_facts['host']}: {machine_facts['processor']}, {machine_facts['cores']} cores{card}"


def _shares(names: pd.Series) -> list[str]:
    """List names, most jobs first, with their job counts if there are several names; a long list is cut short."""
    counts = sorted(names.value_counts().items(), key=lambda item: (-item[1], str(item[0])))
    if len(counts) == 1:
        return [str(counts[0][0])]
    more = [f"and {len(counts) - MOST} more"] if len(counts) > MOST else []
    return [f"{name} ({count(jobs, 'job')})" for name, jobs in counts[:MOST]] + more


def _minute(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"
