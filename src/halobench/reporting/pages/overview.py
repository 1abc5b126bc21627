"""Write an experiment's overview (the four questions, and what was run) and its other pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from halobench.analysis import names
from halobench.core.formatting import count, duration, number
from halobench.core.plugins import facts as plugin_facts
from halobench.core.specs.calibrator import CALIBRATORS
from halobench.reporting import table_views
from halobench.reporting.pages import files_pages
from halobench.reporting.pages.leaderboard import leaderboard_page
from halobench.reporting.pages.questions import details, questions
from halobench.reporting.rendering import FILTERS, Column, Entry, Line, choices, render
from halobench.storage.provenance import short

CELL = ("dataset", "model", "loss")
SECTIONS = ("experiments", "sources", "datasets", "models", "losses", "recipes", "probes", "calibrate")
MOST_LISTED = 6  # the largest number of machines or commits to list
OVERVIEW_COLUMNS = {
    "grid": (
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seeds"), Column("Cells", number=True, form="d")),
        *(Column("Interpolate", number=True), Column("Mean train accuracy", number=True)),
    ),
    "costs": (
        *(Column("Stage"), Column("Jobs", number=True, form="d"), Column("Time on CPUs", number=True)),
        *(Column("Time on GPUs", number=True), Column("Longest job", number=True)),
        Column("Peak memory of a job", number=True),
    ),
}


def pages(
    tables: Mapping[str, pd.DataFrame],
    answers: Iterable[Mapping[str, str]],
    spec: Mapping[str, Any],
    captions: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return an experiment's `PAGES` by name, from its tables and its answers in words.

    `spec` is the spec of the stage. Its keys ``data`` and ``formats`` list the formats of tables and figures if some
    are missing, and ``undrawn`` is a sentence on figures that are left out.
    """
    experiment, note, figures = spec["experiment"], spec["note"], spec["figures"]
    data, formats = spec.get("data", files_pages.DATA), spec.get("formats", files_pages.FORMATS)
    runs, jobs = tables["runs"], tables["jobs"]
    pictures = {name: f"../../figures/{experiment}/{name}" for name in figures}
    asked = [each | {"details": details(str(each["key"]), figures)} for each in questions(answers, pictures)]
    costs, grid = _cost_by_stage(jobs), _grid(runs)
    overview = render(
        "overview.html",
        title=f"Experiment {experiment}: four questions, and what was run",
        **{"experiment": experiment, "note": note, "grid": _summary(runs), "facts": _facts(jobs, costs)},
        asked=asked,
        selects=choices(line.keys for line in grid),
        columns=OVERVIEW_COLUMNS,
        lines={"grid": grid, "costs": _costs(costs)},
        configuration=spec["config"] and _configuration(spec["config"]),
        sources=spec["config"] and _sources(spec["config"]),
    )
    return {
        "overview": overview,
        "leaderboard": leaderboard_page(experiment, tables["metrics"], runs, note, data["metrics"]),
        "figures": files_pages.figures_page(
            experiment, figures, captions or {}, note, formats, spec.get("undrawn", "")
        ),
        "tables": files_pages.tables_page(experiment, spec["tables"], captions or {}, note, data),
    }


