"""Diagnose a classifier's logits: is the temperature optimal, what would lower the NLL, and are there enough samples?

`diagnose` answers these questions from validation logits and labels, and from test logits if there are any. `diagnose`
combines the exact temperature (`halobench.calibration.calibrators.exact`), the choice of a calibrator by
cross-fitting (`halobench.calibration.calibrators.auto`), the repair ladder (`halobench.calibration.ladder`), the
confusions that partner scaling uses, and two tests of whether test logits look like validation logits.

With many classes, slow candidates are skipped as in `halobench.fit_auto`. The ladder skips a family of maps if the
number of samples times classes^2 exceeds the family's limit in `halobench.calibration.diagnosis.parts.WORK`. The
results name what was skipped.

References
----------
A. van der Vaart, "Asymptotic Statistics", 1998, chapter 5: the interval of a temperature (a sandwich estimator). S.
Rabanser, S. Günnemann, Z. Lipton, "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift", NeurIPS
2019: two-sample tests of a classifier's outputs, which detect many shifts.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halobench.calibration.arrays import as_rows, check_whole, unweighted, weighted, weights_of
from halobench.calibration.calibrator import fit_checked
from halobench.calibration.calibrators import auto
from halobench.calibration.calibrators.auto import DEPENDENT, NONE, TEMPERATURES, TS, AutoFit, Gain
from halobench.calibration.diagnosis.external_logits import Samples, as_sets, in_file, read_samples, read_sets
from halobench.calibration.diagnosis.parts import Diagram, Shift, Temperature, confusions, quick_ladder, unrelated
from halobench.calibration.diagnosis.result import Diagnosis
from halobench.calibration.floor import Floor, Floored, check_floor, floored
from halobench.calibration.ladder import RepairLadder, Rung
from halobench.calibration.logit_tables import aligned, check_names, named_columns, numbered, table_arrays
from halobench.calibration.repair.groups import Groups
from halobench.calibration.scores import metric, resampling
from halobench.calibration.scores.sample_scores import correctness, cross_entropy, mass_of, softmax
from halobench.calibration.temperature.rescaling import temper
from halobench.calibration.temperature.search import finite_beta
from halobench.core.errors import refuse
from halobench.core.seeding import generator

DRAWS = 1000  # bootstrap resamples
MOST_CLASSES, TABLES = 5000, 8  # the most classes, and the number of tables (k, k) of confusions in memory at once
MANY_CLASSES = (
    "{:,} classes, whose tables of confusions would take {:.0f} GB; diagnose at most 5,000 classes, or fit only a "
    "temperature (halobench.fit_temperature)"
)
FLOOR = "of probabilities, pass these themselves (val_probabilities, or probabilities=True), so that a floor is fitted"
log = logging.getLogger(__name__)
IN_FRAME = "can't be passed next to a data frame; put it into the data frame, as {}"


def diagnose(
    logits: Any,
    labels: Any = None,
    test_logits: Any = None,
    test_labels: Any = None,
    *,
    votes: Any = None,
    test_votes: Any = None,
    groups: Any = None,
    posterior: Any = None,
    names: Any = None,
    probabilities: bool = False,
    floor: float | None = None,
    candidates: Sequence[str] | None = None,
    calibrator: str | None = None,
    sample_weight: Any = None,
    seed: int = 0,
    independent: bool = False,
) -> Diagnosis:
    """Return a diagnosis of a classifier: its best temperature, what could lower its NLL, and how to calibrate it.

    Parameters
    ----------
    logits : (n, k) array
        Logits of validation samples, which the model wasn't trained on. Logits may be a tensor, a data frame, a list of
        rows or a column of rows. Without `labels` and `votes`, pass a data frame as described in
        `halobench.calibration.logit_tables`.
    labels : (n,) integers or str
        In [0, k), or names of classes. Without `names`, the columns of a data frame name the classes if these columns
        include all labels. Otherwise, all k names must occur, and classes are in alphabetical order.
    test_logits, test_labels : arrays, optional
        Logits and labels of the samples whose probabilities are wanted; labels may be omitted.
    votes, test_votes : (n, k) arrays, optional
        In place of labels: how many labels of each class a sample has, as in `fit_auto`.
    groups : (n,) numbers or names, optional
        Groups of validation samples that belong together, as in `fit_auto`. A data frame with labels has a column named
        group instead.
    posterior : (n, k) array, optional
        P(label | x) of the validation samples, if known. If the posterior is passed, the noise in the NLL is reported
        separately.
    names : list or array of str, optional
        Names of the classes, in the order of the columns.
    probabilities : bool
        Whether `logits` and `test_logits` contain probabilities, some of which may be 0. A single column contains the
        probabilities of the second of two classes.
    floor : float, optional
        The number in [0, 1) that is added to probabilities if some are 0; by default, the floor is fitted. With a floor
        of 0, classes with a probability of 0 are ruled out.
    candidates : sequence of str, optional
        As in `fit_auto`.
    calibrator : str, optional
        The calibrator to fit in place of the recommended one: ``none``, or a calibrator's name in configurations.
    sample_weight : (n,) array, optional
        Weights of validation samples, as in `fit_auto`. If weights above 0 differ, the repair ladder and the comparison
        with test samples are left out. Test samples have no weights.
    seed : int
        Determines folds and resamples.
    independent : bool
        Whether validation samples are known to be independent draws, as in `fit_auto`.

    Raises
    ------
    SpecError
        If an argument doesn't match its description above, if there are more than 5,000 classes, or if `calibrator`
        can't be fitted.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(400, 3))
    >>> diagnosis = diagnose(3 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), candidates=("partner",))
    >>> diagnosis.auto.chosen, round(diagnosis.temperature.exact.T)
    ('exact', 3)
    """
    if labels is None and votes is None:
        tests = {"test_logits": test_logits, "test_labels": test_labels, "test_votes": test_votes}
        val, test, classes = _from_frame(logits, {**tests, "posterior": posterior, "groups": groups})
        names = classes if names is None else names
    else:
        k = _classes(logits)
        if labels is not None:
            labels, names = numbered(labels, named_columns(logits, labels, names), k, "labels")
        if test_labels is not None:
            test_labels, _ = numbered(test_labels, names, k, "test_labels")
        kind = "probabilities" if probabilities else "logits"
        arrays = {kind: logits, "labels": labels, "groups": groups, "posterior": aligned(posterior, logits)}
        arrays |= {f"test_{kind}": aligned(test_logits, logits), "test_labels": test_labels}
        arrays |= {"votes": aligned(votes, logits), "test_votes": aligned(test_votes, logits)}
        val, test = _from_arrays({name: as_rows(value) for name, value in arrays.items() if value is not None}, kind)
    return _diagnose(_weighted(val, sample_weight), test, names, candidates, seed, floor, calibrator, independent)


def diagnose_file(
    path: Path | str,
    candidates: Sequence[str] | None = None,
    seed: int = 0,
    floor: float | None = None,
    calibrator: str | None = None,
    independent: bool = False,
) -> Diagnosis:
    """Return a diagnosis of a file of the form described in `halobench.calibration.diagnosis.external_logits`.

    If the file has a single set of samples, all are validation samples. The other arguments, and the errors raised, are
    those of `diagnose`.
    """
    val, test, names = read_sets(path)
    with in_file(path):
        return _diagnose(val, test, names, candidates, seed, floor, calibrator, independent)


def _from_frame(frame: Any, others: Mapping[str, Any]) -> tuple[Samples, Samples | None, tuple[str, ...] | None]:
    """Return the samples in a data frame and the names of its classes, after checking that all `others` are None."""
    refuse(
        not hasattr(frame, "columns"),
        "labels",
        "missing; pass labels, votes, or a data frame with a column named label",
    )
    columns = {"posterior": "columns posterior_NAME", "groups": "a column named group"}
    for name, value in others.items():
        refuse(value is not None, name, IN_FRAME.format(columns.get(name, "columns of rows with the split test")))
    arrays, classes = table_arrays(frame)
    return *as_sets(arrays), classes


def _from_arrays(arrays: Mapping[str, np.ndarray], kind: str) -> tuple[Samples, Samples | None]:
    """Return the samples in arrays named as in a file; test samples are read if there is an array ``test_{kind}``."""
    val, test = read_samples(arrays), None
    if f"test_{kind}" in arrays:
        test = read_samples(arrays, "test_", val["logits"].shape[1])
    for name in ("test_labels", "test_votes"):
        refuse(test is None and name in arrays, name, "passed without test_logits; pass both or neither")
    return val, test


def _classes(logits: Any) -> int:
    """Return the number of classes of logits: the number of columns, or two if there is a single column."""
    shape = np.shape(as_rows(logits))
    return max(shape[1], 2) if len(shape) == 2 else 2


def _diagnose(
    val: Samples,
    test: Samples | None,
    names: Any,
    candidates: Sequence[str] | None,
    seed: int,
    floor: float | None,
    calibrator: str | None = None,
    independent: bool = False,
) -> Diagnosis:
    """Check the names and candidates, and diagnose samples that have already been checked."""
    k = val["logits"].shape[1]
    check_names(names, k)
    refuse(k > MOST_CLASSES, "logits", MANY_CLASSES.format(k, k * k * 8 * TABLES / 1e9))
    check_whole("seed", seed, 0)
    check_floor(floor)
    tried = auto.default_candidates() if candidates is None else auto.check_candidates(candidates)
    if calibrator is not None and calibrator not in TEMPERATURES:
        auto.check_calibrator(calibrator)
        tried = (*tried, calibrator) if calibrator not in tried else tried
    none = any(samples is not None and _has_zeros(samples) for samples in (val, test))
    added = Floor.of(val["probabilities"], _targets(val), floor) if none and floor != 0 else None
    if added is not None:
        val, test = _floored(val, added), None if test is None else _floored(test, added)
    test = None if test is None else test | {"logits": np.ascontiguousarray(test["logits"], dtype=np.float64)}
    with np.errstate(all="ignore"), warnings.catch_warnings():  # results that aren't finite are shown as such
        warnings.simplefilter("ignore", RuntimeWarning)
        checked = _Validation.of(val, tuple(map(str, range(k) if names is None else names)), independent)
        found = _computed(checked, test, tried, seed, calibrator)
    found = dataclasses.replace(found, probabilities="probabilities" in val)
    return found if added is None else _with_floor(found, added)


def _weighted(samples: Samples, weights: Any) -> Samples:
    """Return the samples with a weight above 0; their targets times weights are ``weighted``, if weights differ."""
    targets = _targets(samples)
    kept, rows = weighted(targets, weights, samples["logits"].shape[1])
    if weights is None:
        return samples
    left = {name: array[kept] for name, array in samples.items()}
    left |= {"left_out": np.array(len(targets) - len(rows))}
    unequal = rows.ndim == 2 and (weights_of(rows) != 1).any()
    return left | {"weighted": rows} if unequal else left


def _targets(samples: Samples) -> np.ndarray:
    """Return labels (n,), or rows (n, k): shares of votes, or targets times weights."""
    return next(samples[kind] for kind in ("weighted", "shares", "labels") if kind in samples)


def _has_zeros(samples: Samples) -> bool:
    return "probabilities" in samples and bool((samples["probabilities"] == 0).any())


def _floored(samples: Samples, floor: Floor) -> Samples:
    """Return samples with the logits of their probabilities plus a floor."""
    rows = samples.get("probabilities")
    logits = floored(softmax(samples["logits"]) if rows is None else rows, floor.value, floor.scale)
    return samples | {"logits": logits, "uncalibrated": logits if floor.always else samples["logits"]}


def _with_floor(found: Diagnosis, floor: Floor) -> Diagnosis:
    """Return a diagnosis whose calibrator adds the floor to probabilities before calibrating them, if it must."""
    fitted, kept = found.auto.calibrator, found.auto.chosen == NONE and not floor.always
    assert fitted.transform is not None
    if not kept:
        fitted = dataclasses.replace(fitted, transform=Floored(floor.value, floor.scale, fitted.transform))
    added = dataclasses.replace(floor, added=not kept)
    return dataclasses.replace(found, floor=added, auto=dataclasses.replace(found.auto, calibrator=fitted))


@dataclass(frozen=True, eq=False)
class _Validation:
    """Checked validation samples: float64 logits (n, k), targets, and everything else that is known about the samples.

    Targets are labels (n,), or rows (n, k) of shares of votes, multiplied by any weights; `votes` (n,) counts votes.
    `uncalibrated` (n, k) are the logits without calibration, which may have no floor where `logits` have one.
    """

    logits: np.ndarray
    uncalibrated: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...]
    groups: Groups
    votes: np.ndarray | None
    posterior: np.ndarray | None
    left_out: int
    is_weighted: bool

    @classmethod
    def of(cls, samples: Samples, names: tuple[str, ...], independent: bool) -> _Validation:
        # A single memory layout makes the last digits of results independent of the layout of the input.
        logits, targets = np.ascontiguousarray(samples["logits"], dtype=np.float64), _targets(samples)
        given, known = samples.get("groups"), "groups" in samples or np.isfinite(logits).all()
        groups = auto.grouped(logits, targets, given, independent) if known else Groups.single(len(logits))
        votes, posterior = samples.get("votes"), samples.get("posterior")
        left_out = samples["left_out"].item() if "left_out" in samples else 0
        uncalibrated = np.asarray(samples.get("uncalibrated", logits), dtype=np.float64)
        return cls(logits, uncalibrated, targets, names, groups, votes, posterior, left_out, "weighted" in samples)

    @functools.cached_property
    def beta(self) -> float:
        return finite_beta(self.logits, self.targets)

    @property
    def mean_votes(self) -> float:
        return 0.0 if self.votes is None else float(self.votes.mean())

    def described(self) -> dict[str, Any]:
        """Return the fields of a diagnosis that describe its samples, and the confusions among them."""
        (n, k), plain, top = self.logits.shape, unweighted(self.targets), self.logits.argmax(axis=1)
        mass = mass_of(plain, k)
        counts = mass.sum(axis=0)
        beta = finite_beta(self.logits, plain) if self.is_weighted else self.beta
        return {
            "samples": n,
            "classes": k,
            "votes": self.mean_votes,
            "effective": auto.effective(self.groups.sums(weights_of(self.targets))) if self.is_weighted else 0.0,
            "left_out": self.left_out,
            "errors": float((1 - correctness(top, mass)).sum()),
            "names": self.names,
            "rarest": int(counts.min()),
            "unseen": tuple(np.flatnonzero(counts == 0).tolist()),
            "unrelated": unrelated(softmax(self.logits), mass),
            "confusions": confusions(softmax(temper(self.logits, beta)), top, mass),
        }


def _computed(val: _Validation, test: Samples | None, tried: Sequence[str], seed: int, forced: str | None) -> Diagnosis:
    """Diagnose validation samples, and test samples if there are any."""
    log.info("temperatures")
    temperature = Temperature.of(val.logits, val.targets, val.groups, val.mean_votes or None)
    temperature = dataclasses.replace(temperature, nll=float(cross_entropy(val.uncalibrated, val.targets).mean()))
    recommended = _choice(val, test, tried, seed)
    chosen = recommended if forced is None else _forced(recommended, forced, val)
    widths = [(gain.value, (gain.high - gain.low) / 2) for gain in chosen.candidates if not math.isnan(gain.value)]
    log.info("the repair ladder")
    # Neither the ladder nor the tests for a shift know groups, so they get one sample of each.
    one_each = val.groups.one_each(generator(seed, "diagnose", "groups"))
    ladder, no_ladder = _ladder(val, one_each, chosen, seed)
    shift, new_targets = None, None if test is None else test.get("shares", test.get("labels"))
    if test is not None and not val.is_weighted:
        tempered = temper(val.logits, val.beta)[one_each]
        shift = Shift.of(tempered, val.targets[one_each], temper(test["logits"], val.beta), new_targets)
    scores: tuple[dict[str, dict[str, Rung]], dict[str, Gain], dict[str, Gain]] = {}, {}, {}
    maps = {NONE: val.uncalibrated, chosen.chosen: chosen.calibrator.logits(val.logits, probabilities=False)}
    targets = None if val.is_weighted else val.targets
    if test is not None and new_targets is not None:
        log.info("test scores")
        maps, targets = _maps(val, test, temperature, chosen), new_targets
        scores = _scored(maps, targets, chosen, seed)
    rng, reliability = generator(seed, "diagnose", "reliability"), dict[str, Diagram]()
    if targets is not None:
        reliability = {
            name: Diagram.of(softmax(maps[name]), targets, rng) for name in dict.fromkeys((NONE, chosen.chosen))
        }
    return Diagnosis(
        **val.described(),
        temperature=temperature,
        auto=chosen,
        recommended=recommended.chosen,
        resolution=max(widths)[1] if widths else math.nan,
        ladder=ladder,
        no_ladder=no_ladder,
        test_samples=0 if test is None else len(test["logits"]),
        shift=shift,
        scores=scores[0],
        test_gains=scores[1],
        better=scores[2],
        reliability=reliability,
    )


def _choice(val: _Validation, test: Samples | None, tried: Sequence[str], seed: int) -> AutoFit:
    """Choose a calibrator by cross-fitting, or a temperature if a logit is -inf."""
    reason = "" if np.isfinite(val.logits).all() else "logits of -inf (probabilities of 0)"
    if not reason and test is not None and not (finite := np.isfinite(test["logits"]).all(axis=1)).all():
        reason = f"test row {finite.argmin()} has a logit of -inf (a probability of 0)"
    if reason:
        why = f"{reason}, which richer calibrators can't map; {FLOOR}"
        return auto.kept(val.logits, val.targets, tried, why, val.groups, val.votes)
    return auto.fit_auto_checked(
        val.logits, val.targets, tried, seed, val.groups, val.names, val.votes, val.uncalibrated
    )


def _forced(recommended: AutoFit, name: str, val: _Validation) -> AutoFit:
    """Return the results with another calibrator, which is fitted to all samples, in place of the recommended one.

    The gain of this calibrator isn't reduced, since the calibrator wasn't chosen for its gain.
    """
    if name == recommended.chosen:
        return recommended
    if name == NONE:
        fitted = auto.uncalibrated(val.logits, val.targets)
    else:
        fitted = fit_checked(name, val.logits, val.targets, {})
        no_best = "the labels always have the largest logit, so that no temperature is best"
        reason = fitted.reason or (no_best if fitted.separable else "its fit isn't finite")
        refuse(fitted.transform is None, "calibrator", f"{name} can't be fitted: {reason}")
    gain = next((gain for gain in recommended.candidates if gain.name == name), Gain(name))
    return dataclasses.replace(recommended, chosen=name, gain=gain, calibrator=fitted)


def _ladder(val: _Validation, rows: np.ndarray, chosen: AutoFit, seed: int) -> tuple[RepairLadder | None, str]:
    """Return the repair ladder of independent rows, or None and the reason why there is no ladder."""
    unequal = "its parts are those of unweighted samples" if val.is_weighted else ""
    if why := chosen.reason if chosen.mismatch else DEPENDENT.get(val.groups.kind, unequal):
        return None, why
    known = val.targets if val.posterior is None else val.posterior
    return quick_ladder(val.logits[rows], known[rows], seed, val.votes is not None)


def _maps(val: _Validation, test: Samples, temperature: Temperature, chosen: AutoFit) -> dict[str, np.ndarray]:
    """Return the test logits after each calibrator that `Diagnosis.scores` lists, by the calibrators' names."""
    new = test["logits"]
    maps = {NONE: np.asarray(test.get("uncalibrated", new), dtype=np.float64)}
    if temperature.others["paper"].beta > 0:
        maps["paper"] = temper(new, temperature.others["paper"].beta)
    maps[TS] = temper(new, val.beta)
    if 0 < chosen.temperature.weight < 1:
        maps[auto.SHRUNK] = temper(new, chosen.temperature.beta)
    for name in [gain.name for gain in chosen.candidates if not math.isnan(gain.value)]:
        fitted = chosen.calibrator if name == chosen.chosen else fit_checked(name, val.logits, val.targets, {})
        if fitted.transform is not None:
            maps[name] = fitted.logits(new, probabilities=False)
    if chosen.chosen not in maps:
        maps[chosen.chosen] = chosen.calibrator.logits(new, probabilities=False)
    return maps


