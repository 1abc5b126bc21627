"""Fit post-hoc calibrators other than temperature scaling (TS) to validation logits and labels in float64.

`fit` runs one of the files in `halobench.calibration.calibrators`, a class of probmetrics or netcal, or any
``module:object``. Calibrators share the functions below `fit` in this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.calibration.arrays import blocks, check_labels, check_logits
from halobench.calibration.scores.sample_scores import cross_entropy, logarithm, softmax
from halobench.core import plugins
from halobench.core.errors import Found, RefusedError, SpecError, refuse, require, shown

GRADIENT = 1e-7  # the largest gradient of the objective at which a fit counts as converged
Map = Callable[[np.ndarray], np.ndarray]


class LibraryError(RefusedError):
    """Raised if a calibrator of another library fails on logits that it wasn't fitted to; its sentence says why."""


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibrator and the diagnostics of its fit.

    Attributes
    ----------
    transform : callable, or None if the fit failed
        Maps logits (n, k) to calibrated logits (n, k), which are -inf where the probability is 0.
    nll : float
        Mean NLL in nats on the data used for fitting.
    gradient : float
        The largest entry of the objective's gradient, which is 0 at the optimum; NaN if unknown.
    converged : bool
    reason : str
        Why the fit failed, if it did. Scores of a failed fit are empty.
    T, beta : float
        The temperature and its inverse, for calibrators that fit one; NaN for others.
    separable : bool
        True if no optimum is finite because the data are separable.
    """

    transform: Map | None
    nll: float
    gradient: float = math.nan
    converged: bool = True
    reason: str = ""
    T: float = math.nan
    beta: float = math.nan
    separable: bool = False

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits (n, k), float64, for logits (n, k); a probability of 0 has a logit of -inf.

        Raises SpecError if the logits are not finite or not (n, k), or if the fit failed.
        """
        if self.transform is None:
            raise RefusedError("this calibrator couldn't be fitted", self.reason)
        return self.transform(check_logits(logits))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, k), float64, for logits (n, k); raise the same errors as `logits`."""
        return softmax(self.logits(logits))


def fit(name: str, logits: np.ndarray, labels: np.ndarray, **options: Any) -> Calibrator:
    """Fit a calibrator by name.

    Parameters
    ----------
    name : str
        Either the name of a file in ``halobench/calibration/calibrators``, such as ``partner``; ``probmetrics/NAME`` or
        ``netcal/NAME``, where NAME is a class of that library; or ``module:object``.
    logits : (n, k) array
        Finite.
    labels : (n,) integers
        In [0, k).
    **options
        Keyword-only arguments of the plug-in's function, or arguments of the library's class.

    Returns
    -------
    Calibrator
        The fitted calibrator, byte-identical for the same data and versions. The package's own calibrators are finite
        even on separable data, for which TS has no optimum. If a library's fit raises an error, there is no transform,
        only a reason.

    Raises
    ------
    SpecError
        If the name, an option or an array is invalid; the calibrator's package isn't installed; or a plug-in raises an
        error or returns an invalid result.

    Examples
    --------
    Predictions with a logit of 1 against 0 are right three times out of four, so the best confidence is about 3/4:

    >>> z = np.array([[1.0, 0.0]] * 400)
    >>> fit("gap", z, np.tile([0, 0, 0, 1], 100)).probabilities(z)[0].round(2).tolist()
    [0.75, 0.25]
    """
    plugins.check_known("calibrators", "calibrator", name)
    plugins.check_installed([("calibrators", name)])
    options = plugins.find("calibrators", name).without_defaults(options)
    logits = check_logits(logits)
    return fit_checked(name, logits, check_labels(labels, logits.shape), options)


def fit_checked(name: str, logits: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]) -> Calibrator:
    """Fit a calibrator that is known to exist; the arrays must already have been checked."""
    logits, key = logits.astype(np.float64, copy=False), f"calibrators.{name}"
    plugin = plugins.find("calibrators", name)
    if plugin.library:
        return _fit_from_library(name, logits, labels, options)
    fit_plugin, packaged = plugin.load(), not plugin.is_outside  # the package's own don't modify their arguments
    with plugins.calling(key):
        fitted = fit_plugin(logits if packaged else logits.copy(), labels if packaged else labels.copy(), **options)
    if isinstance(fitted, Calibrator):
        if fitted.transform is None:
            return fitted
        return dataclasses.replace(fitted, transform=_guarded(fitted.transform, key, packaged))
    wanted = "return a function of logits or a halobench.calibration.calibrator.Calibrator"
    refuse(not callable(fitted), key, f"fit(logits, labels) returned {shown(fitted)}; it must {wanted}")
    return scored(_guarded(fitted, key), logits, labels)


def _fit_from_library(name: str, logits: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]) -> Calibrator:
    """Fit a library's calibrator to the model's probabilities, discarding its output."""
    library, _, class_name = name.partition("/")
    key = f"calibrators.{name}"
    fit_class = importlib.import_module(f"halobench.calibration.adaptors.{library}").fit

    def transform(z: np.ndarray) -> np.ndarray:
        try:
            return guarded(z)
        except SpecError as error:
            raise LibraryError(key, error.sentence if error.key == key else str(error)) from error

    try:
        with plugins.calling(key), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            calibrated = fit_class(class_name, softmax(logits), labels.astype(np.int64), options)
            guarded = _guarded(lambda z: logarithm(calibrated(softmax(z)).astype(np.float64)), key, packaged=True)
            return scored(transform, logits, labels)
    except SpecError as error:
        return Calibrator(None, math.nan, converged=False, reason=error.sentence if error.key == key else str(error))


def _guarded(transform: Map, key: str, packaged: bool = False) -> Map:
    """Wrap a plug-in's `transform` to protect its arguments, convert its errors and check its results."""

    def guarded(logits: np.ndarray) -> np.ndarray:
        with plugins.calling(key):
            calibrated = np.asarray(transform(logits.astype(np.float64, copy=not packaged)))
        fits = calibrated.shape == logits.shape
        require(
            fits, key, Found(f"calibrated logits of shape {calibrated.shape}"), f"the input's shape, {logits.shape}"
        )
        sums = len(calibrated) and calibrated.min() >= 0 and np.allclose(calibrated.sum(axis=1), 1, rtol=0, atol=1e-6)
        require(not sums, key, Found("rows that sum to 1"), "logits (the log of probabilities will do)")
        try:
            return check_logits(calibrated, masked=True)
        except SpecError as error:
            raise error.within(key) from None

    return guarded


def libraries(plugged: Iterable[tuple[str, str]]) -> list[str]:
    """List the Python packages, except numpy, that plug-ins (kind, name) use; a result depends on their versions."""
    return sorted({package for plugin in plugged for package in plugins.find(*plugin).constants.get("LIBRARIES", ())})


def scored(
    transform: Map,
    logits: np.ndarray,
    labels: np.ndarray,
    gradient: float = math.nan,
    converged: bool = True,
    elements: int | None = None,
) -> Calibrator:
    """Return a calibrator with this `transform` and its NLL on the data used for fitting.

    Rows are scored in blocks of `elements` logits, which saves memory but requires `transform` to map each row
    independently. If `elements` is None, all rows are scored at once.
    """
    parts = blocks(len(logits), logits.shape[1], elements or logits.size)
    nll = np.concatenate([cross_entropy(transform(logits[rows]), labels[rows]) for rows in parts])
    return Calibrator(transform, float(nll.mean()), gradient, converged)
