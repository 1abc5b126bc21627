"""Calibration by the conventions of scikit-learn: a transformer and two classifiers to put into a pipeline.

::

    from halobench.sklearn import Logits, TemperatureScaling

    model = make_pipeline(StandardScaler(), Logits(LinearSVC()), TemperatureScaling()).fit(x, y)
    model.predict_proba(x_test)

As in `sklearn.calibration.CalibratedClassifierCV` with ``ensemble=False``, the calibrator is fitted to the logits of
samples that the classifier wasn't trained on, and the classifier is then trained on all. A classifier that has been
trained already goes in as ``Logits(FrozenEstimator(classifier))``, and the pipeline is then fitted to validation
samples. Logits from elsewhere, as a torch model's, need no pipeline: ``TemperatureScaling().fit(logits, labels)``.
"""

from __future__ import annotations

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

from halobench.calibration.arrays import as_array, check_logits
from halobench.calibration.auto import fit_auto
from halobench.calibration.metric import softmax
from halobench.calibration.partner_scaling import fit_partner
from halobench.calibration.temperature_scaling import fit_smoothed, fit_temperature, tempered
from halobench.core.errors import require

__all__ = ["AutoCalibrator", "Logits", "PartnerScaling", "TemperatureScaling"]

LEAST = 1e-12  # added to probabilities before their logarithm is taken, as scikit-learn does


