"""Diagnose a classifier's logits: is its temperature optimal, what would repair the rest, and are there enough data?

`diagnose` answers from validation logits and labels, and from test logits if there are any. It combines the exact
temperature (`halobench.calibration.temperature_scaling`), the choice of a calibrator by cross-fitting
(`halobench.calibration.auto`), the repair ladder (`halobench.calibration.repair`), the confusions that partner scaling
uses, and two tests of whether test logits look like validation logits.

References
----------
A. van der Vaart, "Asymptotic Statistics", 1998, chapter 5: the interval of a temperature (a sandwich estimator). S.
Rabanser, S. Günnemann, Z. Lipton, "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift", NeurIPS
2019: two-sample tests of a classifier's outputs, which detect many shifts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halobench.calibration import auto, metric, resampling
from halobench.calibration.arrays import as_rows, check_whole
from halobench.calibration.auto import NORMAL, TS, AutoFit, Gain
from halobench.calibration.diagnosis import LADDER_MOST, Confusion, Diagnosis, Shift, Temperature
from halobench.calibration.external_logits import Samples, as_sets, read_samples, read_sets, table_arrays
from halobench.calibration.paper_fit import fit_as_paper
from halobench.calibration.repair import RepairLadder, Rung, ladder
from halobench.calibration.rescaling import rescale, temper
from halobench.calibration.sample_scores import cross_entropy, predictions, softmax
from halobench.calibration.temperature_scaling import fit_exactly, fit_smoothed
from halobench.core.errors import SpecError, naming, require
from halobench.core.seeding import generator

PAIRS = 5  # the number of confusions that are listed
DRAWS = 1000  # bootstrap resamples
POINTS = 40  # of the curve of the NLL
WIDEST = 64  # times the optimal temperature, or its inverse: others that are further away are left out of the curve
EXPECTED = 5  # the smallest expected count of a class in the test of class counts; rarer ones are counted together

# The fit of gpleiss/temperature_scaling, from which many others were copied: the start of T, and LBFGS's iterations.
COPIED = 1.5, 50


def diagnose(
    logits: Any,
    labels: Any = None,
    test_logits: Any = None,
    test_labels: Any = None,
    *,
    posterior: Any = None,
    names: Any = None,
    candidates: Sequence[str] | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Say if the temperature of a classifier is optimal, what could repair the rest, and which calibrator to use.

    Parameters
    ----------
    logits : (n, k) array
        Of validation samples, which the model wasn't trained on. A tensor, a data frame, a list of rows or a column of
        rows will do; or, without `labels`, a data frame with the columns that
        `halobench.calibration.external_logits` describes.
    labels : (n,) integers
        In [0, k).
    test_logits, test_labels : arrays, optional
        Of samples for which probabilities are wanted. Labels aren't needed.
    posterior : (n, k) array, optional
        P(label | x) of the validation samples if it is known. The part of the NLL that is noise is then shown apart.
    names : list or array of str, optional
        Names of the classes.
    candidates : sequence of str, optional
        As for `fit_auto`.
    seed : int
        Used for folds and resamples.

    Returns
    -------
    Diagnosis

    Raises
    ------
    SpecError
        If an argument isn't as described above.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(400, 3))
    >>> diagnosis = diagnose(3 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1), candidates=("partner",))
    >>> diagnosis.auto.chosen, round(diagnosis.temperature.exact.T)
    ('exact', 3)
    """
    if labels is None:
        require(hasattr(logits, "columns"), "labels", None, "labels, or a data frame with a column label")
        for name, value in {"test_logits": test_logits, "test_labels": test_labels, "posterior": posterior}.items():
            require(value is None, name, "alongside a data frame", "rows of the data frame, with the split test")
        val, test, found = as_sets(*table_arrays(logits))
        return _diagnose(val, test, found if names is None else names, candidates, seed)
    test_logits, posterior = _aligned(test_logits, logits), _aligned(posterior, logits)
    given = {"logits": logits, "labels": labels, "posterior": posterior}
    val = read_samples({key: as_rows(value) for key, value in given.items() if value is not None}, "")
    test = None
    if test_logits is not None:
        given = {"test_logits": test_logits, "test_labels": test_labels}
        test = read_samples({key: as_rows(value) for key, value in given.items() if value is not None}, "test_")
    require(test is not None or test_labels is None, "test_labels", "without test_logits", "test_logits too")
    return _diagnose(val, test, names, candidates, seed)


def _aligned(rows: Any, like: Any) -> Any:
    """Return a data frame with its columns in the order of another's if both have the same."""
    if not (hasattr(rows, "columns") and hasattr(like, "columns")):
        return rows
    wanted = list(like.columns)
    same = len(set(wanted)) == len(wanted) == len(rows.columns) and set(wanted) == set(rows.columns)
    return rows[wanted] if same else rows


def diagnose_file(path: Path | str, candidates: Sequence[str] | None = None, seed: int = 0) -> Diagnosis:
    """Diagnose the logits in an .npz, .csv or .parquet file, described in `halobench.calibration.external_logits`.

    All samples of a file with a single set are validation samples. Raises the same errors as `diagnose`.
    """
    val, test, names = read_sets(path)
    with naming(str(path)):
        return _diagnose(val, test, names, candidates, seed)


