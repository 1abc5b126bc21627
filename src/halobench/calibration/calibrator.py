"""Post-hoc calibrators other than temperature scaling (TS), fitted to validation logits and labels in float64.

`fit` runs one of the files in `halobench.calibration.calibrators`, or any ``module:object``; the functions below it are
shared by those files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.calibration import metrics
from halobench.calibration.arrays import blocks, check_labels, check_logits
from halobench.calibration.temperature_scaling import TemperatureFit
from halobench.core import plugins
from halobench.core.errors import SpecError, require

GRADIENT = 1e-7
"""The largest gradient of the objective at which a fit counts as converged."""

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Calibrator:
    """A fitted calibrator and the diagnostics of its fit.

    Attributes
    ----------
    transform : callable, or None if there is no finite optimum
        Maps logits (n, k) to calibrated logits (n, k), which are -inf where the probability is 0.
    nll : float
        Mean NLL on the data that it was fitted to, in nats.
    gradient : float
        How far the objective is from its optimum: the largest entry of the gradient or, for the ensemble, of the
        gradient along the simplex. The latter bounds how much lower the NLL could be. NaN for a closed-form fit.
    converged : bool
    separable : bool
        TS has no finite optimum on these data. Nor does any family that contains TS, unless a ridge provides one.
    T, beta : float
        NaN, because there is no temperature.
    """

    transform: Transform | None
    nll: float
    gradient: float = math.nan
    converged: bool = True
    separable: bool = False
    T: float = math.nan
    beta: float = math.nan

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated logits (n, k), float64, for logits (n, k); -inf for a probability of 0.

        Raises
        ------
        SpecError
            If logits are not finite or not (n, k), or if there is no finite optimum.
        """
        if self.transform is None:
            raise SpecError("calibrator", "separable data", "data on which the fit has a finite optimum")
        return self.transform(check_logits(logits))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, k), float64, for logits (n, k); raise the same errors as `logits`."""
        return metrics.softmax(self.logits(logits))


def fit(name: str, logits: np.ndarray, labels: np.ndarray, **options: Any) -> Calibrator:
    """Fit a calibrator by name.

    Parameters
    ----------
    name : str
        One of ``vector``, ``svs``, ``matrix``, ``matrix_cv``, ``dirichlet``, ``isotonic``, ``histogram``, ``ensemble``,
        ``ts_mix``, ``gap``, ``top_rest``, ``confusion_mix``, ``noise_layer``, ``partner``, ``local``; the name
        of another file in ``halobench/calibration/calibrators``; or ``module:object``.
    logits : (n, k) array
        Finite.
    labels : (n,) integers
        In [0, k). Missing classes get a probability of 0 from isotonic and histogram, and a small one from the others.
    **options
        Keyword-only arguments of the plug-in's function.

    Returns
    -------
    Calibrator
        Identical, byte for byte, for the same data and versions. On separable data, for which TS has no optimum, vector
        and ensemble have none either (``separable=True``, no transform), while the others do.

    Raises
    ------
    SpecError
        If the name, an option or an array is invalid, the calibrator's package isn't installed, or a plug-in raises an
        error or returns an invalid result.

    Examples
    --------
    Half of the samples have the label with the larger logit, so each class has a frequency of one half in each bin:

    >>> z = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> fit("histogram", z, np.array([0, 1, 0, 1])).probabilities(z)[0].tolist()
    [0.5, 0.5]
    """
    plugins.check_known("calibrators", "calibrator", name, ())
    plugins.check_installed([("calibrators", name)])
    options = plugins.without_defaults("calibrators", name, options)
    logits = check_logits(logits).astype(np.float64, copy=False)
    labels = check_labels(np.asarray(labels), logits.shape)
    key, fit_plugin = f"calibrators.{name}", plugins.load("calibrators", name)
    packaged = ":" not in name  # the package's own plug-ins don't modify the arrays they receive
    with plugins.calling(key):
        fitted = fit_plugin(logits if packaged else logits.copy(), labels if packaged else labels.copy(), **options)
    if isinstance(fitted, Calibrator):
        if fitted.transform is None:
            return fitted
        return dataclasses.replace(fitted, transform=_guarded(fitted.transform, key, packaged))
    expected = "fit(logits, labels) to return a function of logits, or a halobench.calibration.calibrator.Calibrator"
    require(callable(fitted), key, fitted, expected)
    return scored(_guarded(fitted, key), logits, labels)


def _guarded(transform: Transform, key: str, packaged: bool = False) -> Transform:
    """Wrap a plug-in's `transform` to guard its calls and check its results."""

    def guarded(logits: np.ndarray) -> np.ndarray:
        with plugins.calling(key):
            calibrated = np.asarray(transform(logits.astype(np.float64, copy=not packaged)))
        fits = calibrated.shape == logits.shape
        require(fits, key, f"calibrated logits of shape {calibrated.shape}", f"the input's shape, {logits.shape}")
        sums = len(calibrated) and calibrated.min() >= 0 and np.allclose(calibrated.sum(axis=1), 1, rtol=0, atol=1e-6)
        require(not sums, key, "rows that sum to 1", "logits (the log of probabilities will do)")
        try:
            return check_logits(calibrated, masked=True)
        except SpecError as error:
            raise error.within(key) from None

    return guarded


def libraries(calibrators: Iterable[str]) -> list[str]:
    """List the Python packages, except numpy, that these plug-ins fit with; their versions are part of a result."""
    listed = (plugins.constant("calibrators", name, "LIBRARIES") or () for name in calibrators)
    return sorted({package for packages in listed for package in packages})


def without_optimum(ts: TemperatureFit) -> Calibrator:
    """Return the calibrator for data on which TS has no finite optimum; its NLL is the limit."""
    return Calibrator(None, ts.nll, ts.gradient, converged=False, separable=True)


def scored(
    transform: Transform,
    logits: np.ndarray,
    labels: np.ndarray,
    gradient: float = math.nan,
    converged: bool = True,
    elements: int | None = None,
) -> Calibrator:
    """Return a calibrator with this `transform` and its NLL on the data that it was fitted to.

    Rows are scored in blocks of `elements` logits, which saves memory but requires `transform` to map each row
    independently. Without `elements`, all rows are scored at once.
    """
    parts = blocks(len(logits), logits.shape[1], elements or logits.size)
    nll = np.concatenate([metrics.nll_per_point(transform(logits[rows]), labels[rows]) for rows in parts])
    return Calibrator(transform, float(nll.mean()), gradient, converged)


def logarithm(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities, with -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(probabilities)
