"""Write an experiment's overview, what was run and what came out, and its part for the report's front page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from halobench.reporting import labels, styles, table_views
from halobench.reporting.pages import run_costs
from halobench.reporting.pages.cells import cells_page
from halobench.reporting.pages.claims_page import claimed, counted
from halobench.reporting.rendering import KINDS, Column, Entry, Line, choices, duration, named, number, render

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
    experiment: str, tables: Mapping[str, pd.DataFrame], config: Mapping[str, Any], figure: bytes = b"", note: str = ""
) -> dict[str, str]:
    """Return an experiment's pages: ``overview``, ``cells``, and ``front``, an element for the report's front page.

    Parameters
    ----------
    experiment : str
    tables : mapping
        As aggregated, with ``claims``; ``jobs`` with those that aggregated and judged.
    config : mapping
        The part of the configuration that made it.
    figure : bytes
        The figure that sums it up, as PNG; empty for none.
    note : str
        Leads each page, e.g. that cells are missing.
    """
    runs, jobs, claims = (tables[name] for name in ("runs", "jobs", "claims"))
    whole = claims[claims["scope"] == "all"]
    facts, grid = run_costs.facts(jobs), _grid(runs)
    versions = [Line({}, (name, ", ".join(values))) for name, values in facts["versions"].items()]
    both = {
        **{"experiment": experiment, "note": note, "grid": _summary(runs), "facts": facts},
        "figure": base64.b64encode(figure).decode(),
        "claims": {"counted": counted(whole) if len(whole) else "", **_verdicts(whole)},
    }
    overview = render(
        "overview.html",
        title=f"Experiment {experiment}: what was run, and what came out",
        selects=choices(line.keys for line in grid),
        columns=COLUMNS,
        lines={"grid": grid, "costs": _costs(jobs), "versions": versions},
        configuration=_configuration(config),
        **both,
    )
    front = render("front.html", datasets=_datasets(runs), **both)
    return {"overview": overview, "cells": cells_page(experiment, tables, note), "front": front}


# What was run ---------------------------------------------------------------------------------------------------------


def _summary(runs: pd.DataFrame) -> dict[str, Any]:
    """Return the counts of a grid; it is `full` if it holds every combination."""
    here = runs[table_views.trained_here(runs)]
    datasets, models, losses, seeds = (runs[kind].nunique() for kind in ("dataset", "model", "loss", "seed"))
    return {
        **{"cells": len(runs), "datasets": datasets, "models": models, "losses": losses},
        "seeds": sorted(runs["seed"].unique()),
        "full": datasets * models * losses * seeds == len(runs),
        **{"here": len(here), "interpolate": int(here["interpolates"].sum())},
    }


def _datasets(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the grid by data set, for the front page."""
    rows = []
    for dataset in labels.ordered(runs["dataset"], labels.DATASETS):
        grid = runs[runs["dataset"] == dataset]
        names = {
            key: [KINDS[kind][1](name) for name in labels.ordered(grid[kind], KINDS[kind][2])]
            for key, kind in (("models", "model"), ("losses", "loss"))
        }
        more = {"dataset": labels.dataset_label(dataset), "seeds": grid["seed"].nunique()}
        rows.append(_summary(grid) | names | more)
    return rows


def _grid(runs: pd.DataFrame) -> list[Line]:
    """Return the grid by data set, model and loss."""
    lines = []
    groups: Iterable[tuple[Any, pd.DataFrame]] = runs.groupby([*KINDS], sort=False)
    for names, cells in groups:
        keys, counts = dict(zip(KINDS, names, strict=True)), _summary(cells)
        here, fits = counts["here"], counts["interpolate"]
        seeds = Entry(", ".join(map(str, counts["seeds"])), len(counts["seeds"]))
        interpolate = Entry(f"{fits} of {here}", fits / here) if here else Entry("–")
        accuracy = float(cells["train_accuracy"].mean())
        lines.append(Line(keys, (*named(keys), seeds, len(cells), interpolate, accuracy)))
    return lines


def _costs(jobs: pd.DataFrame) -> list[Line]:
    """Return the cost of each stage."""
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
    """Return the part of the configuration as YAML, the grid first."""
    first = [key for key in SECTIONS if key in config]
    parts = {key: config[key] for key in [*first, *sorted(config.keys() - set(first))]}
    return yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)


# What came out --------------------------------------------------------------------------------------------------------


def _verdicts(whole: pd.DataFrame) -> dict[str, Any]:
    """Return the claims that were tested with their verdicts: a row per claim, and a column per fit."""
    tested = whole[whole["verdict"] != "not_tested"]
    fits = labels.ordered(tested["fit"], ("none", "released", "exact", "oracle"))
    rows: dict[str, list[Any]] = {}
    claims: Iterable[Any] = tested.itertuples()
    for claim in claims:
        row = rows.setdefault(labels.claim_label(claim.claim, claim.fit), [None] * len(fits))
        row[fits.index(claim.fit)] = {
            **{"name": claim.verdict, "words": labels.VERDICTS[claim.verdict]},
            "sign": styles.VERDICT_STYLES[claim.verdict].marker,
            **{"estimate": claim.estimate, "claimed": claimed(claim)},
        }
    fits_in_words = [labels.calibrator_label(fit) for fit in fits]
    return {"fits": fits_in_words, "rows": rows, "untested": len(whole) - len(tested)}