def _diagnose(val: Samples, test: Samples | None, names: Any, candidates: Sequence[str] | None, seed: int) -> Diagnosis:
    """Check what depends on several arguments, and compute the diagnosis."""
    # In one layout, so results have the same last digits however the rows came.
    logits = np.ascontiguousarray(val["logits"], dtype=np.float64)
    k = logits.shape[1]
    if test is not None:
        test = test | {"logits": np.ascontiguousarray(test["logits"], dtype=np.float64)}
        width = test["logits"].shape[1]
        require(width == k, "test_logits", f"{width} classes", f"{k} classes, as in the validation logits")
    listed = isinstance(names, list | tuple) or hasattr(names, "tolist")  # as arrays and pandas' indices have
    require(names is None or (listed and len(names) == k), "names", names, f"{k} names of classes, in a list")
    check_whole("seed", seed, 0)
    tried = auto.default_candidates() if candidates is None else auto.check_candidates(candidates)
    with np.errstate(all="ignore"), warnings.catch_warnings():  # what isn't finite is shown as such
        warnings.simplefilter("ignore", RuntimeWarning)
        return _computed(logits, val, test, names, tried, seed)


def _computed(
    logits: np.ndarray, val: Samples, test: Samples | None, names: Any, tried: Sequence[str], seed: int
) -> Diagnosis:
    """Compute the diagnosis of float64 logits (n, k); all arguments have been checked."""
    labels, (n, k) = val["labels"], logits.shape
    temperature = _temperature(logits, labels)
    beta = temperature.exact.beta if math.isfinite(temperature.exact.beta) else fit_smoothed(logits, labels)
    tempered = temper(logits, beta)
    ruled_out = np.empty(0, int) if test is None else np.flatnonzero(~np.isfinite(test["logits"]).all(axis=1))
    if not np.isfinite(logits).all():
        reason = "logits of -inf (probabilities of 0), which richer calibrators can't map"
        chosen = auto.kept(logits, labels, tried, reason)
    elif len(ruled_out):
        reason = f"test row {ruled_out[0]} has a logit of -inf (a probability of 0), which richer calibrators can't map"
        chosen = auto.kept(logits, labels, tried, reason)
    else:
        chosen = auto.fit_auto_checked(logits, labels, tried, seed)
    widths = [(each.value, (each.high - each.low) / 2) for each in chosen.candidates if not math.isnan(each.value)]
    repairs, no_ladder = _ladder(logits, val.get("posterior", labels), seed)
    scores, gain = _scores(temperature, beta, chosen, test, seed)
    return Diagnosis(
        samples=n,
        classes=k,
        errors=int((logits.argmax(axis=1) != labels).sum()),
        names=tuple(map(str, range(k) if names is None else names)),
        rarest=int(np.bincount(labels, minlength=k).min()),
        unseen=tuple(np.flatnonzero(np.bincount(labels, minlength=k) == 0).tolist()),
        temperature=temperature,
        auto=chosen,
        resolution=max(widths)[1] if widths else math.nan,
        ladder=repairs,
        no_ladder=no_ladder,
        confusions=_confusions(softmax(tempered), logits.argmax(axis=1), labels),
        test_samples=0 if test is None else len(test["logits"]),
        shift=None if test is None else _shift(tempered, labels, temper(test["logits"], beta), test.get("labels")),
        scores=scores,
        test_gain=gain,
    )


def _temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """Fit the temperature, exactly and as others do, and estimate its error."""
    exact = fit_exactly(logits, labels)
    others = {"paper": fit_as_paper(logits, labels), "copied": fit_as_paper(logits, labels, *COPIED)}
    low = high = cost = math.nan
    if 0 < exact.beta < math.inf:
        u = rescale(logits, exact.beta)
        p = softmax(u)
        u = np.where(p > 0, u, 0.0)
        mean = np.einsum("ij,ij->i", p, u)
        slopes = mean - u[np.arange(len(u)), labels]
        curvature = float((np.einsum("ij,ij,ij->i", p, u, u) - mean**2).sum())
        variance = float(slopes @ slopes) / curvature**2 if curvature > 0 else math.inf
        low, high = (exact.T * math.exp(sign * min(NORMAL * math.sqrt(variance), 700.0)) for sign in (-1, 1))
        cost = variance * curvature / (2 * len(u))
    nll = float(cross_entropy(logits, labels).mean())
    curve: tuple[tuple[float, float], ...] = ()
    if math.isfinite(exact.T) and math.isfinite(nll):
        shown = [1.0, exact.T, *(each.T for each in others.values() if 1 / WIDEST < each.T / exact.T < WIDEST)]
        grid = np.geomspace(min(shown) / 1.5, max(shown) * 1.5, POINTS)
        curve = tuple((float(T), float(cross_entropy(rescale(logits, 1 / T), labels).mean())) for T in grid)
    return Temperature(exact, low, high, cost, nll, others, curve)


