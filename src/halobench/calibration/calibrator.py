"""Fit post-hoc calibrators to validation logits and labels in float64.

`fit` runs one of the files in `halobench.calibration.calibrators`, a class of probmetrics or netcal, or any
``module:object``. Most calibrators' maps are data classes of numbers and arrays, so that they can be saved, pickled
and copied. For any other map, the samples that it was fitted to are saved instead (`Refitted`), provided that the
plug-in is outside the package or sets ``REFITTED = True``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from halobench.calibration.arrays import (
    as_probabilities,
    blocks,
    check_labels,
    check_logits,
    check_unscaled,
    two_columns,
)
from halobench.calibration.logit_tables import rows_of
from halobench.calibration.saved import Savable, is_savable, savable
from halobench.calibration.scores.sample_scores import cross_entropy, logarithm, softmax
from halobench.core import plugins
from halobench.core.errors import Found, RefusedError, SpecError, refuse, require, shown
from halobench.core.plugins.facts import title

NONE = "none"  # the name of no calibration
GRADIENT = 1e-7  # the largest gradient of the objective at which a fit counts as converged
SAME = 1e-6  # nats: how far the NLL of a calibrator that is fitted again may be from the one that was saved
Map = Callable[[np.ndarray], np.ndarray]


class LibraryError(RefusedError):
    """Raised if a fitted calibrator of probmetrics or netcal fails to map logits; the message says why."""


@savable("calibrator")
@dataclass(frozen=True, eq=False)
class Calibrator(Savable):
    """A fitted calibrator and the diagnostics of its fit.

    Attributes
    ----------
    transform : callable, or None if the fit failed or no optimum is finite
        Maps logits (n, k) to calibrated logits (n, k), which are -inf where the probability is 0.
    nll : float
        Mean NLL in nats on the data used for fitting.
    gradient : float
        The objective's gradient at the fit, or a measure of its size; NaN if unknown.
    converged : bool
    reason : str
        Why the fit failed, if it did. Scores of a failed fit are NaN.
    T, beta : float
        The temperature and its inverse, for calibrators that only divide logits by a temperature; NaN for others.
    separable : bool
        For ``exact``, ``paper`` and ``oracle``, whether the data are separable, so that no finite beta is optimal;
        False for other calibrators.
    name : str
        The calibrator's name in configurations.
    options : mapping
        The options that differ from the defaults.
    classes, samples : int
        The numbers of classes and samples in the fit; 0 if unknown.
    names : tuple of str
        The names of the classes, in the order of the columns; empty if they are unknown.
    """

    transform: Map | None
    nll: float
    gradient: float = math.nan
    converged: bool = True
    reason: str = ""
    T: float = math.nan
    beta: float = math.nan
    separable: bool = False
    name: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: int = 0
    samples: int = 0
    names: tuple[str, ...] = ()

    @property
    def calibrator(self) -> Calibrator:
        """Return this object; every other kind of fit returns its calibrator here."""
        return self

    def logits(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return calibrated logits (n, k) as described in `halobench.calibration.saved.Savable.logits`."""
        if self.transform is None:
            sentence = "separable data have no optimal temperature" if self.separable else self.reason
            raise RefusedError("this calibrator couldn't be fitted", sentence)
        rows = rows_of(logits, self.names, bool(probabilities))
        if "probabilities" in rows:
            rows["logits"] = logarithm(as_probabilities(rows["probabilities"]))
        logits = rows["logits"] if self.classes != 2 else two_columns(rows["logits"], "logits")
        logits = check_logits(logits, masked=accepts_zeros(self.transform))
        check_classes(logits, self.classes)
        if probabilities is None and "probabilities" not in rows:
            check_unscaled(logits, advice="if they are probabilities, pass probabilities=True")
        return self.transform(logits)

    def fit(self, logits: np.ndarray, labels: np.ndarray) -> Calibrator:
        """Return the same calibrator, with the same options and names of classes, fitted to other samples."""
        if self.name == NONE:
            return self
        return dataclasses.replace(fit(self.name, logits, labels, **self.options), names=self.names)

    def described(self) -> str:
        """Say in a few words which calibrator this is, and how many samples and classes it was fitted to."""
        temperature = f" with T = {self.T:.4g}" if math.isfinite(self.T) else ""
        samples = f"fitted to {self.samples:,} sample{'s' * (self.samples != 1)} of {self.classes:,} classes"
        return f"{title('calibrators', self.name)}{temperature}, {samples}"

    def libraries(self) -> list[str]:
        """List the Python packages, except numpy, that determine the map."""
        return libraries([("calibrators", self.name)] if self.name not in ("", NONE) else [])


def accepts_zeros(transform: Map) -> bool:
    """Return whether a map takes logits of -inf."""
    inner = transform.transform if isinstance(transform, CheckedMap) else transform
    return bool(getattr(inner, "MASKED", False))


def check_classes(logits: np.ndarray, classes: int) -> None:
    """Raise SpecError if the number of columns of logits (n, k) differs from the fit's number of classes, if known."""
    k = logits.shape[1]
    require(not classes or k == classes, "logits", Found(f"{k} columns"), f"{classes}, one for each class in the fit")


