"""What figures call things: names of data sets, models and losses, their order and looks, and intervals over seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.special import stdtrit

FEW = 10  # points in a bin, below which its accuracy says little

# Names and their order ------------------------------------------------------------------------------------------------

DATASETS = {"digits": "Digits", "mnist": "MNIST", "mnist5k": "MNIST-5k", "fashion_mnist": "Fashion-MNIST"}
DATASETS |= {"fashionmnist": "Fashion-MNIST", "kmnist": "KMNIST"}
DATASETS |= {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN"}
DATASETS |= {"photos": "Photographs", "imagenet-val": "ImageNet"}
DATASETS |= {f"overlap-k{k}": f"Overlap, k = {k}" for k in (2, 4, 8, 16, 32, 64, 128, 256)}
_MU = ("01", "05", "10", "25")
DATASETS |= {f"gaussians{of}-mu{m}": f"Gaussians, μ = .{m}" for of in ("", "-paper") for m in _MU}
MODELS = {"mlp": "MLP", "cnn": "CNN", "efficientnet": "EfficientNet", "resnet18": "ResNet-18", "resnet50": "ResNet-50"}
MODELS |= {"resnext50": "ResNeXt-50", "densenet121": "DenseNet-121", "convnext": "ConvNeXt", "vit": "ViT"}
MODELS |= {"nearest": "1-NN", "attention": "Attention", "mlp_bn": "MLP + BN", "resnet": "ResNet"}
MODELS |= {"cnn-bare": "CNN, no batch norm", "cnn-shift": "CNN, shifted images", "cnn-decay": "CNN, weight decay"}
MODELS |= {"attention-wide": "Attention, wide"}
MODELS |= {f"{n}-small": f"{MODELS[n]}, small stem" for n in ("resnet18", "resnext50", "densenet121")}
MODELS |= {"mixer": "MLP-Mixer", "mlp_mixer": "MLP-Mixer", "convnext_tiny": "ConvNeXt-T"}
LOSSES = {
    "untrained": "not trained here",
    "cross_entropy": "Cross-entropy",
    "label_smoothing": "Label smoothing",
    "brier": "Brier",
    "focal": "Focal",
    "dual_focal": "Dual focal",
    "mixup": "Mixup",
    "regmixup": "RegMixup",
    "cutmix": "CutMix",
}
PROBES = {
    "sphere": "Random direction",
    "nearest_other": "To the nearest point\nof another label",
    "mixup_line": "To a random point\nof another label",
    "manifold": "Random direction among\nprincipal components",
}
QUANTITIES = {"certainty": "Certainty radius", "half_level": "Half-level radius", "decision": "Decision radius"}
CALIBRATORS = {
    "none": "no TS",
    "released": "released TS",
    "exact": "exact TS",
    "oracle": "oracle TS",
    "ensemble": "ensemble TS",
    "vector": "vector scaling",
    "matrix": "matrix scaling",
    "isotonic": "isotonic",
    "histogram": "histogram",
}
REFERENCES = {"bayes": "Bayes posterior", "nearest": "1-nearest neighbour + TS", "uniform": "uniform guess"}
VERDICTS = {"holds": "holds", "does_not": "does not hold", "undecided": "undecided", "not_tested": "not tested"}

RELATIVE = "distance / distance to nearest training point of another label"
ABSOLUTE = "distance (normalised pixels)"


def dataset_label(name: str) -> str:
    """A data set's name in words, e.g. ``digits-noise50`` as ``Digits, 50% label noise``."""
    found = re.fullmatch(r"(.*)-noise(\d+)", name)
    stem, noise = (found[1], found[2]) if found else (name, "")
    label = DATASETS.get(stem, stem)
    return f"{label}, {int(noise)}% label noise" if noise else label


def model_label(name: str) -> str:
    """A model's name in words."""
    return MODELS.get(name, name)


def loss_label(name: str) -> str:
    """A loss's name in words, e.g. ``mixup5`` as ``5-point Mixup``."""
    if found := re.fullmatch(r"mixup(\d+)", name):
        return f"{found[1]}-point Mixup"
    return LOSSES.get(name, name)


def calibrator_label(name: str) -> str:
    """A calibrator's name in words; of a plug-in outside the package what comes after the colon."""
    return CALIBRATORS.get(name, name.rpartition(":")[2])


def probe_label(name: str) -> str:
    """Where a probe goes, in words on one line."""
    return PROBES.get(name, name).replace("\n", " ")


def around(points: str) -> str:
    """Around which points a probe looked, and whose label it watched, in words."""
    words = {
        "train": "training points, in the label trained on",
        "evaluation": "evaluation points, which no model was fitted to, in their label",
        "both": "training points, in the label trained on (of models that weren't fitted to them: evaluation points)",
        "heldout": "held-out points, the control",
    }
    return f"around {words.get(points, points)}"


