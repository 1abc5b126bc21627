"""Calibration by scikit-learn's conventions: its own checks, its own calibration as an oracle, and logits of others."""

from __future__ import annotations

import importlib
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from halobench import Calibrator, SpecError, fit_auto, fit_partner, fit_temperature, softmax, tempered
from halobench.sklearn import AutoCalibrator, Logits, PartnerScaling, PostHoc, TemperatureScaling

COLUMNS = "its samples have fewer or more columns than classes; behind `Logits`, below, they have one per class"
NO_LOGITS = dict.fromkeys(
    (
        "check_all_zero_sample_weights_error",
        "check_classifiers_classes",
        "check_classifiers_train",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_nan_inf",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
    ),
    COLUMNS,
)
CROSS_FITTED = "fit_transform is cross-validated, as that of TargetEncoder"
TRANSFORMER = {"check_transformer_general": CROSS_FITTED, "check_transformer_data_not_an_array": CROSS_FITTED}
STEPS = "a pipeline fits the steps that it is given"
BY_ROW = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data", "check_sample_weights_invariance"),
    "folds, and what counts as few samples, depend on the number of rows",
)
PIPELINE = {
    "check_dont_overwrite_parameters": STEPS,
    "check_estimators_overwrite_params": STEPS,
    "check_estimator_sparse_tag": "a pipeline takes sparse samples if all of its steps do, and logits aren't sparse",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (Logits(LogisticRegression()), TRANSFORMER),
        (AutoCalibrator(candidates=("top_rest", "partner")), NO_LOGITS | BY_ROW),
        (make_pipeline(Logits(LogisticRegression()), PartnerScaling()), PIPELINE),
    ],
    ids=["logits", "auto", "partner in a pipeline"],
)
def test_scikit_learns_own_checks_pass(estimator, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where they leave files
    results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    assert len(results) > 40


def samples(classes: int, size: int = 600) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_classification(
        size, 8, n_informative=6, n_classes=classes, n_clusters_per_class=1, flip_y=0.2, random_state=1
    )
    return x, np.array(["a", "b", "c", "d", "e"])[y]


@pytest.mark.parametrize(("classes", "cv"), [(2, None), (5, 3)])
@pytest.mark.parametrize("classifier", [LinearSVC(), RandomForestClassifier(10, min_samples_leaf=5, random_state=0)])
def test_a_pipeline_calibrates_as_scikit_learn_does(classifier, classes, cv):
    x, y = samples(classes, 300)
    model = make_pipeline(StandardScaler(), Logits(classifier, cv, floor=1e-12), TemperatureScaling()).fit(x, y)
    theirs = CalibratedClassifierCV(classifier, method="temperature", cv=cv or 5, ensemble=False)
    theirs.fit(StandardScaler().fit_transform(x), y)
    assert model.classes_.tolist() == theirs.classes_.tolist() == sorted(set(y))
    expected = theirs.predict_proba(StandardScaler().fit_transform(x))
    np.testing.assert_allclose(model.predict_proba(x), expected, atol=1e-6)
    assert model[-1].fit_.converged
    assert set(model.predict(x)) <= set(y)


def test_a_trained_classifier_is_calibrated_on_other_samples_even_if_they_miss_a_class():
    x, y = samples(3)
    classifier = LinearSVC().fit(x[:300], y[:300])
    seen = np.flatnonzero(y[300:] != "b") + 300
    scaling = TemperatureScaling(classes=classifier.classes_)
    model = make_pipeline(Logits(FrozenEstimator(classifier)), scaling).fit(x[seen], y[seen])
    logits = classifier.decision_function(x)
    fit = fit_temperature(logits[seen], np.searchsorted(classifier.classes_, y[seen]))
    assert scaling.temperature_ == pytest.approx(fit.T, rel=1e-12)
    np.testing.assert_allclose(model.predict_proba(x), softmax(tempered(logits, fit.beta)), atol=1e-12)
    assert (model.predict(x) == classifier.predict(x)).all(), "a temperature changes no prediction"
    with pytest.raises(SpecError, match="y = 'c': expected only labels among the classes"):
        TemperatureScaling(classes=["a", "b", "d"]).fit(logits, y)
    with pytest.raises(SpecError, match="y = 'd': expected only labels among the classes"):
        Logits(FrozenEstimator(classifier)).fit(x, np.where(y == "c", "d", y))


@pytest.mark.parametrize("labels", [[1, 2, 3], [0, 1, 2]])
@pytest.mark.parametrize("scaling", [TemperatureScaling(), PartnerScaling()])
def test_labels_of_columns_are_never_guessed(scaling, labels):
    """If only two labels occur, only the caller knows which of three columns they label, even if they are 0 and 1."""
    x, y = samples(3)
    y = np.array(labels)[np.searchsorted(["a", "b", "c"], y)]
    classifier, seen = LinearSVC().fit(x, y), y != labels[2]
    model = make_pipeline(Logits(FrozenEstimator(classifier)), clone(scaling))
    with pytest.raises(SpecError, match="argument classes"):
        model.fit(x[seen], y[seen])
    model[-1].set_params(classes=classifier.classes_)
    assert model.fit(x[seen], y[seen]).classes_.tolist() == labels
    assert model.score(x[seen], y[seen]) > 0.7


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_decision_function_of_pairs_of_classes_is_refused(classes):
    """Three classes have as many pairs, so that counting columns isn't enough."""
    x, y = samples(classes, 200)
    for wrap in (
        lambda svc: svc,
        lambda svc: make_pipeline(StandardScaler(), svc),
        lambda svc: GridSearchCV(make_pipeline(StandardScaler(), svc), {"svc__C": [1.0]}, cv=2),
        lambda svc: FrozenEstimator(svc.fit(x, y)),
    ):
        logits = Logits(wrap(SVC(decision_function_shape="ovo")))
        if classes == 2:
            assert logits.fit(x, y).transform(x).shape == (200, 2)
        else:
            with pytest.raises(SpecError, match="decision_function_shape = 'ovo': expected 'ovr'"):
                logits.fit_transform(x, y)
        assert Logits(wrap(SVC())).fit_transform(x, y).shape == (200, classes)


class Pairs(LinearSVC):
    """A classifier with more scores than classes."""

    def decision_function(self, X):
        return np.repeat(super().decision_function(X), 2, axis=1)


def test_a_decision_function_has_one_column_per_class():
    x, y = samples(3)
    with pytest.raises(SpecError, match="decision_function: found 6 columns, expected one per class, 3"):
        Logits(Pairs()).fit(x, y).transform(x)


def test_masked_entries_are_refused():
    z, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
    for masked, labels in ((np.ma.masked_greater(z, 1), y), (z, np.ma.masked_equal(y, 2))):
        with pytest.raises(SpecError, match="masked entries"):
            TemperatureScaling(classes=range(3)).fit(masked, labels)
    scaling = TemperatureScaling().fit(np.ma.array(z), y)
    with pytest.raises(SpecError, match="masked entries"):
        scaling.predict_proba(np.ma.masked_greater(z, 1))


def test_a_decision_function_of_two_classes_may_be_one_column():
    x, y = samples(2)
    z = LinearSVC().fit(x[:300], y[:300]).decision_function(x)
    both = np.stack([np.zeros(len(z)), z], axis=1)
    one, two = (TemperatureScaling().fit(each[300:], y[300:]) for each in (z, both))
    np.testing.assert_array_equal(one.predict_proba(z), two.predict_proba(both))
    assert (one.predict(z) == np.where(z > 0, "b", "a")).all()


def test_tensors_that_need_gradients_are_logits():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.normal(size=(400, 4)), dtype=torch.bfloat16, requires_grad=True)
    y = torch.tensor([rng.choice(4, p=row) for row in softmax(z)])
    plain = z.detach().float().numpy()
    scaling, partner = TemperatureScaling().fit(3 * z, y), PartnerScaling().fit(z, y)
    assert scaling.fit_ == fit_temperature(3 * z, y)
    assert scaling.temperature_ == pytest.approx(3 * fit_temperature(plain, y.numpy()).T, rel=1e-2)
    np.testing.assert_array_equal(partner.predict_proba(z), fit_partner(plain, y.numpy()).predict_proba(plain))
    assert clone(scaling).get_params() == {"classes": None}


