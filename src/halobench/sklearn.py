"""Calibrate in scikit-learn pipelines, with a transformer that returns logits and classifiers that calibrate them.

::

    from halobench.sklearn import Logits, TemperatureScaling

    model = make_pipeline(StandardScaler(), Logits(LinearSVC()), TemperatureScaling()).fit(x, y)
    model.predict_proba(x_test)

As in `sklearn.calibration.CalibratedClassifierCV` with ``ensemble=False``, the calibrator is fitted to the logits of
samples that the classifier wasn't trained on, while the final classifier is trained on all samples. Wrap a classifier
that is already trained as ``Logits(FrozenEstimator(classifier))``, and fit the pipeline to validation samples. Logits
from elsewhere, such as a torch model's, need no pipeline: ``TemperatureScaling().fit(logits, labels)``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_predict
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from halobench.calibration.arrays import as_array, as_probabilities, check_logits, two_columns, weighted
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrator import fit as fit_by_name
from halobench.calibration.calibrators.auto import fit_auto
from halobench.calibration.calibrators.exact import fit_temperature, scaling, tempered
from halobench.calibration.calibrators.partner import fit_partner
from halobench.calibration.floor import USUAL_FLOOR, Floored, check_floor, fit_floor, floored
from halobench.calibration.scores.metric import softmax
from halobench.calibration.scores.sample_scores import logarithm
from halobench.calibration.temperature.search import fit_smoothed
from halobench.core.errors import Found, require
from halobench.core.formatting import count

__all__ = ["AutoCalibrator", "Logits", "PartnerScaling", "PostHoc", "TemperatureScaling"]


class Logits(ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Turn samples into a classifier's logits, one column per class.

    The logits are the output of ``decision_function``. If there is no such method, they are ``log(p + floor)``, where
    ``p`` is the output of ``predict_proba``. If a classifier of two classes returns a single column, a column of zeros
    is inserted before it. `fit` trains a clone of the classifier. `fit_transform`, which pipelines call, also returns
    cross-validated logits: each sample's logits come from a classifier that wasn't trained on it. As with
    scikit-learn's ``TargetEncoder``, these logits differ from those of `fit` followed by `transform`.

    Parameters
    ----------
    estimator : classifier
        Pass a trained classifier as ``FrozenEstimator(classifier)``, and fit to samples that it wasn't trained on. Its
        logits aren't cross-validated.
    cv : int, splitter or iterable, optional
        Passed to scikit-learn's ``cross_val_predict``; five stratified folds by default.
    floor : float, optional
        The number in (0, 1) to add to probabilities. By default, the floor is fitted together with a temperature if a
        cross-validated probability is 0 (`halobench.calibration.floor`), and is otherwise 1e-12.

    Attributes
    ----------
    estimator_ : classifier
        The trained classifier.
    classes_ : (k,) array
        The labels of the columns.
    floor_ : float
        The number added to probabilities; 0 for ``decision_function``.
    """

    def __init__(self, estimator: Any, cv: Any = None, floor: Any = None):
        self.estimator = estimator
        self.cv = cv
        self.floor = floor

    def fit(self, X: Any, y: Any) -> Self:
        """Train a clone of the classifier, and set `floor_`."""
        self._train(X, y)
        fitted = self._method == "predict_proba" and self.floor is None
        self._set_floor(self._held_out(X, y) if fitted else None, y)
        return self

    def _train(self, X: Any, y: Any) -> None:
        y = column_or_1d(y, warn=True)
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.estimator_.classes_
        _check_known(y, self.classes_)
        by_pair = len(self.classes_) > 2 and _scores_pairs(self.estimator_)
        require(not by_pair, "decision_function_shape", "ovo", "'ovr', which gives one logit per class")
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))

    def fit_transform(self, X: Any, y: Any) -> np.ndarray:
        """Train a clone of the classifier; return logits (n, k), each row by a classifier not trained on it."""
        self._train(X, y)
        values = self._held_out(X, y)
        self._set_floor(values, y)
        return self._of_classes(values)

    def _held_out(self, X: Any, y: Any) -> np.ndarray:
        """Return outputs for samples `X` by classifiers that weren't trained on them."""
        if isinstance(self.estimator, FrozenEstimator):
            return getattr(self.estimator_, self._method)(X)
        return cross_val_predict(self.estimator, X, column_or_1d(y), cv=self.cv, method=self._method)

    def _set_floor(self, probabilities: Any, y: Any) -> None:
        """Set the floor: the value passed, one fitted to probabilities (n, k) of which some are 0, or the default."""
        check_floor(self.floor)
        require(self.floor != 0, "floor", self.floor, "a number above 0, or None")
        self.floor_ = 0.0 if self._method == "decision_function" else self.floor or USUAL_FLOOR
        if (
            probabilities is not None
            and self._method == "predict_proba"
            and not self.floor
            and (probabilities == 0).any()
        ):
            places = {label: place for place, label in enumerate(self.classes_.tolist())}
            labels = np.array([places[label] for label in column_or_1d(y).tolist()])
            self.floor_ = fit_floor(np.asarray(probabilities), labels)

    def transform(self, X: Any) -> np.ndarray:
        """Return logits (n, k)."""
        check_is_fitted(self)
        return self._of_classes(getattr(self.estimator_, self._method)(X))

    def _of_classes(self, values: np.ndarray) -> np.ndarray:
        """Convert the output of the classifier's `predict_proba` or `decision_function` to logits (n, k)."""
        k = len(self.classes_)
        logits = floored(values, self.floor_) if self._method == "predict_proba" else two_columns(values, "logits")
        require(logits.shape[1] == k, self._method, Found(f"{logits.shape[1]} columns"), f"one per class, {k}")
        return logits

    @property
    def _method(self) -> str:
        return "decision_function" if hasattr(self.estimator, "decision_function") else "predict_proba"

    @property
    def _n_features_out(self) -> int:
        return len(self.classes_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = get_tags(self.estimator).input_tags.sparse
        return tags


def _scores_pairs(estimator: Any) -> bool:
    """Return whether a trained classifier's decision function has one column per pair of classes, as an SVC's can."""
    if hasattr(estimator, "steps"):
        return _scores_pairs(estimator.steps[-1][1])
    if hasattr(estimator, "best_estimator_"):
        return _scores_pairs(estimator.best_estimator_)
    return getattr(estimator, "decision_function_shape", None) == "ovo"


def _check_known(y: np.ndarray, classes: np.ndarray) -> None:
    """Raise SpecError if a label isn't among the classes."""
    known = set(classes.tolist())
    unknown = [label for label in np.unique(y).tolist() if label not in known]
    require(not unknown, "y", unknown[0] if unknown else y, f"only labels among the classes, {classes.tolist()}")


class _Scaling(ClassifierMixin, BaseEstimator):
    """A map of logits to probabilities. Subclasses define `_fit`, `_map`, and `_predict` for checked logits."""

    def __init__(self, classes: Any = None):
        self.classes = classes

    def _fitted(self, X: Any, y: Any, **options: Any) -> Self:
        """Check logits and labels, fit to them, and return the classifier."""
        logits = self._logits(X, reset=True)
        y = column_or_1d(as_array(y), warn=True)
        check_classification_targets(y)
        self.classes_ = self._classes_of(y, logits.shape[1])
        _check_known(y, self.classes_)
        places = {label: place for place, label in enumerate(self.classes_.tolist())}
        self._fit(logits, np.array([places[label] for label in y.tolist()]), **options)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities (n, k) for inputs in the form that `fit` takes."""
        check_is_fitted(self)
        return self._predict(self._logits(X, reset=False))

    def logits(self, X: Any) -> np.ndarray:
        """Return calibrated logits (n, k), float64, for inputs in the form that `fit` takes."""
        return self.calibrator_.logits(self._logits(X, reset=False))

    @property
    def calibrator_(self) -> Calibrator:
        """Return the fitted map as a `halobench.Calibrator`, with the labels of the columns as names."""
        check_is_fitted(self)
        return dataclasses.replace(self._map(), classes=len(self.classes_), names=tuple(map(str, self.classes_)))

    def save(self, path: Path | str) -> None:
        """Write `calibrator_` to an .npz file, without pickle; `halobench.Calibrator.load` opens it."""
        self.calibrator_.save(path)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely labels (n,)."""
        places = self.predict_proba(X).argmax(axis=1)
        return self.classes_[places]

    def _logits(self, X: Any, reset: bool) -> np.ndarray:
        """Check logits, and return them as an array (n, k)."""
        if hasattr(X, "detach") or np.ma.isMaskedArray(X):
            X = as_array(X)
        if getattr(X, "ndim", 2) == 1 and (reset or self.n_features_in_ == 1):
            X = np.asarray(X)[:, None]
        checked = validate_data(self, X, reset=reset, dtype=(np.float64, np.float32), ensure_all_finite=False)
        return check_logits(self._as_logits(checked), masked=True)

    def _as_logits(self, checked: np.ndarray) -> np.ndarray:
        """Convert checked samples to logits (n, k)."""
        return two_columns(checked, "logits")

    def _classes_of(self, y: np.ndarray, k: int) -> np.ndarray:
        """Return the labels of the columns."""
        if self.classes is not None:
            classes = np.asarray(self.classes)
            require(classes.shape == (k,), "classes", Found(f"{classes.size} labels"), f"{k}, one per column of logits")
            return classes
        seen = np.unique(y)
        # Whole numbers below k suggest 0, ..., k - 1, but could also be some of the labels 0, 2, 4, ... or 1, 2, 3, ...
        what = f"{k}, one per column of logits; if a class is absent, pass all labels as the argument classes"
        require(len(seen) == k, "y", Found(f"labels of {count(len(seen), 'class', 'classes')}"), what)
        return seen


class TemperatureScaling(_Scaling):
    """Temperature scaling with a temperature that is proved optimal, unless the samples are separable.

    Parameters
    ----------
    classes : (k,) array, optional
        The labels of the columns of logits; needed if a class is missing from the samples used for fitting.

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : TemperatureFit
        The optimum and its certificate, as returned by `halobench.fit_temperature`.
    temperature_ : float
        The optimal temperature. Separable samples have no optimum; the optimum for labels smoothed by 1 / (n + 1) is
        used instead.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to validation logits (n, k), or (n,) for the second of two classes, with labels and any weights (n,)."""
        return self._fitted(X, y, sample_weight=sample_weight)

    def _fit(self, logits: np.ndarray, labels: np.ndarray, sample_weight: Any = None) -> None:
        self.fit_ = fit_temperature(logits, labels, sample_weight=sample_weight)
        kept, targets = weighted(labels, sample_weight, logits.shape[1])
        self._beta = fit_smoothed(logits[kept], targets) if self.fit_.separable else self.fit_.beta
        self.temperature_ = 1 / self._beta if self._beta else np.inf

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return softmax(tempered(logits, self._beta))

    def _map(self) -> Calibrator:
        fit = dataclasses.replace(self.fit_, T=self.temperature_, beta=self._beta)
        return dataclasses.replace(scaling(fit), name="exact")


class PartnerScaling(_Scaling):
    """Partner scaling: temperature scaling combined with counts of which classes are mistaken for which.

    Parameters
    ----------
    classes : (k,) array, optional
        As for `TemperatureScaling`.

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : PartnerFit
        The fit, as returned by `halobench.fit_partner`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to validation logits (n, k), or (n,) for the second of two classes, with labels and any weights (n,)."""
        return self._fitted(X, y, sample_weight=sample_weight)

    def _fit(self, logits: np.ndarray, labels: np.ndarray, sample_weight: Any = None) -> None:
        self.fit_ = fit_partner(logits, labels, sample_weight=sample_weight)

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return self.fit_.predict_proba(logits)

    def _map(self) -> Calibrator:
        return self.fit_.calibrator


class PostHoc(_Scaling):
    """Any calibrator, by its name in configurations, such as ``matrix`` or ``probmetrics/SMSCalibrator``.

    Parameters
    ----------
    calibrator : str
    options : dict, optional
        The calibrator's options.
    classes : (k,) array, optional
        As for `TemperatureScaling`.
    probabilities : bool
        Whether samples are probabilities rather than logits. A floor, `floor_`, is added to probabilities: 1e-12 or, if
        some of those in `fit` are 0, a fitted floor (`halobench.calibration.floor`).

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : Calibrator
    floor_ : float
        The number added to probabilities; 0 if samples are logits.
    """

    def __init__(
        self, calibrator: str = "partner", options: Any = None, classes: Any = None, probabilities: bool = False
    ):
        super().__init__(classes)
        self.calibrator = calibrator
        self.options = options
        self.probabilities = probabilities

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to validation logits or probabilities (n, k), or (n,) for the second of two classes, with labels."""
        return self._fitted(X, y)

    def _fit(self, logits: np.ndarray, labels: np.ndarray) -> None:
        options, self.floor_ = self.options or {}, 0.0
        if not self.probabilities:
            self.fit_ = fit_by_name(self.calibrator, logits, labels, **options)
            return
        p = softmax(logits)
        self.floor_ = fit_floor(p, labels) if (p == 0).any() else USUAL_FLOOR
        fitted = fit_by_name(self.calibrator, floored(p, self.floor_), labels, **options)
        mapped = None if fitted.transform is None else Floored(self.floor_, 1.0, fitted.transform)
        self.fit_ = dataclasses.replace(fitted, transform=mapped)

    def _as_logits(self, checked: np.ndarray) -> np.ndarray:
        return logarithm(as_probabilities(checked, "X")) if self.probabilities else super()._as_logits(checked)

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return self.fit_.predict_proba(logits, probabilities=False)

    def _map(self) -> Calibrator:
        return self.fit_


class AutoCalibrator(_Scaling):
    """The calibrator that cross-fitting chooses, or a temperature shrunk towards 1 if no candidate clearly gains.

    Parameters
    ----------
    classes : (k,) array, optional
        As for `TemperatureScaling`.
    candidates : sequence of str, optional
        As for `halobench.fit_auto`, whose default depends on what is installed.

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : AutoFit
        The choice and its gain, as returned by `halobench.fit_auto`.
    """

    def __init__(self, classes: Any = None, candidates: Any = None):
        super().__init__(classes)
        self.candidates = candidates

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit to what `TemperatureScaling.fit` takes; `groups` (n,) are equal for samples that belong together."""
        return self._fitted(X, y, groups=groups, sample_weight=sample_weight)

    def _fit(self, logits: np.ndarray, labels: np.ndarray, **options: Any) -> None:
        self.fit_ = fit_auto(logits, labels, candidates=self.candidates, **options)

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return self.fit_.predict_proba(logits)

    def _map(self) -> Calibrator:
        return self.fit_.calibrator
