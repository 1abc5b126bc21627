"""Read predictions in CalArena's HDF5 layout (arXiv 2605.30188), and compare calibrators on them.

For each pair of data set and model, a file has the group ``{dataset}/{model}`` with

=============================== ==========================================================================
``probas_cal``, ``probas_test`` (n, k) probabilities, or (n,) for the second of two classes
``labels_cal``, ``labels_test`` (n,), whole numbers from 0 to k - 1
=============================== ==========================================================================

::

    from halobench import arena

    table = arena.compare("scores.h5")  # a row per pair
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from halobench.calibration.arrays import as_probabilities, check_labels
from halobench.calibration.calibrator import fit as fit_by_name
from halobench.calibration.calibrators.auto import fit_auto
from halobench.calibration.calibrators.exact import TemperatureFit, fit_temperature
from halobench.calibration.calibrators.paper import fit_paper
from halobench.calibration.floor import USUAL_FLOOR, fit_floor, floored
from halobench.calibration.saved import Savable
from halobench.calibration.scores.sample_scores import cross_entropy
from halobench.core.errors import RefusedError, SpecError, describe_error, refuse, require
from halobench.core.extras import explained

__all__ = ["Pair", "compare", "read"]

NEEDED = ("probas_cal", "labels_cal", "probas_test", "labels_test")
ELSEWHERE = 1e-3  # nats above the lowest NLL at which another program's temperature counts as ended elsewhere
log = logging.getLogger(__name__)


class Pair(NamedTuple):
    """The predictions of one model on one data set: probabilities (n, k) and labels (n,)."""

    dataset: str
    model: str
    probas_cal: np.ndarray
    labels_cal: np.ndarray
    probas_test: np.ndarray
    labels_test: np.ndarray


def read(path: Path | str) -> Iterator[Pair]:
    """Yield the checked pairs of a file, each read only when it is asked for.

    Raises
    ------
    SpecError
        If the file can't be opened or has no pair. If a pair has missing arrays, or arrays that aren't probabilities
        and labels, the error names the group.
    MissingExtraError
        If h5py isn't installed.
    """
    with explained("CalArena's files", "need"):
        import h5py
    refuse(not Path(path).is_file(), str(path), "no such file")
    try:
        file = h5py.File(path)
    except OSError as error:
        raise RefusedError(str(path), f"can't be opened as HDF5 ({describe_error(error)})") from None
    with file:
        groups = [(dataset, model) for dataset in file for model in getattr(file.get(dataset), "keys", tuple)()]
        what = "has no pair; expected groups DATASET/MODEL with " + ", ".join(NEEDED)
        refuse(not groups, str(path), what)
        for dataset, model in groups:
            yield _pair(f"{path}: {dataset}/{model}", dataset, model, file[dataset].get(model))


def _pair(place: str, dataset: str, model: str, group: Any) -> Pair:
    """Check and return the arrays of one pair."""
    for name in NEEDED:
        refuse(name not in (getattr(group, "keys", tuple)()), f"{place}/{name}", "missing; add this array")
    arrays: dict[str, np.ndarray] = {}
    for split in ("cal", "test"):
        probabilities, labels = f"probas_{split}", f"labels_{split}"
        try:
            arrays[probabilities] = as_probabilities(np.asarray(group[probabilities]), probabilities)
            found = np.asarray(group[labels]).ravel()
            arrays[labels] = check_labels(found, arrays[probabilities].shape, labels).astype(np.int64)
        except SpecError as error:
            raise error.at(f"{place}/{error.key}") from None
        except (KeyError, MemoryError, OSError, ValueError) as error:  # a broken link, or an absurd shape
            what = f"can't be read as probas_{split} and labels_{split} ({describe_error(error)}); write it again"
            raise RefusedError(place, what) from None
    k = arrays["probas_cal"].shape[1]
    wanted = f"{k} columns, as in probas_cal"
    require(arrays["probas_test"].shape[1] == k, f"{place}/probas_test", arrays["probas_test"].shape, wanted)
    return Pair(dataset, model, **arrays)


def compare(path: Path | str, methods: Sequence[str] = ()) -> pd.DataFrame:
    """Return the test NLL after temperature scaling, ``auto`` and other calibrators, for each pair of a file.

    A floor of 1e-12 is added to probabilities. If some of a pair's probabilities are 0, its calibrators get a fitted
    floor instead.

    Parameters
    ----------
    path : path of an HDF5 file
    methods : sequence of str
        Names of further calibrators.

    Returns
    -------
    DataFrame
        One row per pair, with ``dataset``, ``model``, ``classes``, and the numbers of samples ``n_cal`` and ``n_test``.
        ``uncalibrated``, ``exact`` (the optimal temperature), ``auto`` and a column per method are test NLLs in nats,
        NaN without a finite fit. ``T`` is the optimal temperature, NaN if there is none, and ``chosen`` is the
        calibrator that ``auto`` chose. ``note`` says if the calibration set is separable, so that no temperature is
        optimal. Otherwise, it says if the temperature of the paper's code leaves the NLL on this set more than 0.001
        nats above the lowest.

    Raises
    ------
    SpecError
        As in `read`, or if there is no method of a given name.
    MissingExtraError
        If h5py or a method's library isn't installed.
    """
    rows = []
    for pair in read(path):
        log.info("%s/%s", pair.dataset, pair.model)
        rows.append(_compared(pair, methods))
    return pd.DataFrame(rows)


def _compared(pair: Pair, methods: Sequence[str]) -> dict[str, Any]:
    """Return one row of `compare`."""
    labels, k = pair.labels_cal, pair.probas_cal.shape[1]
    zeros = any((each == 0).any() for each in (pair.probas_cal, pair.probas_test))
    floor = fit_floor(pair.probas_cal, labels) if zeros else USUAL_FLOOR
    logits, test = (floored(each, floor) for each in (pair.probas_cal, pair.probas_test))

    def score(fitted: Savable) -> float:
        try:
            return _nll(fitted.logits(test), pair.labels_test)
        except SpecError:  # it has no finite fit
            return math.nan

    exact, auto = fit_temperature(logits, labels), fit_auto(logits, labels)
    row: dict[str, Any] = {"dataset": pair.dataset, "model": pair.model, "classes": k, "n_cal": len(labels)}
    row |= {
        "n_test": len(pair.labels_test),
        "uncalibrated": _nll(floored(pair.probas_test, USUAL_FLOOR), pair.labels_test),
    }
    row |= {"exact": score(exact), "auto": score(auto)}
    row |= {method: score(fit_by_name(method, logits, labels)) for method in methods}
    return row | {"T": exact.T, "chosen": auto.chosen, "note": _note(logits, labels, exact)}


def _nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(cross_entropy(logits, labels).mean())


def _note(logits: np.ndarray, labels: np.ndarray, exact: TemperatureFit) -> str:
    """Return a note if no temperature is optimal, or if the paper's code stops at a higher NLL; otherwise, ""."""
    if exact.separable:
        return "separable: no temperature is optimal"
    early = fit_paper(logits, labels)
    above = _nll(logits * early.beta, labels) - exact.nll if math.isfinite(early.beta) else math.inf
    return f"the paper's code stops {above:.3f} nats above" if above > ELSEWHERE else ""