def own_points(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A probe's rows with those around evaluation points as ``train``, and what all these are around, in words.

    Evaluation points stand in for training points where a model's weights come from elsewhere.
    """
    kinds = set(table["points"].unique()) - {"heldout"}
    kind = "both" if len(kinds) > 1 else kinds.pop() if kinds else "train"
    return table.assign(points=table["points"].replace("evaluation", "train")), around(kind)


def in_words(text: str) -> str:
    """A claim's statement without its place, the names in it replaced by words."""
    text = re.sub(r"\s*\[[^\]]*\]\s*$", "", text)
    text = re.sub(r"\bmixup(\d+)\b", lambda found: loss_label(found[0]), text)
    for probe, label in PROBES.items():
        spoken = label.replace("\n", " ")
        text = re.sub(rf"\b{probe}\b", f"“{spoken[0].lower()}{spoken[1:]}”", text) if "_" in probe else text
    text = text.replace("the probe manifold", "the probe “random direction among principal components”")
    return re.sub(r"\bmanifold\b", "principal directions", text)


def cell_label(dataset: str, model: str) -> str:
    """A data set and model in words."""
    return f"{dataset_label(dataset)} · {model_label(model)}"


def ordered(names: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Names without repeats: the known first in their order, then the others, numbers in them by size."""
    rank = {name: i for i, name in enumerate(known)}

    def key(name: str) -> tuple:
        parts = re.split(r"(\d+)", name)
        # A data set with label noise follows the one without.
        stem = re.sub(r"-noise\d+$", "", name)
        return rank.get(name, rank.get(stem, len(rank))), [int(p) if p.isdecimal() else p for p in parts]

    # Of a column of a long table, its few values.
    given: Any = names
    found = given.unique() if isinstance(given, pd.Series) else given
    return sorted({str(name) for name in found}, key=key)


def claim_label(claim: str, fit: str) -> str:
    """A claim's name as words, without the fit that makes it a variant."""
    text = in_words(claim.replace(f"_{fit}", "").replace("_", " "))
    text = " ".join(word.upper() if word in ("ts", "nll", "ece", "kl") else word for word in text.split())
    return text[0].upper() + text[1:]


def trained_here(runs: pd.DataFrame) -> pd.Series:
    """Of each row of `runs` whether its model was trained here: given weights take no step, and may fit other data.

    Tables of older versions lack a column or both, and hold no given weights.
    """
    found = pd.Series(True, index=runs.index)
    for column, untrained in (("steps", 0), ("fitted_here", False)):
        if column in runs:
            found &= runs[column].ne(untrained)
    return found


def losses_in(table: pd.DataFrame) -> list[str]:
    """The losses of a table, reference rows aside, in the order of the legends."""
    return ordered(set(table["loss"].unique()) - {"reference"}, KNOWN_LOSSES)


def cells_in(table: pd.DataFrame) -> list[tuple[str, str]]:
    """The (data set, model) pairs of a table, reference rows aside, in the order of the panels."""
    rows = table.loc[table["loss"] != "reference", ["dataset", "model"]].drop_duplicates()
    pairs = set(rows.itertuples(index=False, name=None))
    datasets, models = ordered((d for d, _ in pairs), DATASETS), ordered((m for _, m in pairs), MODELS)
    return [(d, m) for d in datasets for m in models if (d, m) in pairs]


# Colours, markers and dashes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """How one loss is drawn. Colour and marker both tell losses apart, so that either is enough."""

    color: str
    marker: str | tuple[int, int, int]
    dash: Any = "-"


# Lines are drawn without edges of marks, so that a mark needs a face: no "x" or "+".
# Okabe and Ito's palette without its yellow, too pale for lines on white; then darker tones for further losses.
_STYLES = {
    "cross_entropy": Style("#D55E00", "o", "-"),
    "mixup2": Style("#56B4E9", "s", (0, (5, 1.2))),
    "mixup5": Style("#0072B2", "D", (0, (3, 1, 1, 1))),
    "focal": Style("#CC79A7", "^", (0, (1.2, 1))),
    "label_smoothing": Style("#009E73", "v", (0, (6, 1, 1, 1, 1, 1))),
    "mixup3": Style("#332288", "P", (0, (4, 2))),
    "mixup": Style("#56B4E9", "s", (0, (5, 1.2))),
    "regmixup": Style("#2516D9", "*", (0, (7, 1.5))),
    "cutmix": Style("#662B0A", "X", (0, (5, 1, 1, 1))),
    "dual_focal": Style("#C0168F", "<", (0, (2, 1))),
    "brier": Style("#1A9A0F", "p", (0, (3, 1.5))),
    "untrained": Style("#444444", "d", (0, (1, 1))),
}
KNOWN_LOSSES: tuple[str, ...] = ("cross_entropy", "label_smoothing", "brier", "focal", "dual_focal")
KNOWN_LOSSES += ("mixup", "mixup2", "mixup3", "mixup5", "regmixup", "cutmix", "untrained")
_SPARE_COLORS = ("#E69F00", "#117733", "#882255", "#000000", "#999933", "#888888")
_SPARE_MARKERS = (">", "h", (8, 1, 0), (4, 1, 0), r"$\clubsuit$", "8", (6, 1, 0))  # (n, 1, angle): a star of n points

# No colour of a known loss, so that a line is never taken for a loss.
CALIBRATOR_STYLES = {
    "none": Style("#111111", "o", "-"),
    "released": Style("#E69F00", "s", (0, (4, 1.5))),
    "exact": Style("#7A3DB8", "D", "-"),
    "oracle": Style("#777777", "^", (0, (1.2, 1))),
    "ensemble": Style("#3D9E9E", "v", (0, (5, 1.2))),
    "vector": Style("#9C8DD9", "<", (0, (3, 1, 1, 1))),
    "matrix": Style("#0A2F66", ">", (0, (6, 1, 1, 1, 1, 1))),
    "isotonic": Style("#665C29", "p", (0, (4, 2))),
    "histogram": Style("#D99557", "h", (0, (2, 1))),
}
_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1)), (0, (6, 1.2, 1.2, 1.2)), (0, (2.5, 1)), (0, (8, 2, 2, 2, 2, 2)))
VERDICT_STYLES = {
    "holds": Style("#00785A", "✓"),
    "does_not": Style("#C04E00", "✗"),
    "undecided": Style("#555555", "?"),
    "not_tested": Style("#8a8a8a", "–"),
}