def _ladder(logits: np.ndarray, targets: np.ndarray, seed: int) -> tuple[RepairLadder | None, str]:
    """Return the repair ladder of some samples, or the reason why there is none."""
    if not np.isfinite(logits).all():
        return None, "it needs finite logits"
    if targets.ndim == 1 and len(np.unique(targets)) < 2:
        return None, "there is only one label"
    if targets.ndim == 1 and fit_exactly(logits, targets).separable:
        return None, "every label has the largest logit of its sample"
    some = np.arange(len(logits))
    if len(logits) > LADDER_MOST:
        some = np.sort(generator(seed, "diagnose", "ladder").permutation(len(logits))[:LADDER_MOST])
    try:
        return ladder(logits[some], targets[some], seed=seed), ""
    except SpecError as error:
        return None, f"it needs {error.expected.partition(',')[0]}"


def _confusions(p: np.ndarray, top: np.ndarray, labels: np.ndarray) -> tuple[Confusion, ...]:
    """Return the most frequent confusions of a predicted class with a label; p (n, k) are TS's probabilities."""
    k = p.shape[1]
    counts, expected = np.zeros((k, k)), np.zeros((k, k))
    np.add.at(counts, (top, labels), 1)
    np.add.at(expected, top, p)
    sizes = counts.sum(axis=1)
    wrong = np.where(np.eye(k, dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    found = (divmod(int(index), k) for index in order)
    return tuple(
        Confusion(a, j, int(wrong[a, j]), int(sizes[a]), float(expected[a, j])) for a, j in found if wrong[a, j] > 0
    )


def _shift(val: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray | None) -> Shift:
    """Compare logits after TS by their confidences and predicted classes, and by their NLL if there are labels."""
    from scipy import stats

    sides = [predictions(softmax(side)) for side in (val, test)]
    k, confidences = val.shape[1], [confidence for _, confidence in sides]
    counts = np.stack([np.bincount(predicted, minlength=k) for predicted, _ in sides])
    shares = counts / counts.sum(axis=1, keepdims=True)
    changed = int(np.abs(shares[0] - shares[1]).argmax())
    rare = counts.sum(axis=0) * min(map(len, (val, test))) < EXPECTED * counts.sum()
    table = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    p_classes = float(stats.chi2_contingency(table).pvalue) if table.shape[1] > 1 else 1.0
    nll = None
    if test_labels is not None:
        losses = cross_entropy(val, labels), cross_entropy(test, test_labels)
        p_nll = math.nan
        if min(map(len, losses)) > 1 and all(np.isfinite(loss).all() for loss in losses):
            p_nll = float(stats.ttest_ind(*losses, equal_var=False).pvalue)
        nll = float(losses[0].mean()), float(losses[1].mean()), p_nll
    p_confidence = float(stats.ks_2samp(*confidences).pvalue)
    means = float(confidences[0].mean()), float(confidences[1].mean())
    of_class = float(shares[0, changed]), float(shares[1, changed])
    return Shift((*means, p_confidence), (*of_class, p_classes), changed, nll)


def _scores(
    temperature: Temperature, beta: float, chosen: AutoFit, test: Samples | None, seed: int
) -> tuple[dict[str, dict[str, Rung]], Gain | None]:
    """Return test scores by calibrator and metric, and the chosen calibrator's gain over TS."""
    if test is None or "labels" not in test:
        return {}, None
    logits, labels = test["logits"], test["labels"]
    maps = {"none": rescale(logits, 1.0), TS: temper(logits, beta)}
    if temperature.others["paper"].beta > 0:
        maps["paper"] = temper(logits, temperature.others["paper"].beta)
    if chosen.chosen != TS:
        maps[chosen.chosen] = chosen.calibrator.logits(logits)
    hot = np.eye(logits.shape[1])[labels]
    columns, probabilities = {}, {name: softmax(scores) for name, scores in maps.items()}
    for name, p in probabilities.items():
        wrong = (p.argmax(axis=1) != labels).astype(np.float64)
        columns[name] = (cross_entropy(maps[name], labels), wrong, ((p - hot) ** 2).sum(axis=1))
    values = np.stack([column for each in columns.values() for column in each], axis=1)
    gains = columns[TS][0] - columns[chosen.chosen][0]
    finite = np.isfinite(gains).all()
    values = np.column_stack([values, gains if finite else np.zeros(len(values))])
    low, high = resampling.bootstrap_intervals(values, DRAWS, generator(seed, "diagnose", "bootstrap"))
    rungs = [Rung(*map(float, each)) for each in zip(values.mean(axis=0), low, high, strict=True)]
    *scored, gain = rungs
    scores = {}
    for i, name in enumerate(columns):
        scores[name] = dict(zip(("nll", "error", "brier"), scored[3 * i : 3 * i + 3], strict=True))
        scores[name]["ece"] = Rung(metric.ece(probabilities[name], labels), math.nan, math.nan)
    return scores, Gain(chosen.chosen, gain.value, gain.low, gain.high) if finite else None