class Logits(ClassNamePrefixFeaturesOutMixin, MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Turn samples into a classifier's logits, one column per class.

    The logits are what ``decision_function`` returns, with a column of 0 before that of two classes, or else the
    logarithm of ``predict_proba``. `fit` trains a clone of the classifier. `fit_transform`, which pipelines call, also
    returns logits of samples that the classifier wasn't trained on, by cross-validation, so that whatever comes next is
    fitted to honest ones; as with scikit-learn's ``TargetEncoder``, they differ from those of `fit` and `transform`.

    Parameters
    ----------
    estimator : classifier
        If it has been trained already, pass ``FrozenEstimator(classifier)`` and fit to other samples than it was
        trained on.
    cv : int, splitter or iterable, optional
        As for scikit-learn's ``cross_val_predict``; five stratified folds by default.

    Attributes
    ----------
    estimator_ : classifier
        The trained classifier.
    classes_ : (k,) array
        The labels of the columns.
    """

    def __init__(self, estimator: Any, cv: Any = None):
        self.estimator = estimator
        self.cv = cv

    def fit(self, X: Any, y: Any) -> Self:
        """Train a clone of the classifier."""
        self.estimator_ = clone(self.estimator).fit(X, column_or_1d(y, warn=True))
        self.classes_ = self.estimator_.classes_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def fit_transform(self, X: Any, y: Any) -> np.ndarray:
        """Train a clone of the classifier, and return cross-validated logits (n, k) of the same samples."""
        if isinstance(self.estimator, FrozenEstimator):
            return self.fit(X, y).transform(X)
        y = column_or_1d(y, warn=True)
        values = cross_val_predict(self.estimator, X, y, cv=self.cv, method=self._method)
        return _as_logits(values, self.fit(X, y)._method)

    def transform(self, X: Any) -> np.ndarray:
        """Return logits (n, k)."""
        check_is_fitted(self)
        return _as_logits(getattr(self.estimator_, self._method)(X), self._method)

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


def _as_logits(values: np.ndarray, method: str) -> np.ndarray:
    """Return logits (n, k) for what a classifier's method returns; the logit of two classes is that of the second."""
    if method == "predict_proba":
        return np.log(values + LEAST)
    single = values.reshape(len(values), -1)
    return np.hstack([np.zeros_like(single), single]) if single.shape[1] == 1 else values


class _Scaling(ClassifierMixin, BaseEstimator):
    """A map of logits to probabilities. Those who inherit define `_fit`, and `_predict` for checked logits."""

    def __init__(self, classes: Any = None):
        self.classes = classes

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to the logits of validation samples, (n, k), or (n,) for the second of two classes, and their labels."""
        logits = self._logits(X, reset=True)
        y = column_or_1d(as_array(y), warn=True)
        check_classification_targets(y)
        self.classes_ = self._classes_of(y, logits.shape[1])
        places = {label: place for place, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in np.unique(y).tolist() if label not in places]
        require(not unknown, "y", unknown[0] if unknown else y, f"labels among the classes, {self.classes_.tolist()}")
        self._fit(logits, np.array([places[label] for label in y.tolist()]))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities (n, k) for logits, as `fit` takes them."""
        check_is_fitted(self)
        return self._predict(self._logits(X, reset=False))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most likely labels (n,)."""
        places = self.predict_proba(X).argmax(axis=1)
        return self.classes_[places]

    def _logits(self, X: Any, reset: bool) -> np.ndarray:
        """Check logits, and return them as an array (n, k)."""
        if hasattr(X, "detach"):
            X = as_array(X)
        if getattr(X, "ndim", 2) == 1 and (reset or self.n_features_in_ == 1):
            X = np.asarray(X)[:, None]
        checked = validate_data(self, X, reset=reset, dtype=(np.float64, np.float32), ensure_all_finite=False)
        return check_logits(_as_logits(checked, "decision_function"), masked=True)

    def _classes_of(self, y: np.ndarray, k: int) -> np.ndarray:
        """Return the labels of the columns."""
        if self.classes is not None:
            classes = np.asarray(self.classes)
            require(classes.shape == (k,), "classes", f"{classes.size} labels", f"one per column of logits, {k}")
            return classes
        seen = np.unique(y)
        if len(seen) == k:
            return seen
        what = f"a label of each of {k} columns of logits, whole numbers below {k}, or the argument classes"
        numbers = seen.dtype.kind in "iu" and seen.min() >= 0 and seen.max() < k
        require(numbers, "y", f"{len(seen)} different labels", what)
        return np.arange(k)


class TemperatureScaling(_Scaling):
    """Temperature scaling with the temperature that is proved optimal.

    Parameters
    ----------
    classes : (k,) array, optional
        The labels of the columns of logits; needed if some occur in no label, unless labels are whole numbers below k.

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : TemperatureFit
        The optimum and its certificate, as from `halobench.fit_temperature`.
    temperature_ : float
        The optimal temperature. If the samples are separable, so that there is none, it is that of labels smoothed by
        1 / (n + 1).
    """

    def _fit(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.fit_ = fit_temperature(logits, labels)
        self._beta = fit_smoothed(check_logits(logits), labels) if self.fit_.separable else self.fit_.beta
        self.temperature_ = 1 / self._beta if self._beta else np.inf

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return softmax(tempered(logits, self._beta))


class PartnerScaling(_Scaling):
    """Partner scaling: temperature scaling, and the counts of which classes are mistaken for which.

    Parameters
    ----------
    classes : (k,) array, optional
        As for `TemperatureScaling`.

    Attributes
    ----------
    classes_ : (k,) array
    fit_ : PartnerFit
        As from `halobench.fit_partner`.
    """

    def _fit(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.fit_ = fit_partner(logits, labels)

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return self.fit_.predict_proba(logits)


class AutoCalibrator(_Scaling):
    """The calibrator that cross-fitting chooses, or temperature scaling if none gains clearly; it can't be pickled.

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
        The choice and its gain, as from `halobench.fit_auto`.
    """

    def __init__(self, classes: Any = None, candidates: Any = None):
        super().__init__(classes)
        self.candidates = candidates

    def _fit(self, logits: np.ndarray, labels: np.ndarray) -> None:
        self.fit_ = fit_auto(logits, labels, candidates=self.candidates)

    def _predict(self, logits: np.ndarray) -> np.ndarray:
        return self.fit_.calibrator.probabilities(logits)
