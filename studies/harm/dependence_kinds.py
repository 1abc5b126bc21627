"""Shifted but independent, unshifted, and copied samples, for `python -m studies.harm.measure --dependence`.

The kinds were written by someone who hadn't seen the code that is judged on them. Each maps a random generator to
(logits, labels, test_logits, test_labels).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits, make_blobs, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

Rng = np.random.Generator
Array = np.ndarray
Sample = tuple[Array, Array, Array, Array]
Kind = Callable[[Rng], Sample]
Change = Callable[[Array, Rng], Array]

SHIFTS: dict[str, Kind] = {}
INDEPENDENT: dict[str, Kind] = {}
COPIES: dict[str, Kind] = {}
TEST = 4000
TRAIN = 1000


def _fit(model: str, x: Array, y: Array, k: int, rng: Rng) -> Change:
    """Fit a small classifier and return its map from features to k logits."""
    seed = int(rng.integers(2**31 - 1))
    models = {
        "logistic": lambda: LogisticRegression(max_iter=60),
        "logistic_loose": lambda: LogisticRegression(C=100.0, max_iter=60),
        "mlp": lambda: MLPClassifier((32,), learning_rate_init=0.01, max_iter=30, random_state=seed),
        "mlp_deep": lambda: MLPClassifier((32, 32), alpha=0.0, learning_rate_init=0.01, max_iter=40, random_state=seed),
        "forest": lambda: RandomForestClassifier(60, min_samples_leaf=2, random_state=seed),
        "knn": lambda: KNeighborsClassifier(15, weights="distance"),
        "knn_votes": lambda: KNeighborsClassifier(10),
        "bayes": lambda: GaussianNB(var_smoothing=1e-3),
    }
    x = x.reshape(len(x), -1)
    centre, spread = x.mean(axis=0), x.std() + 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = models[model]().fit((x - centre) / spread, y)
    floor = 0.02 if model.startswith("knn") else 0.0

    def logits(z: Array, _: Rng) -> Array:
        p = np.zeros((len(z), k))
        p[:, fitted.classes_] = fitted.predict_proba((z.reshape(len(z), -1) - centre) / spread)
        return np.log(np.clip((p + floor) / (1.0 + k * floor), 1e-12, None))

    return logits


def _same(x: Array, _: Rng) -> Array:
    return x


def _sample(x: Array, y: Array, n: int | Array, change: Change, logits: Change, rng: Rng) -> Sample:
    """Calibrate on the first n rows (or on n[i] versions of row i, shuffled); test on one version of each other row."""
    counts = np.ones(n, int) if isinstance(n, int) else n
    pick, m = rng.permutation(np.repeat(np.arange(len(counts)), counts)), len(counts)
    return logits(change(x[pick], rng), rng), y[pick], logits(change(x[m:], rng), rng), y[m:]


@functools.cache
def _images() -> tuple[Array, Array]:
    data = load_digits()
    return data.images.astype(float), data.target.astype(int)


def _digits(doc: str, n: int | Array, model: str, change: Change, train: Change = _same) -> Kind:
    """Return a kind trained on one half of the digits; samples are changed images of the other half."""

    def kind(rng: Rng) -> Sample:
        order = rng.permutation(len(_images()[1]))
        x, y = (part[order] for part in _images())
        half = len(y) // 2
        logits = _fit(model, train(x[:half], rng), y[:half], 10, rng)
        return _sample(x[half:], y[half:], n, change, logits, rng)

    kind.__doc__ = doc
    return kind


def _table(doc: str, n: int | Array, k: int, model: str, change: Change, d: int = 12, sep: float = 1.2) -> Kind:
    """Return a kind trained on a table of make_classification; samples are changed further rows of it."""

    def kind(rng: Rng) -> Sample:
        size, seed = TRAIN + TEST + (n if isinstance(n, int) else len(n)), int(rng.integers(2**31 - 1))
        x, y = make_classification(size, d, n_informative=d - 3, n_classes=k, class_sep=sep, random_state=seed)
        return _sample(x[TRAIN:], y[TRAIN:], n, change, _fit(model, x[:TRAIN], y[:TRAIN], k, rng), rng)

    kind.__doc__ = doc
    return kind


def _blobs(rng: Rng, size: int, centres: Array, sd: float) -> tuple[Array, Array]:
    return make_blobs(size, centers=centres, cluster_std=sd, random_state=int(rng.integers(2**31 - 1)))


def _drawn(z: Array, temperature: float, rng: Rng) -> Array:
    """Draw labels from softmax(z / temperature)."""
    return np.argmax(z / temperature + rng.gumbel(size=z.shape), axis=1)


def _jitter(sd: float) -> Change:
    return lambda x, rng: x + rng.normal(0.0, sd, x.shape)


def _move(dy: int, dx: int) -> Change:
    return lambda x, _: ndimage.shift(x, (0, dy, dx), order=0)


def _turn(low: float, high: float) -> Change:
    def turn(x: Array, rng: Rng) -> Array:
        angles = rng.uniform(low, high, len(x))
        return np.array([ndimage.rotate(im, a, reshape=False, order=1) for im, a in zip(x, angles, strict=True)])

    return turn


def _jolt(x: Array, rng: Rng) -> Array:
    """Move each image by -1, 0 or 1 px on both axes, with faint noise."""
    steps = rng.integers(-1, 2, (len(x), 2))
    return _noise(0.5)(np.array([ndimage.shift(im, s, order=0) for im, s in zip(x, steps, strict=True)]), rng)


def _noise(sd: float) -> Change:
    return lambda x, rng: np.clip(_jitter(sd)(x, rng), 0.0, 16.0)


def _occlude(x: Array, rng: Rng) -> Array:
    """Blank a 4 x 4 patch at a random place of each image."""
    out = x.copy()
    for image, (r, c) in zip(out, rng.integers(0, 5, (len(x), 2)), strict=True):
        image[r : r + 4, c : c + 4] = 0.0
    return out


def _shrink(x: Array, _: Rng) -> Array:
    """Scale every image to three quarters of its size, centred."""
    return np.clip(np.pad(ndimage.zoom(x, (1, 0.75, 0.75), order=1), ((0, 0), (1, 1), (1, 1))), 0.0, 16.0)


def _bad_scanner(x: Array, rng: Rng) -> Array:
    """Turn and move a third of the images."""
    bad = rng.random((len(x), 1, 1)) < 1 / 3
    return np.where(bad, _move(0, 1)(_turn(-25.0, -25.0)(x, rng), rng), x)


def _plane_turn(x: Array, _: Rng) -> Array:
    """Rotate each pair of features by 35 degrees."""
    c, s = np.cos(0.61), np.sin(0.61)
    return x @ np.kron(np.eye(x.shape[1] // 2), np.array([[c, -s], [s, c]]))


SHIFTS["digits_moved_1px"] = _digits("Digits moved 1 px right, logistic regression.", 300, "logistic", _move(0, 1))
SHIFTS["digits_moved_2px"] = _digits("Augmented network, digits moved 2 px down.", 450, "mlp", _move(2, 0), _jolt)
SHIFTS["digits_rotated"] = _digits("Digits turned by 30 degrees, random forest.", 400, "forest", _turn(30.0, 30.0))
SHIFTS["digits_inverted"] = _digits("Inverted grey values, deeper network.", 350, "mlp_deep", lambda x, _: 16.0 - x)
SHIFTS["digits_noisy"] = _digits("Strong pixel noise, loose logistic regression.", 200, "logistic_loose", _noise(6.0))
SHIFTS["digits_occluded"] = _digits("A blank patch on each digit, smoothed nearest neighbours.", 480, "knn", _occlude)
SHIFTS["digits_shrunk"] = _digits("Digits scaled down, neighbour votes (tied logits).", 250, "knn_votes", _shrink)
SHIFTS["digits_thinned"] = _digits(
    "Thinned strokes, naive Bayes with extreme logits.", 150, "bayes", lambda x, _: np.clip(2.0 * (x - 8.0), 0.0, 16.0)
)
SHIFTS["digits_two_scanners"] = _digits("Clean digits and a third badly scanned, network.", 420, "mlp", _bad_scanner)
SHIFTS["table_scaled"] = _table(
    "Features scaled by 0.5 to 3, logistic regression.", 1000, 4, "logistic", lambda x, _: x * np.linspace(0.5, 3.0, 12)
)
SHIFTS["table_rotated"] = _table("Rotated features, deeper network.", 2000, 6, "mlp_deep", _plane_turn, sep=1.5)
SHIFTS["table_missing_features"] = _table(
    "Four sensors of sixteen read zero, network.", 800, 8, "mlp", lambda x, _: x * (np.arange(16) % 5 != 0), 16, 1.8
)

INDEPENDENT["digits_logistic"] = _digits("Clean digits, logistic regression.", 300, "logistic", _same)
INDEPENDENT["digits_jolted_mlp"] = _digits("A jolting camera in training and use, network.", 450, "mlp", _jolt, _jolt)
INDEPENDENT["table_forest"] = _table("Unchanged features, random forest.", 1000, 6, "forest", _same)

COPIES["digits_jolted_50x6"] = _digits("Versions moved by up to 1 px, network.", np.full(50, 6), "mlp", _jolt, _jolt)
COPIES["digits_rotated_100x4"] = _digits(
    "Versions turned by up to 20 degrees, logistic regression.", np.full(100, 4), "logistic", _turn(-20.0, 20.0)
)
COPIES["digits_noisy_200x2"] = _digits("Two noisy versions, random forest.", np.full(200, 2), "forest", _noise(2.0))
COPIES["moved_digits_noisy_30x10"] = _digits(
    "Noisy versions of digits moved by 1 px, network.",
    np.full(30, 10),
    "mlp",
    lambda x, rng: _noise(2.0)(_move(0, 1)(x, rng), rng),
)
COPIES["table_unequal_copies"] = _table(
    "150 rows in 1 to 16 versions, deeper network.",
    np.repeat([1, 2, 4, 8, 16], [60, 40, 25, 15, 10]),
    6,
    "mlp_deep",
    _jitter(0.25),
)
COPIES["table_half_copied"] = _table(
    "400 single rows, 100 rows in 4 versions, naive Bayes.", np.repeat([1, 4], [400, 100]), 8, "bayes", _jitter(0.2)
)


def digits_unseen_subclass(rng: Rng) -> Sample:
    """Five classes of two digits each (digit modulo 5); three digits were never seen in training."""
    order = rng.permutation(len(_images()[1]))
    x, y = (part[order] for part in _images())
    seen = np.flatnonzero(~np.isin(y[:898], [5, 7, 9]))
    return _sample(x[898:], y[898:] % 5, 380, _same, _fit("mlp", x[seen], y[seen] % 5, 5, rng), rng)


def table_three_sites(rng: Rng) -> Sample:
    """One site as in training and two sites with their own offset, logistic regression."""
    offsets = rng.normal(0.0, 1.5, (3, 12)) * np.array([[0.0], [1.0], [1.0]])
    pooled = _table("", 900, 10, "logistic", lambda x, r: x + offsets[r.integers(3, size=len(x))], sep=2.0)
    return pooled(rng)


def blobs_moved_centres(rng: Rng) -> Sample:
    """Twelve blobs in the plane whose centres each moved a little, loose logistic regression."""
    centres = rng.uniform(-8.0, 8.0, (12, 2))
    x, y = _blobs(rng, TRAIN, centres, 1.0)
    new, new_y = _blobs(rng, 600 + TEST, centres + rng.normal(0.0, 1.2, centres.shape), 1.0)
    return _sample(new, new_y, 600, _same, _fit("logistic_loose", x, y, 12, rng), rng)


def spirals_twisted(rng: Rng) -> Sample:
    """Three interleaved arms (moons carried further) that twist more than in training, deeper network."""

    def draw(size: int, twist: float) -> tuple[Array, Array]:
        y, r = rng.integers(3, size=size), rng.uniform(0.3, 2.0, size)
        angle = 2 * np.pi * y / 3 + twist * r
        return _jitter(0.12)(np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1), rng), y

    logits = _fit("mlp_deep", *draw(TRAIN, 1.5), 3, rng)
    return _sample(*draw(500 + TEST, 2.1), 500, _same, logits, rng)


def covariate_shift(rng: Rng) -> Sample:
    """Curved classes trained at low values of the first feature, used mostly at high ones, random forest."""

    def draw(size: int, mean: float) -> tuple[Array, Array]:
        x = rng.normal(0.0, 1.0, (size, 4)) + np.array([mean, 0.0, 0.0, 0.0])
        score = np.stack([np.sin(2 * x[:, 0]) + x[:, 1], x[:, 2] - 0.5 * x[:, 0], x[:, 3] * x[:, 0]], axis=1)
        return x, _drawn(score, 0.3, rng)

    logits = _fit("forest", *draw(TRAIN, -1.0), 3, rng)
    return _sample(*draw(1500 + TEST, 0.8), 1500, _same, logits, rng)


def label_shift(rng: Rng) -> Sample:
    """Balanced classes in training, very uneven ones in use, naive Bayes."""
    centres = rng.normal(0.0, 1.1, (5, 6))
    y, new_y = rng.integers(5, size=TRAIN), rng.choice(5, 700 + TEST, p=[0.6, 0.2, 0.1, 0.07, 0.03])
    logits = _fit("bayes", _jitter(1.0)(centres[y], rng), y, 5, rng)
    return _sample(_jitter(1.0)(centres[new_y], rng), new_y, 700, _same, logits, rng)


def concept_swapped_region(rng: Rng) -> Sample:
    """Two pairs of nine blob classes trade names where the first feature is positive, smoothed neighbours."""
    x, y = _blobs(rng, TRAIN + 1200 + TEST, rng.normal(0.0, 1.5, (9, 5)), 1.0)
    logits = _fit("knn", x[:TRAIN], y[:TRAIN], 9, rng)
    swapped = np.where(x[:, 0] > 0, np.array([1, 0, 3, 2, 4, 5, 6, 7, 8])[y], y)
    return _sample(x[TRAIN:], swapped[TRAIN:], 1200, _same, logits, rng)


def blobs_new_subclass(rng: Rng) -> Sample:
    """Twenty blob classes, six of which gained a second cluster elsewhere, network."""
    centres, extra = rng.normal(0.0, 3.0, (20, 5)), rng.normal(0.0, 3.0, (6, 5))
    x, y = _blobs(rng, TRAIN, centres, 1.0)
    new, part = _blobs(rng, 1600 + TEST, np.concatenate([centres, extra]), 0.8)
    return _sample(new, np.where(part < 20, part, part - 20), 1600, _same, _fit("mlp", x, y, 20, rng), rng)


def gaussian_logits(rng: Rng) -> Sample:
    """Gaussian logits with labels drawn at temperature 1.7."""
    z = rng.normal(0.0, 3.0, (1500 + TEST, 15))
    return _sample(z, _drawn(z, 1.7, rng), 1500, _same, _same, rng)


def overconfident_label_noise(rng: Rng) -> Sample:
    """Very sure logits with a tenth of the labels drawn at random."""
    y = rng.integers(4, size=400 + TEST)
    z = 6.0 * _jitter(1.0)(2.0 * np.eye(4)[y], rng)
    return _sample(z, np.where(rng.random(len(y)) < 0.1, rng.integers(4, size=len(y)), y), 400, _same, _same, rng)


def logits_tiny_jitter_250x4(rng: Rng) -> Sample:
    """Gaussian logit vectors in versions that hardly differ."""
    z = rng.normal(0.0, 2.5, (250 + TEST, 10))
    return _sample(z, _drawn(z, 1.5, rng), np.full(250, 4), _jitter(0.02), _same, rng)


def logits_large_jitter_100x8(rng: Rng) -> Sample:
    """Gaussian logit vectors in versions that differ by a third of their spread."""
    z = rng.normal(0.0, 2.5, (100 + TEST, 12))
    return _sample(z, _drawn(z, 1.5, rng), np.full(100, 8), _jitter(0.8), _same, rng)


def patients_several_rows(rng: Rng) -> Sample:
    """70 patients with 3 to 12 rows around their own mean and one diagnosis each, loose logistic regression."""
    y = rng.integers(3, size=TRAIN + 70 + TEST)
    means = _jitter(1.0)(rng.normal(0.0, 0.8, (3, 8))[y], rng)
    logits = _fit("logistic_loose", _jitter(0.4)(means[:TRAIN], rng), y[:TRAIN], 3, rng)
    return _sample(means[TRAIN:], y[TRAIN:], rng.integers(3, 13, 70), _jitter(0.4), logits, rng)


def moved_blobs_400x5(rng: Rng) -> Sample:
    """Jittered versions of rows of twenty moved blobs, smoothed nearest neighbours."""
    centres = rng.normal(0.0, 3.0, (20, 4))
    x, y = _blobs(rng, TRAIN, centres, 1.2)
    new, new_y = _blobs(rng, 400 + TEST, centres + rng.normal(0.0, 0.8, centres.shape), 1.2)
    return _sample(new, new_y, np.full(400, 5), _jitter(0.15), _fit("knn", x, y, 20, rng), rng)


_SHIFTED = (digits_unseen_subclass, table_three_sites, blobs_moved_centres, spirals_twisted, covariate_shift)
_SHIFTED += (label_shift, concept_swapped_region, blobs_new_subclass)
_COPIED = (logits_tiny_jitter_250x4, logits_large_jitter_100x8, patients_several_rows, moved_blobs_400x5)
SHIFTS.update({kind.__name__: kind for kind in _SHIFTED})
INDEPENDENT.update({kind.__name__: kind for kind in (gaussian_logits, overconfident_label_noise)})
COPIES.update({kind.__name__: kind for kind in _COPIED})