def fit(name: str, logits: np.ndarray, labels: np.ndarray, **options: Any) -> Calibrator:
    """Return the calibrator `name`, fitted to logits and labels.

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
        The fitted calibrator. On the same machine, the same data and versions give the same bytes. The package's own
        calibrators except ``exact`` are finite even on separable data, for which TS has no optimum. If a library's fit
        raises an error, there is no transform, only a reason.

    Raises
    ------
    SpecError
        If the name, an option or an array is invalid; the calibrator's package isn't installed; or a plug-in raises an
        error or returns an invalid result.

    Examples
    --------
    Predictions with a logit of 1 against 0 are right three times out of four, so the best confidence is 3/4:

    >>> z = np.array([[1.0, 0.0]] * 400)
    >>> fit("exact", z, np.tile([0, 0, 0, 1], 100)).predict_proba(z)[0].round(2).tolist()
    [0.75, 0.25]
    """
    plugins.check_known("calibrators", "calibrator", name)
    plugins.check_installed([("calibrators", name)])
    options = plugins.find("calibrators", name).without_defaults(options)
    logits = check_logits(logits)
    return fit_checked(name, logits, check_labels(labels, logits.shape), options)


def fit_checked(name: str, logits: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]) -> Calibrator:
    """Return the calibrator `name`, which is known to exist, fitted to arrays that have already been checked.

    Labels may be shares of votes (n, k); SpecError is raised if the calibrator takes only labels.
    """
    fitted = _fit(name, logits, labels, options)
    transform = fitted.transform
    if transform is not None and _is_refitted(name) and not is_savable(transform):
        transform = Refitted(name, options, logits, labels, fitted.nll)
        transform.__dict__["transform"] = fitted.transform  # it needn't be fitted again in this process
    n, k = logits.shape
    return dataclasses.replace(fitted, transform=transform, name=name, options=options, classes=k, samples=n)


def takes_votes(name: str) -> bool:
    """Return whether a calibrator can be fitted to votes and weights, i.e. to rows of targets."""
    return bool(plugins.find("calibrators", name).constants.get("VOTES"))


def _is_refitted(name: str) -> bool:
    """Return whether a calibrator may be saved as the samples that it is fitted to."""
    plugin = plugins.find("calibrators", name)
    return plugin.is_outside or bool(plugin.constants.get("REFITTED"))


def _fit(name: str, logits: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]) -> Calibrator:
    """Fit a calibrator, whose map may be any function."""
    logits, key = logits.astype(np.float64, copy=False), f"calibrators.{name}"
    plugin = plugins.find("calibrators", name)
    if labels.ndim == 2 and not takes_votes(name):
        raise RefusedError(key, "takes labels only, without votes or weights")
    if plugin.library:
        return _fit_from_library(name, logits, labels, options)
    fit_plugin, packaged = plugin.load(), not plugin.is_outside  # the package's own don't modify their arguments
    with plugins.calling(key):
        fitted = fit_plugin(logits if packaged else logits.copy(), labels if packaged else labels.copy(), **options)
    if isinstance(fitted, Calibrator):
        if fitted.transform is None:
            return fitted
        return dataclasses.replace(fitted, transform=CheckedMap(fitted.transform, key, packaged))
    wanted = "return a function of logits or a halobench.calibration.calibrator.Calibrator"
    refuse(not callable(fitted), key, f"fit(logits, labels) returned {shown(fitted)}; it must {wanted}")
    return scored(CheckedMap(fitted, key), logits, labels)


def _fit_from_library(name: str, logits: np.ndarray, labels: np.ndarray, options: Mapping[str, Any]) -> Calibrator:
    """Fit a library's calibrator to the model's probabilities, discarding what the library prints."""
    library, _, class_name = name.partition("/")
    key = f"calibrators.{name}"
    fit_class = importlib.import_module(f"halobench.calibration.adaptors.{library}").fit

    def transform(z: np.ndarray) -> np.ndarray:
        try:
            return checked(z)
        except SpecError as error:
            raise LibraryError(key, error.sentence if error.key == key else str(error)) from error

    try:
        with plugins.calling(key), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            calibrated = fit_class(class_name, softmax(logits), labels.astype(np.int64), options)
            checked = CheckedMap(lambda z: logarithm(calibrated(softmax(z)).astype(np.float64)), key, packaged=True)
            return scored(transform, logits, labels)
    except SpecError as error:
        return Calibrator(None, math.nan, converged=False, reason=error.sentence if error.key == key else str(error))


@savable("checked")
@dataclass(frozen=True, eq=False)
class CheckedMap:
    """A plug-in's map `transform`, with checks of its results; unless `packaged`, the map gets copies of logits."""

    transform: Map
    key: str
    packaged: bool = False

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        key = self.key
        with plugins.calling(key):
            calibrated = np.asarray(self.transform(logits.astype(np.float64, copy=not self.packaged)))
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


@savable("refitted")
@dataclass(frozen=True, eq=False)
class Refitted:
    """The map of a calibrator whose parameters can't be saved, such as a library's calibrator or one made of trees.

    Saving, pickling or copying the map keeps the calibrator's name, options and data. The calibrator is fitted to these
    data again when the saved or copied map is first applied. With the same versions of its packages, the fit is the
    same. If the new fit's NLL differs from `nll` by more than `SAME`, applying the map raises SpecError.
    """

    name: str
    options: Mapping[str, Any]
    data: np.ndarray
    labels: np.ndarray
    nll: float

    @functools.cached_property
    def transform(self) -> Map:
        """Return the calibrator's map, fitted again to the saved data."""
        plugins.check_installed([("calibrators", self.name)])
        fitted = _fit(self.name, self.data, self.labels, self.options)
        packages = ", ".join(libraries([("calibrators", self.name)])) or "its packages"
        sentence = f"fitted again, its NLL is {fitted.nll:.6g}, not {self.nll:.6g} as saved; install the versions of "
        changed = fitted.transform is None or not math.isclose(fitted.nll, self.nll, rel_tol=0, abs_tol=SAME)
        refuse(changed, f"calibrators.{self.name}", f"{sentence}{packages} with which it was saved")
        assert fitted.transform is not None
        return fitted.transform

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Map logits (n, k) to calibrated logits (n, k)."""
        return self.transform(logits)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "transform"}


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
