"""Checks of plug-ins, for their authors' own tests; each raises AssertionError, which says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from halobench.core import plugins
from halobench.core.errors import SpecError

__all__ = ["check_metric"]


# --- Metrics ---------------------------------------------------------------------------------------------------------


def check_metric(name: str, **options: Any) -> None:
    """Check a metric by its name or ``module:object``.

    Its constants have the right types. It takes what exists, and returns a number, or one per sample, also for a single
    sample and for two classes. It leaves its arguments alone and gives the same value again. The order of samples
    doesn't matter, labels count as posteriors without doubt, and right predictions score no worse than wrong ones.

    Parameters
    ----------
    name : str
    **options
        The metric's options.

    Examples
    --------
    >>> check_metric("ece", bins=10)
    """
    from halobench.calibration.metric import Metric, by_kind

    for constant, kind in (("TITLE", str), ("ABOUT", str), ("UNIT", str), ("SOURCE", str), ("LOWER_IS_BETTER", bool)):
        fact = plugins.constant("metrics", name, constant)
        assert fact is None or isinstance(fact, kind), f"{constant} of {name} is {fact!r}, not a {kind.__name__}"
    try:
        metric = Metric(name, plugins.without_defaults("metrics", name, options))
        takes = metric.takes
    except SpecError as error:
        raise AssertionError(str(error)) from None

    def value(logits: np.ndarray, targets: np.ndarray) -> float:
        given = _predictions(logits, targets) | by_kind(targets)
        kept = {key: array.copy() for key, array in given.items()}
        try:
            values = metric.compute(given)
        except SpecError as error:
            raise AssertionError(str(error)) from None
        changed = [key for key in given if not np.array_equal(given[key], kept[key])]
        assert not changed, f"{name} changes its argument {', '.join(changed)}"
        return float(np.mean(values))

    rng = np.random.default_rng(0)
    for n, k in ((60, 4), (60, 2), (1, 3)):
        logits, labels = 2 * rng.normal(size=(n, k)), rng.integers(k, size=n)
        logits[::7] = logits[0]  # the order of samples mustn't matter among equal predictions either
        rows = {True: np.eye(k)[labels], False: labels}["posterior" in takes]
        _check_values(value, name, logits, rows, rng.permutation(n))
        if not {"labels", "posterior"} & set(takes):
            same = np.isclose(value(logits, labels), value(logits, np.eye(k)[labels]), atol=1e-9)
            assert same, f"{name} differs between labels and rows with all mass on them"
    _check_direction(value, name, rows=np.eye(3)[np.arange(30) % 3], one_hot="posterior" in takes)


def _predictions(logits: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return all that a metric may take of predictions."""
    from halobench.calibration import sample_scores

    probabilities = sample_scores.softmax(logits)
    predicted, confidence = sample_scores.predictions(probabilities)
    correct = sample_scores.correctness(predicted, targets)
    return {"logits": logits, "probabilities": probabilities, "confidence": confidence, "correct": correct}


def _check_values(
    value: Callable[[np.ndarray, np.ndarray], float],
    name: str,
    logits: np.ndarray,
    targets: np.ndarray,
    order: np.ndarray,
) -> None:
    first = value(logits, targets)
    assert np.isfinite(first), f"{name} is {first} for finite logits"
    assert value(logits, targets) == first, f"{name} gives another value the second time"
    close = np.isclose(value(logits[order], targets[order]), first, atol=1e-9)
    assert close, f"{name} depends on the order of samples"


def _check_direction(
    value: Callable[[np.ndarray, np.ndarray], float], name: str, rows: np.ndarray, one_hot: bool
) -> None:
    lower = plugins.constant("metrics", name, "LOWER_IS_BETTER")
    if lower is None:
        return
    targets = rows if one_hot else rows.argmax(axis=1)
    right, wrong = value(5 * rows, targets), value(5 * np.roll(rows, 1, axis=1), targets)
    assert (right <= wrong) if lower else (right >= wrong), f"{name} prefers wrong predictions (LOWER_IS_BETTER)"
