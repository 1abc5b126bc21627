"""Write an experiment's overview (what was run and what came out) and its other pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from halobench.core import facts as plugin_facts
from halobench.core.calibrator_spec import CALIBRATORS
from halobench.core.formatting import number
from halobench.reporting import labels, styles, table_views
from halobench.reporting.pages import files_pages, run_costs
from halobench.reporting.pages.claims_page import claimed
from halobench.reporting.pages.leaderboard import leaderboard_page
from halobench.reporting.rendering import KINDS, Column, Entry, Line, choices, duration, named, render
from halobench.results import finding, names

SECTIONS = ("experiments", "sources", "datasets", "models", "losses", "recipes", "probes", "calibrate")
COLUMNS = {
    "grid": (
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seeds"), Column("Cells", number=True, form="d")),
        *(Column("Interpolate", number=True), Column("Mean train accuracy", number=True)),
    ),
    "costs": (
        *(Column("Stage"), Column("Jobs", number=True, form="d"), Column("Time on CPUs", number=True)),
        *(Column("Time on GPUs", number=True), Column("Longest job", number=True)),
        Column("Peak memory of a job", number=True),
    ),
    "versions": (Column("Package"), Column("Version")),
}


def pages(
    tables: Mapping[str, pd.DataFrame], spec: Mapping[str, Any], captions: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return an experiment's `PAGES` by name."""
    experiment, note = spec["experiment"], spec["note"]
    runs, jobs, claims = (tables[name] for name in ("runs", "jobs", "claims"))
    verdicts: Any = claims.to_dict("records")
    facts, grid = run_costs.facts(jobs), _grid(runs)
    versions = [Line({}, (name, ", ".join(values))) for name, values in facts["versions"].items()]
    overview = render(
        "overview.html",
        title=f"Experiment {experiment}: what came out, and what was run",
        **{"experiment": experiment, "note": note, "grid": _summary(runs), "facts": facts},
        claims={
            "finding": finding.finding(verdicts),
            "checks": any(map(finding.is_check, verdicts)),
            "themes": [_theme(theme, tests) for theme, tests in finding.by_theme(verdicts).items()],
        },
        selects=choices(line.keys for line in grid),
        columns=COLUMNS,
        lines={"grid": grid, "costs": _costs(jobs), "versions": versions},
        configuration=_configuration(spec["config"]),
        sources=_sources(spec["config"]),
    )
    return {
        "overview": overview,
        "leaderboard": leaderboard_page(experiment, tables["metrics"], note),
        "figures": files_pages.figures_page(experiment, spec["figures"], captions or {}, note),
        "tables": files_pages.tables_page(experiment, spec["tables"], captions or {}, note),
    }


# What was run ---------------------------------------------------------------------------------------------------------


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
    groups: Iterable[tuple[Any, pd.DataFrame]] = runs.groupby([*KINDS], sort=False)
    for kinds, cells in groups:
        keys, counts = dict(zip(KINDS, kinds, strict=True)), _summary(cells)
        here, fits = counts["here"], counts["interpolate"]
        seeds = Entry(", ".join(map(str, counts["seeds"])), len(counts["seeds"]))
        interpolate = Entry(f"{fits} of {here}", fits / here) if here else Entry("–")
        accuracy = float(cells["train_accuracy"].mean())
        lines.append(Line(keys, (*named(keys), seeds, len(cells), interpolate, accuracy)))
    return lines


def _costs(jobs: pd.DataFrame) -> list[Line]:
    rows: Iterable[Any] = run_costs.costs(jobs).itertuples()
    return [
        Line(
            {},
            (
                *(row.Index, row.jobs),
                *(Entry(duration(value), value) for value in (row.cpu, row.gpu, row.longest)),
                Entry(f"{number(row.peak, '.0f')} MiB", row.peak),
            ),
        )
        for row in rows
    ]


def _configuration(config: Mapping[str, Any]) -> str:
    """Return the part of the configuration as YAML, with the grid first."""
    first = [key for key in SECTIONS if key in config]
    parts = {key: config[key] for key in [*first, *sorted(config.keys() - set(first))]}
    return yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)


def _sources(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the sources of the package's plug-ins that an experiment used, as plain text, by their titles."""

    def of(section: str, key: str) -> list[str]:
        return [entry.get(key, name) for name, entry in config.get(section, {}).items()]

    listed = config.get("calibrate", {}).get("calibrators", CALIBRATORS)
    calibrators = [each if isinstance(each, str) else next(iter(each.values()))["name"] for each in listed]
    used = {"data": of("sources", "loader"), "losses": of("losses", "name"), "models": of("models", "name")}
    used |= {"calibrators": calibrators, "probes": of("probes", "kind"), "searches": of("probes", "kind")}
    known = {kind: plugin_facts.named(kind) for kind in (*used, "metrics")}
    said = [known[kind][name] for kind, those in used.items() for name in those if name in known[kind]]
    said += known["metrics"].values()  # all are computed
    return {each.title: re.sub(r"\[([^]]+)\]\([^)]*\)|[*`]", r"\1", each.source) for each in said if each.source}


# What came out --------------------------------------------------------------------------------------------------------


def _theme(theme: str, tests: list[Mapping[Any, Any]]) -> dict[str, Any]:
    """Return a theme with its tests: a row per test that the grid can decide and a column per calibration."""
    tested = [test for test in tests if test["verdict"] != "not_tested"]
    fits = labels.ordered((str(test["fit"]) for test in tested), names.CALIBRATIONS)
    rows: dict[str, list[Any]] = {}
    for test in tested:
        row = rows.setdefault(labels.test_label(test), [None] * len(fits))
        row[fits.index(test["fit"])] = {
            **{"name": test["verdict"], "words": labels.VERDICTS[test["verdict"]]},
            "sign": styles.VERDICT_STYLES[test["verdict"]].marker,
            **{"estimate": test["estimate"], "claimed": claimed(test), "lost": finding.lost(test)},
        }
    return {
        **{"label": names.THEMES[theme].label, "sentence": names.THEMES[theme].sentence},
        **{"tests": finding.tests_of_questions(tests)},
        **{"counted": finding.counted_of(theme, tests), "fits": [labels.calibrator_label(fit) for fit in fits]},
        **{"rows": rows, "untested": len(tests) - len(tested)},
    }
