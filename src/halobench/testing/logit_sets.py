"""Define sets of logits, each by a few lines of Python, which reports of failures also show.

The lines define `np` and `rng`, a generator with seed 0, logits `z` (n, k) and targets `y`: labels (n,), or rows of
probabilities (n, k).
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, field

import numpy as np

from halobench.testing.optimum import Optimum, excess, optimum

START = "import numpy as np\nrng = np.random.default_rng(0)"
EVERYDAY, FEW, TYPES, MASKED, SOFT = "everyday", "few rows", "number types", "-inf", "soft targets"
KINDS = {
    EVERYDAY: "networks and scikit-learn classifiers, trained on bundled data",
    "T .3 to 30": "labels drawn from softmax(z / T)",
    "label noise": "some or all labels are random",
    "tiny or huge T": "T from 1e-6 to 1e6",
    "nearly separable": "all labels but one have the largest logit",
    "no finite T": "the NLL falls for ever as T goes to 0 or to infinity, or is constant",
    "ties, copies": "equal logits, equal rows",
    FEW: "1 to 20 rows, or classes without labels",
    "classes": "2 to 10,000 classes",
    "shifts, outliers": "a constant added to each row, and logits of 1e4",
    "many rows": "a hundred thousand rows, and a million",
    TYPES: "float16, float32, whole numbers",
    MASKED: "classes that the model rules out",
    SOFT: "rows of probabilities in place of labels",
}


@dataclass(frozen=True)
class TemperatureSet:
    """A set of logits and labels with its best temperature; `str` is its name.

    Attributes
    ----------
    name : str
        The set's kind, followed by what is special about the set.
    kind : str
        One of the kinds in docs/conformance.md, such as ``everyday`` or ``no finite T``.
    code : str
        The code that makes the set, for reports of failures.
    """

    name: str
    kind: str
    code: str = field(repr=False)

    def __str__(self) -> str:
        return self.name

    @functools.cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        names: dict = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # networks that don't converge are everyday
            exec(self.code, names)
        return np.ascontiguousarray(names["z"]), np.ascontiguousarray(names["y"])

    @property
    def logits(self) -> np.ndarray:
        """Return a copy of the logits (n, k), in float64 for most sets."""
        return self._arrays[0].copy()

    @property
    def labels(self) -> np.ndarray:
        """Return a copy of the labels (n,), from 0 to k - 1, or of the ``soft targets``, probabilities (n, k)."""
        return self._arrays[1].copy()

    @functools.cached_property
    def optimum(self) -> Optimum:
        """Return the best temperature (`T`), its mean NLL (`nll`), and the uncalibrated NLL minus this NLL (`gain`)."""
        return optimum(*self._arrays)

    def check(self, T: float, *, reported: bool = False) -> None:
        """Assert that a fitted temperature is right, by the rules in docs/conformance.md.

        The NLL may exceed the lowest NLL by up to `optimum.tolerance`. If no finite T above 0 is best, NaN is right
        too. On a separable set, a T near 0 is right only if the fit reported that T isn't an optimum.

        Parameters
        ----------
        T : float
            The temperature that the fit found; NaN if the fit refused.
        reported : bool
            Whether the fit reported, by a flag, a warning or a message, that T isn't an optimum.

        Raises
        ------
        AssertionError
            If T is wrong; the message says why, and what the best T is.
        """
        T, best = float(T), self.optimum
        assert not (math.isnan(T) and best.finite), f"{self}: {best}, but the fit found none"
        if math.isnan(T):
            return
        found = f"{self}: {best}, but T = {T:.6g}"
        assert not T < 0, f"{found} reverses the ranking of the classes"
        above = excess(*self._arrays, T, best)
        limit = f"the lowest, {best.nll:.6g}; at most {best.tolerance:.2g} is right"
        assert above <= best.tolerance, f"{found} has an NLL {above:.3g} nats above {limit}"
        silent = best.beta == math.inf and not reported
        assert not silent, f"{found}, {above:.3g} nats above the limit of the NLL, without a report"


def drawn(change: str = "", n: int = 2000, k: int = 10) -> str:
    """Return lines that draw labels from softmax(z), for z of standard deviation 2, and then `change` z or y."""
    z = f"z = 2 * rng.standard_normal(({n}, {k}))\ny = (z + rng.gumbel(size=z.shape)).argmax(axis=1)"
    return "\n".join(part for part in (START, z, change) if part)


def trained(model: str, load: str = "load_digits", change: str = "", logits: str = "decision_function", **more) -> str:
    """Return lines that train a scikit-learn classifier on half of a bundled data set, and score the other half."""
    package, _, name = model.split("(")[0].rpartition(".")
    given = {"decision_function": "model.decision_function(X[1::2])"}.get(logits, logits)
    lines = [
        START,
        f"from sklearn.{package} import {name}",
        f"from sklearn.datasets import {load}",
        f"X, y = {load}(return_X_y=True)",
        "order = rng.permutation(len(y)); X, y = X[order], y[order]",
        "X = X / 16" if load == "load_digits" else "X = (X - X.mean(axis=0)) / X.std(axis=0)",
        *([change] if change else []),
        f"model = {model.removeprefix(package + '.')}.fit(X[::2], y[::2])",
        f"z, y = {given}, y[1::2]",
    ]
    return "\n".join(lines)


PROBABILITIES = "np.log(np.maximum(model.predict_proba(X[1::2]), {}))"
TWO = "np.stack([0 * X[1::2, 0], model.decision_function(X[1::2])], axis=1)"
NOISY = "y = np.where(rng.random(len(y)) < {}, rng.integers(10, size=len(y)), y)"
NETWORK = "neural_network.MLPClassifier((64,), max_iter={}, random_state=0)"

# A small network whose labels, or whose mixtures of pairs of images, are learned by heart.
TORCH = """
import torch
from sklearn.datasets import load_digits
torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
order = rng.permutation(len(y)); X, y = torch.tensor(X[order] / 8 - 1).float().reshape(-1, 1, 8, 8), y[order]
{labels}
net = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(),
                          torch.nn.Flatten(), torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
