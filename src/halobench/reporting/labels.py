"""Label data sets, models, losses, probes, calibrators and claims in words, and put names in order."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import pandas as pd

from halobench.analysis import names
from halobench.analysis.identities import Identity, agrees, identities
from halobench.core.plugins import facts as plugin_facts
from halobench.reporting import finding

FEW = 10  # samples; with fewer, the accuracy of a bin says little

# Words for the parts of a data set's or model's name after the first; other parts are shown unchanged.
WORDS_OF_NAME_PARTS = {
    r"k(\d+)": "k = {}",
    r"mu(\d+)": "μ = .{}",
    r"noise0?(\d\d?)": "{}% label noise",
    r"uniform(\d\d)": "{}% uniform noise",
    r"val(\d+)": "{} val. samples per class",
    r"pairs(\d\d)": "{}% pair flips",
    r"n(\d+)": "{} samples per class",
    r"layout(\d+)": "layout {}",
    r"e(\d+)": "{} epochs",
    "control": "no planted overlap",
    "shuffled": "shuffled labels",
    "blocks": "separate test images",
}
# Titles of data sets of the shipped experiments whose names aren't those of loaders.
SHIPPED = {
    "fashion": "Fashion-MNIST",
    "fashion2k": "Fashion-MNIST-2k",
    "fashion3k": "Fashion-MNIST-3k",
    "fashion54k": "Fashion-MNIST-54k",
    "fashion-overlap": "Collages in pairs",
}
# The same of models.
STRANGERS = {
    "ccexam-mnist": "trained on MNIST (ccexam)",
    "ccexam-svhn": "trained on SVHN (ccexam)",
    "ccexam-usps": "trained on USPS (ccexam)",
    "digit-recognizer": "trained on MNIST (digit-recognizer-py)",
}


# What the names of models and losses stand for, in what is being drawn.
_stand_for: ContextVar[Mapping[str, Mapping[str, Identity]]] = ContextVar("stand_for", default=MappingProxyType({}))


def _words(kind: Mapping[str, names.Name]) -> dict[str, str]:
    return {key: name.label for key, name in kind.items()}


DATASETS, MODELS, LOSSES = map(_words, (names.DATASETS, names.MODELS, names.LOSSES))
DATASETS |= SHIPPED
MODELS |= STRANGERS
PROBES, CALIBRATORS = map(_words, (names.PROBES, names.CALIBRATIONS))
METRIC_NAMES = names.METRICS | names.REGIONS | names.LADDER
VERDICTS = _words(names.VERDICTS)
REFERENCES = {"bayes": "Bayes posterior", "nearest": "1-nearest neighbour + TS", "uniform": "uniform guess"}

RELATIVE = "distance / distance to nearest training point of another label"
ABSOLUTE = "distance (normalised inputs)"


def dataset_label(name: str) -> str:
    """Return a data set's name in words, e.g. ``Digits, 50% label noise`` for ``digits-noise50``."""
    return _in_parts(name, DATASETS)


def _in_parts(name: str, titles: Mapping[str, str]) -> str:
    """Return the title of a name's first part, followed by its other parts in words."""
    stem = plugin_facts.stem(name, titles)
    parts = name[len(stem) :].strip("-").split("-") if len(stem) < len(name) else []
    return ", ".join([titles.get(stem, stem), *map(_part_in_words, parts)])


def _part_in_words(part: str) -> str:
    for pattern, words in WORDS_OF_NAME_PARTS.items():
        if match := re.fullmatch(pattern, part):
            return words.format(*match.groups())
    return part


@contextlib.contextmanager
def naming(runs: pd.DataFrame) -> Iterator[None]:
    """In this context, show models and losses from outside the package by the titles and styles of their plug-ins.

    `runs` is the table of runs, which says which plug-ins the names stand for.
    """
    token = _stand_for.set(identities(runs))
    try:
        yield
    finally:
        _stand_for.reset(token)


def stands_for(kind: str, name: str) -> Identity | None:
    """Return the `Identity` that the name of a model or loss has within `naming`; None if the name is unknown."""
    return _stand_for.get().get(kind, {}).get(name)


def _title(kind: str, name: str) -> str:
    known = stands_for(kind, name)
    return known.title if known else name


def model_label(name: str) -> str:
    """Return a model's name in words, e.g. ``MLP, untrained`` for ``mlp-untrained``."""
    known, beginning = stands_for("models", name), plugin_facts.stem(name, MODELS)
    if beginning in MODELS and agrees(beginning, known.plugin if known else None):
        return _in_parts(name, MODELS)
    return _title("models", name)


def loss_label(name: str) -> str:
    """Return a loss's name in words, e.g. ``5-point Mixup`` for ``mixup5``."""
    return LOSSES.get(name) or _title("losses", name)


@functools.cache
def calibrator_label(name: str) -> str:
    """Return a calibrator's name in words: its title, or else the part after the colon or slash."""
    return CALIBRATORS.get(name) or plugin_facts.title("calibrators", name)


def probe_label(name: str) -> str:
    """Return a probe's direction in words."""
    return PROBES.get(name, name)


@functools.cache
def metric_label(name: str) -> str:
    """Return a metric's name in words, without its unit."""
    return METRIC_NAMES[name].label if name in METRIC_NAMES else plugin_facts.title("metrics", name)


def metric_axis(name: str) -> str:
    """Return a metric's name in words with its unit, if it has one."""
    return METRIC_NAMES[name].axis if name in METRIC_NAMES else metric_label(name)


def around(points: str) -> str:
    """Return words for the samples that a probe started from, and for the label whose confidence it recorded."""
    words = {
        "train": "training points, in the label trained on",
        "evaluation": "evaluation points, which no model was fitted to, in their label",
        "both": "training points in the label trained on, or evaluation points, if a model wasn't trained on these",
        "heldout": "held-out points, the control",
    }
    return f"around {words.get(points, points)}"


def cell_label(dataset: str, model: str) -> str:
    """Return a data set and model in words, leaving out either one if it has no name."""
    return " · ".join(filter(None, (dataset_label(dataset), model_label(model))))


def ordered(names: Iterable[str], first: Iterable[str] = ()) -> list[str]:
    """Return distinct names: first the names in `first`, alone or continued after a hyphen, then all other names.

    Numbers in names are sorted by value.
    """
    rank = {name: i for i, name in enumerate(first)}

    def key(name: str) -> tuple:
        parts = re.split(r"(\d+)", name)
        return rank.get(plugin_facts.stem(name, rank), len(rank)), [int(p) if p.isdecimal() else p for p in parts], name

    # A column of a long table has few distinct values.
    distinct: Iterable[Any] = names.unique() if isinstance(names, pd.Series) else names
    return sorted({str(name) for name in distinct}, key=key)


def test_label(row: Mapping[Any, Any]) -> str:
    """Label a row of the claims table in words, marking checks, which aren't claims."""
    return f"{row['label']} (a check)" if finding.is_check(row) else str(row["label"])