def calibrator_style(name: str) -> Style:
    """How a calibrator is drawn; grey where it has no style of its own."""
    return CALIBRATOR_STYLES.get(name, Style("#777777", "v", (0, (1.2, 1))))


def model_dashes(models: Iterable[str]) -> dict[str, Any]:
    """A dash pattern for each model of a panel in which colour tells losses; they repeat beyond six."""
    return {model: _DASHES[i % len(_DASHES)] for i, model in enumerate(ordered(models, MODELS))}


def loss_styles(losses: Iterable[str]) -> dict[str, Style]:
    """A style for each loss: known losses always the same, others the next free ones in order.

    Parameters
    ----------
    losses : iterable of str
        Names as in the tables.

    Returns
    -------
    dict of str to Style
        Colours repeat only beyond 6 unknown losses, and then with another marker.
    """
    styles, spare = {}, 0
    for loss in ordered(losses, KNOWN_LOSSES):
        if loss in _STYLES:
            styles[loss] = _STYLES[loss]
        else:
            color = _SPARE_COLORS[spare % len(_SPARE_COLORS)]
            marker = _SPARE_MARKERS[spare % len(_SPARE_MARKERS)]
            styles[loss] = Style(color, marker, (0, (2 + spare % 3, 1)))
            spare += 1
    return styles


# Statistics over seeds ------------------------------------------------------------------------------------------------


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds with Student's t interval.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        One value a seed; NaN are left out.
    level : float
        Coverage, in (0, 1).

    Returns
    -------
    mean, low, high : float
        `low` and `high` are NaN for fewer than two values: one seed has no spread.

    Examples
    --------
    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    n = len(known)
    if n == 0:
        return (float("nan"),) * 3
    mean = float(known.mean())
    if n == 1 or not np.isfinite(mean):
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, 0.5 + level / 2) * known.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Mean and t interval of `value` over seeds, for each combination of the columns `by`.

    Rows that share `by` and seed (e.g. models, where they are pooled) are averaged first: the seed is the unit.

    Returns
    -------
    DataFrame
        Columns `by`, mean, low, high, n (seeds).
    """
    per_seed = table.dropna(subset=[value]).groupby([*by, "seed"], sort=True)[value].mean()
    keys = cast("pd.MultiIndex", per_seed.index).droplevel("seed").to_frame(index=False)
    values = per_seed.to_numpy(dtype=float)
    # Rows are sorted by keys, so that a group begins where a key changes.
    firsts = np.flatnonzero(np.r_[len(keys) > 0, keys.ne(keys.shift()).any(axis=1).to_numpy()[1:]])
    sizes = np.diff([*firsts, len(values)])
    found = np.empty((len(firsts), 3))
    for size in np.unique(sizes):
        rows = sizes == size
        found[rows] = _t_intervals(values[firsts[rows, None] + np.arange(size)])
    made = keys.iloc[firsts].reset_index(drop=True)
    made[["mean", "low", "high"]] = found
    return made.assign(n=sizes)


def _t_intervals(values: np.ndarray, level: float = 0.95) -> np.ndarray:
    """`t_interval` of each row of values (g, n), of which none is NaN: mean, low and high (g, 3)."""
    count = values.shape[1]
    with np.errstate(invalid="ignore"):  # infinite values
        mean = values.mean(axis=1)
        if count == 1:
            half = np.full(len(mean), np.nan)
        else:
            half = stdtrit(count - 1, 0.5 + level / 2) * values.std(axis=1, ddof=1) / np.sqrt(count)
        half = np.where(np.isfinite(mean), half, np.nan)
        return np.stack([mean, mean - half, mean + half], axis=1)


def seeds_note(*tables: pd.DataFrame) -> str:
    """What lines, points and bands are: means over so many seeds, with the interval if there is one."""
    cell = ["dataset", "model", "loss"]
    most = max((int(t.groupby(cell)["seed"].nunique().max()) for t in tables if len(t)), default=0)
    if most < 2:
        return "one seed, so no interval"
    return f"mean and 95% t-interval over {most} seeds"