def test_logits_that_are_always_right_get_a_finite_temperature():
    scaling = TemperatureScaling().fit(np.tile(np.eye(3), (10, 1)), np.tile([0, 1, 2], 10))
    assert scaling.fit_.separable
    # Labels smoothed by 1 / 31 over three classes put 1 / 93 on each of the two others.
    assert scaling.predict_proba(np.eye(3))[0] == pytest.approx([91 / 93, 1 / 93, 1 / 93])
    # A class that is ruled out gets none of them.
    ruled_out = np.array([[0.0, -1.0, -np.inf]])
    scaling = TemperatureScaling(classes=range(3)).fit(np.tile(ruled_out, (30, 1)), np.zeros(30, int))
    assert scaling.fit_.separable
    assert scaling.predict_proba(ruled_out)[0] == pytest.approx([61 / 62, 1 / 62, 0])


def test_what_cross_fitting_chooses_is_what_the_function_chooses():
    rng = np.random.default_rng(0)
    z = np.repeat([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]], 300, axis=0) + rng.normal(scale=0.01, size=(600, 3))
    y = np.r_[np.tile([0, 0, 1], 100), np.full(300, 2)]
    auto = clone(AutoCalibrator(candidates=("top_rest", "partner"))).fit(z, np.array(["a", "b", "c"])[y])
    fit = fit_auto(z, y, candidates=("top_rest", "partner"))
    assert auto.fit_.chosen == fit.chosen == "partner"
    np.testing.assert_array_equal(auto.predict_proba(z), fit.calibrator.predict_proba(z))