def _summary(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the counts of a grid, which is ``full`` if every combination is present."""
    here = runs[table_views.trained_here(runs)]
    datasets, models, losses, seeds = (set(runs[kind]) for kind in ("dataset", "model", "loss", "seed"))
    return {
        **{"cells": len(runs), "datasets": len(datasets), "models": len(models)},
        **{"losses": len(losses - {names.NO_LOSS}), "seeds": sorted(seeds)},
        "full": len(datasets) * len(models) * len(losses) * len(seeds) == len(runs),
        **{"here": len(here), "interpolate": int(here["interpolates"].sum())},
        "given": table_views.given_models(runs),
    }


def _grid(runs: pd.DataFrame) -> list[Line]:
    lines = []
    for cell, cells in table_views.groups_of(runs, CELL).items():
        keys, counts = dict(zip(CELL, cell, strict=True)), _summary(cells)
        here, fits = counts["here"], counts["interpolate"]
        seeds = Entry(", ".join(map(str, counts["seeds"])), len(counts["seeds"]))
        interpolate = Entry(f"{fits} of {here}", fits / here) if here else Entry("–")
        accuracy = float(cells["train_accuracy"].mean())
        words = [FILTERS[kind][1](name) for kind, name in keys.items()]
        lines.append(Line(keys, (*words, seeds, len(cells), interpolate, accuracy)))
    return lines


def _costs(costs: pd.DataFrame) -> list[Line]:
    lines = []
    row: Any
    for row in costs.itertuples():
        times = [Entry(duration(value) if value else "0", value) for value in (row.cpu, row.gpu, row.longest)]
        lines.append(Line({}, (row.Index, row.jobs, *times, Entry(f"{number(row.peak, '.0f')} MiB", row.peak))))
    return lines


def _facts(jobs: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Any]:
    """Return the jobs' times (UTC), costs, machines, commits and versions."""
    begun, ended = (f"{time[:16].replace('T', ' ')} UTC" for time in (jobs["started"].min(), jobs["finished"].max()))
    return {
        **{"begun": begun, "ended": ended, "peak": float(costs["peak"].max())},
        **{"cpu": float(costs["cpu"].sum()), "gpu": float(costs["gpu"].sum())},
        "machines": _shares(jobs["hardware"].map(_machine)),
        "commits": _shares(jobs["commit"].map(lambda commit: short(commit or "outside git"))),
        "versions": _versions(jobs),
    }


def _cost_by_stage(jobs: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each stage, in order of first appearance."""
    on_gpu = jobs["device"].str.startswith("cuda")
    split = jobs.assign(cpu=jobs["seconds"].mask(on_gpu, 0.0), gpu=jobs["seconds"].where(on_gpu, 0.0))
    columns = {"jobs": ("seconds", "size"), "cpu": ("cpu", "sum"), "gpu": ("gpu", "sum"), "longest": ("seconds", "max")}
    return split.groupby("stage", sort=False).agg(**columns, peak=("peak_memory_mib", "max"))


def _versions(jobs: pd.DataFrame) -> dict[str, list[str]]:
    """Return the versions of each package that jobs used, with Python and halobench first."""
    recorded = pd.DataFrame([json.loads(versions) for versions in jobs["versions"].unique()])
    packages = sorted(map(str, recorded), key=lambda name: (name != "python", name != "halobench", name))
    return {name: sorted(recorded[name].dropna().unique()) for name in packages}


def _machine(hardware: str) -> str:
    """Return a host with its processor, cores and GPU in words, from a record's ``hardware`` as JSON."""
    machine_facts = json.loads(hardware)
    card = f", {machine_facts['gpu']}" if "gpu" in machine_facts else ""
    return f"{machine_facts['host']}: {machine_facts['processor']}, {machine_facts['cores']} cores{card}"


def _shares(names: pd.Series) -> list[str]:
    """List names with their job counts, largest first; a long list is shortened."""
    counts = sorted(names.value_counts().items(), key=lambda item: (-item[1], str(item[0])))
    more = [f"and {len(counts) - MOST_LISTED} more"] if len(counts) > MOST_LISTED else []
    return [f"{name} ({count(jobs, 'job')})" for name, jobs in counts[:MOST_LISTED]] + more


def _configuration(config: Mapping[str, Any]) -> str:
    """Return the experiment's part of the configuration as YAML, with the grid first."""
    first = [key for key in SECTIONS if key in config]
    parts = {key: config[key] for key in [*first, *sorted(config.keys() - set(first))]}
    return yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)


def _sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Return what to cite for the package's plug-ins that an experiment used, by title, as plain text."""

    def of(section: str, key: str) -> list[str]:
        return [entry.get(key, name) for name, entry in config.get(section, {}).items()]

    listed = config.get("calibrate", {}).get("calibrators", CALIBRATORS)
    calibrators = [name if isinstance(name, str) else next(iter(name.values()))["name"] for name in listed]
    used = {"data": of("sources", "loader"), "losses": of("losses", "name"), "models": of("models", "name")}
    used |= {"calibrators": calibrators, "probes": of("probes", "kind"), "searches": of("probes", "kind")}
    known = {kind: plugin_facts.named(kind) for kind in (*used, "metrics")}
    plugins = [known[kind][name] for kind, listed in used.items() for name in listed if name in known[kind]]
    plugins += known["metrics"].values()  # all are computed
    return {p.title: re.sub(r"\[([^]]+)\]\([^)]*\)|[*`]", r"\1", p.source) for p in plugins if p.source}