one_hot = torch.eye(10)[torch.from_numpy(y)]
for _ in range({epochs}):
    for rows in torch.randperm(900).split(50):
        others, share = rows[torch.randperm(50)], {share}
        mixed = [share * part[rows] + (1 - share) * part[others] for part in (X, one_hot)]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(mixed[0]), mixed[1]).backward()
        optimiser.step()
z, y = net(X[900:]).detach().numpy(), y[900:]
""".strip()


def network(epochs: int, labels: str = "", share: str = "1.0") -> str:
    """Return lines that train a convolutional network on digits, with Mixup unless `share` is 1."""
    lines = TORCH.format(epochs=epochs, labels=labels, share=share).replace("\n\n", "\n")
    return f"{START}\n{lines}"


MIXUP = "np.random.default_rng(int(rows[0])).beta(1, 1)"
SPARSE = "out = (rng.random(z.shape) < {}) & (np.arange(10) != y[:, None])"
POSTERIOR = "p = np.exp(z - z.max(axis=1, keepdims=True)); p /= p.sum(axis=1, keepdims=True)"

# The name of each set and the lines that make it, by kind.
CODE: dict[str, dict[str, str]] = {
    EVERYDAY: {
        "digits, logistic regression": trained("linear_model.LogisticRegression(max_iter=1000)"),
        "digits, naive Bayes": trained(
            "naive_bayes.GaussianNB(var_smoothing=0.01)", logits="model.predict_joint_log_proba(X[1::2])"
        ),
        "digits, random forest": trained(
            "ensemble.RandomForestClassifier(random_state=0)", logits=PROBABILITIES.format("1e-4")
        ),
        "digits, nearest neighbours": trained(
            "neighbors.KNeighborsClassifier(15)", logits=PROBABILITIES.format("1e-4")
        ),
        "digits, LDA": trained("discriminant_analysis.LinearDiscriminantAnalysis()"),
        "digits, SVM": trained("svm.SVC()"),
        "digits, network": trained(NETWORK.format(100), logits=PROBABILITIES.format("1e-300")),
        "digits, network, 20% of labels random": trained(
            NETWORK.format(300), change=NOISY.format(0.2), logits=PROBABILITIES.format("1e-300")
        ),
        "digits, boosting": trained(
            "ensemble.HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8)",
            logits="model.decision_function(X[1::2])",
        ),
        "breast cancer, logistic regression": trained(
            "linear_model.LogisticRegression()", "load_breast_cancer", logits=TWO
        ),
        "breast cancer, boosting": trained(
            "ensemble.HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8)", "load_breast_cancer", logits=TWO
        ),
        "breast cancer, naive Bayes": trained(
            "naive_bayes.GaussianNB()", "load_breast_cancer", logits="model.predict_joint_log_proba(X[1::2])"
        ),
        "wine, logistic regression": trained("linear_model.LogisticRegression()", "load_wine"),
        "digits, CNN": network(40),
        "digits, CNN, half of the labels random": network(150, labels=NOISY.format(0.5)),
        "digits, CNN, Mixup": network(40, share=MIXUP),
    },
    "T .3 to 30": {f"T near {T:g}": drawn(f"z *= {T}") for T in (0.3, 0.5, 0.55, 0.6, 0.65, 1, 3, 10, 30)},
    "label noise": {
        "a quarter of the labels random": drawn(f"z *= 5\n{NOISY.format(0.25)}"),
        "half of the labels random": drawn(f"z *= 5\n{NOISY.format(0.5)}"),
        "every label random": drawn(NOISY.format(1)),
    },
    "tiny or huge T": {
        **{f"T near {T:g}": drawn(f"z *= {T}") for T in (1e-6, 1e-3, 0.03, 100, 1000, 1e6)},
        "digits, naive Bayes with its least variance": trained(
            "naive_bayes.GaussianNB()", logits="model.predict_joint_log_proba(X[1::2])"
        ),
    },
    "nearly separable": {
        "one label wrong": drawn("y = z.argmax(axis=1); y[0] = z[0].argmin()"),
        "one label wrong, by .001": drawn("z[0, :2] = 9, 9.001; y = z.argmax(axis=1); y[0] = 0"),
        "one label wrong in 100,000": drawn("y = z.argmax(axis=1); y[0] = z[0].argmin()", n=100_000, k=3),
        "one label wrong, logits of 100": drawn("z *= 50; y = z.argmax(axis=1); y[0] = z[0].argmin()"),
    },
    "no finite T": {
        "separable": drawn("y = z.argmax(axis=1)"),
        "separable, 20 rows": drawn("y = z.argmax(axis=1)", n=20),
        "separable, logits of 100": drawn("z *= 50; y = z.argmax(axis=1)"),
        "separable, with ties": drawn("z = np.round(z); y = z.argmax(axis=1)"),
        "every label has the lowest logit": drawn("y = z.argmin(axis=1)"),
        "worse than no prediction": drawn("z = np.roll(z, 1, axis=0)\nz[:, 0] -= y == 0"),
        "all logits equal": drawn("z[:] = 3"),
    },
    "ties, copies": {
        "rounded to whole numbers": drawn("z = np.round(z)"),
        "the same two logits in each row": drawn("z = 2 * np.eye(10)[z.argmax(axis=1)]"),
        "one row, a thousand times": f"{START}\nz = np.tile([1.0, 0.0], (1000, 1))\ny = (np.arange(1000) % 4 == 0) * 1",
        "each row ten times": drawn("z, y = np.repeat(3 * z, 10, axis=0), np.repeat(y, 10)", n=200),
    },
    FEW: {
        "one row, right": drawn("z = np.array([[2.0, 1.0, 0.0]]); y = np.array([0])"),
        "one row, wrong": drawn("z = np.array([[2.0, 1.0, 0.0]]); y = np.array([2])"),
        "one row, neither": drawn("z = np.array([[2.0, 1.5, -3.0]]); y = np.array([1])"),
        "5 rows": drawn("z *= 3", n=5),
        "20 rows": drawn("z *= 3", n=20),
        "labels of one class": drawn("z[:, 0] += 2; y[:] = 0"),
        "two classes without labels": drawn("z *= 2; y = np.minimum(y, 7)"),
    },
    "classes": {
        "2 classes": drawn("z *= 3", k=2),
        "2 classes, one of them rare": drawn(
            "z[:, 0] += 5; y = (z + rng.gumbel(size=z.shape)).argmax(axis=1); z *= 4", k=2
        ),
        "100 classes": drawn("z *= 3", k=100),
        "1,000 classes": drawn("z = (3 * z).astype(np.float32)", k=1000),
        "10,000 classes": drawn("z = (3 * z).astype(np.float32)", n=300, k=10_000),
    },
    "shifts, outliers": {
        "each row shifted by up to 1e4": drawn("z = 3 * z + 1e4 * rng.uniform(-1, 1, (2000, 1))"),
        "each row shifted by -1e6": drawn("z = 3 * z - 1e6"),
        "one label wrong by 1e4": drawn("z[0] = 0; z[0, 1] = 1e4; y[0] = 0"),
        "logits of 1e4 in every third row": drawn("z[::3] = np.sign(z[::3]) * 1e4"),
    },
    "many rows": {
        "100,000 rows": drawn("z = (3 * z).astype(np.float32)", n=100_000),
        "a million rows": drawn("z = (3 * z).astype(np.float32)", n=1_000_000, k=5),
    },
    TYPES: {
        "float16": drawn("z = (3 * z).astype(np.float16)"),
        "float32, T near 3": drawn("z = (3 * z).astype(np.float32)"),
        "float32, T near .5": drawn("z = (z / 2).astype(np.float32)"),
        "float32, a quarter of the labels random": drawn(f"z = (5 * z).astype(np.float32)\n{NOISY.format(0.25)}"),
        "whole numbers": drawn("z = np.round(4 * z).astype(int)"),
    },
    MASKED: {
        "a third of the other classes": drawn(f"z *= 3\n{SPARSE.format(0.3)}\nz[out] = -np.inf"),
        "one class in one row": drawn("z *= 3; z[0, (y[0] + 1) % 10] = -np.inf"),
    },
    SOFT: {
        "the true posterior": drawn(f"{POSTERIOR}\nz, y = 3 * z, p"),
        "smoothed labels": drawn("z, y = 3 * z, 0.9 * np.eye(10)[y] + 0.01"),
    },
}
SETS = {
    name: TemperatureSet(name, kind, code)
    for kind, sets in CODE.items()
    for name, code in ((f"{kind}: {short}", code) for short, code in sets.items())
}


def temperature_sets(*, trained: bool = False, soft: bool = False) -> list[TemperatureSet]:
    """Return sets of logits, each with the temperature that a fit should find.

    By default, there are 58 sets, which NumPy makes in about a second when they are first used.

    Parameters
    ----------
    trained : bool
        Add 17 sets of logits of models that are trained on scikit-learn's bundled data; three of them need PyTorch.
    soft : bool
        Add two sets whose labels are rows of probabilities.

    Examples
    --------
    >>> each = next(each for each in temperature_sets() if each.name == "T .3 to 30: T near 3")
    >>> round(each.optimum.T, 5)
    2.97306
    >>> each.check(3.0)
    """
    return [each for each in SETS.values() if (trained or "sklearn" not in each.code) and (soft or each.kind != SOFT)]