def test_any_calibrator_by_name_is_saved_with_the_names_of_its_classes(tmp_path):
    x, y = samples(3)
    logits = LinearSVC().fit(x[:300], y[:300]).decision_function(x)
    model = PostHoc("matrix", {"strengths": [10.0]}).fit(logits[300:], y[300:])
    model.save(tmp_path / "calibrator.npz")
    opened = Calibrator.load(tmp_path / "calibrator.npz")
    assert (opened.name, opened.names, dict(opened.options)) == ("matrix", ("a", "b", "c"), {"strengths": (10.0,)})
    np.testing.assert_array_equal(opened.predict_proba(logits), model.predict_proba(logits))
    np.testing.assert_array_equal(softmax(model.logits(logits)), model.predict_proba(logits))
    assert clone(model).fit(logits[300:], y[300:]).predict(logits[:5]).tolist() == model.predict(logits[:5]).tolist()


@pytest.fixture
def example(monkeypatch):
    """The example for CalArena, imported by its name from its folder, as CalArena's runner does."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    yield importlib.import_module("custom_calibrators")
    del sys.modules["custom_calibrators"]


@pytest.mark.parametrize(("classes", "column"), [(2, True), (2, False), (4, False)], ids=["(n,)", "(n, 2)", "(n, 4)"])
@pytest.mark.parametrize("absent", [False, True], ids=["all classes", "a class without labels"])
def test_the_example_does_what_calarenas_runner_needs(classes, column, absent, example):
    """What stands under each name makes a new calibrator; that is fitted to probabilities, and returns rows of them."""
    x, y = samples(classes)
    known = np.searchsorted(np.unique(y), y)
    p = LogisticRegression().fit(x[:200], y[:200]).predict_proba(x)
    given, rows = p[:, 1] if column else p, np.arange(200, 400)
    rows = rows[known[rows] > 0] if absent else rows
    for new in example.CUSTOM_CALIBRATORS.values():
        calibrator = pickle.loads(pickle.dumps(new))()
        assert calibrator is not new()
        calibrator.fit(given[rows], known[rows])
        calibrated = calibrator.predict_proba(given[400:])
        assert calibrated.shape == p[400:].shape
        np.testing.assert_allclose(calibrated.sum(axis=1), 1, rtol=0, atol=1e-12)
        assert (calibrated > 0).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_a_forest_with_zeros_gets_a_floor_that_can_be_seen(classes, example, tmp_path):
    """In a pipeline it is fitted to cross-validated probabilities; the example for CalArena takes probabilities."""
    x, y = samples(classes)
    forest = RandomForestClassifier(10, random_state=0)
    pipeline = make_pipeline(Logits(forest), TemperatureScaling()).fit(x[:300], y[:300])
    assert 1e-9 < pipeline[0].floor_ < 10
    stated = make_pipeline(Logits(forest, floor=1e-12), TemperatureScaling()).fit(x[:300], y[:300])
    assert stated[0].floor_ == 1e-12
    known = np.searchsorted(np.unique(y), y)
    losses = [-np.log(model.predict_proba(x[300:])[np.arange(300), known[300:]]).mean() for model in (pipeline, stated)]
    assert losses[0] < losses[1] + 0.01
    p = forest.fit(x[:200], y[:200]).predict_proba(x)
    assert (p == 0).any()
    for new in example.CUSTOM_CALIBRATORS.values():
        fitted = new().fit(p[200:400], known[200:400])
        calibrated = fitted.predict_proba(p[400:])
        np.testing.assert_allclose(calibrated.sum(axis=1), 1, rtol=0, atol=1e-12)
        assert (calibrated > 0).all()
        fitted.fitted.save(tmp_path / "calibrator.npz")
        opened = Calibrator.load(tmp_path / "calibrator.npz")
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(opened.predict_proba(np.log(p[400:])), fitted.predict_proba(p[400:]), atol=1e-12)
        if classes == 2:
            single = fitted.fit(p[200:400, 1], known[200:400]).predict_proba(p[400:, 1])
            np.testing.assert_allclose(single, calibrated, rtol=0, atol=1e-6)