def _scored(
    maps: dict[str, np.ndarray], targets: np.ndarray, chosen: AutoFit, seed: int
) -> tuple[dict[str, dict[str, Rung]], dict[str, Gain], dict[str, Gain]]:
    """Return test scores by calibrator and metric, gains over no calibration, and gains over the chosen calibrator.

    Gains are left out if they aren't finite.
    """
    probabilities = {name: softmax(mapped) for name, mapped in maps.items()}
    mass = mass_of(targets, maps[NONE].shape[1])
    losses = {name: cross_entropy(mapped, targets) for name, mapped in maps.items()}
    columns: dict[tuple[str, str], np.ndarray] = {}
    for name, p in probabilities.items():
        columns |= {(name, "nll"): losses[name], (name, "error"): 1 - correctness(p.argmax(axis=1), targets)}
        columns[name, "brier"] = 1 + (p**2).sum(axis=1) - 2 * (p * mass).sum(axis=1)
        for base in (NONE, chosen.chosen):
            gains = losses[base] - losses[name]
            if name != base and np.isfinite(gains).all():
                columns[name, base] = gains
    values = np.column_stack(list(columns.values()))
    low, high = resampling.bootstrap_intervals(values, DRAWS, generator(seed, "diagnose", "bootstrap"))
    ends = dict(zip(columns, np.column_stack([values.mean(axis=0), low, high]).tolist(), strict=True))
    scores = {}
    for name, p in probabilities.items():
        scores[name] = {key: Rung(*ends[name, key]) for key in ("nll", "error", "brier")}
        scores[name]["ece"] = Rung(metric.ece(p, targets), math.nan, math.nan)
    over_none, over_chosen = (
        {name: Gain(name, *each) for (name, key), each in ends.items() if key == base} for base in (NONE, chosen.chosen)
    )
    return scores, over_none, over_chosen
