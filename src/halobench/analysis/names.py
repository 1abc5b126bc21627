"""Define names that figures, pages, tables and commands show, in one mapping per kind.

Files and configurations refer to things by their keys, and people read the labels in this module. The labels of
plug-ins come from their own files (`halobench.core.plugins.facts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from halobench.calibration.scores.region_scores import GAPS
from halobench.core.plugins import facts as plugin_facts
from halobench.storage.columns import NO_LOSS

SHOWS_TITLES = True  # see `halobench.experiment.code_version`


@dataclass(frozen=True)
class Style:
    """The colour, marker and dashes of a line."""

    color: str
    marker: str | tuple[int, int, int]
    dash: Any = "-"


@dataclass(frozen=True)
class Name:
    """A short label, a sentence that explains it, its style if it is plotted, and its unit."""

    label: str
    sentence: str
    style: Style | None = None
    unit: str = ""

    @property
    def axis(self) -> str:
        """Return the label with the unit, if any, as shown on axes and in headings."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _named(kind: str) -> dict[str, Name]:
    """Return the names of the package's plug-ins of a kind from their files, in order."""
    return {
        name: Name(said.title, said.about, Style(*said.style) if said.style else None, said.unit)
        for name, said in plugin_facts.named(kind).items()
    }


CALIBRATIONS = _named("calibrators")
LOSSES = _named("losses")
MODELS = _named("models")
DATASETS = _named("data")
PROBES = _named("probes") | _named("searches")

# What the package no longer has and published tables still hold; `halobench.core.plugins.RETIRED` says what to use.
CALIBRATIONS["gap"] = Name(
    "gap scaling (retired)",
    "a temperature that depends on the gap between the two largest logits",
    Style("#B8860B", "X", (0, (5, 1, 1, 1))),
)
CALIBRATIONS["noise_layer"] = Name(
    "noise layer (retired)",
    "TS followed by a matrix of transitions from predicted classes to labels",
    Style("#5B4A3F", (6, 1, 0), (0, (4, 1, 1, 1))),
)
PROBES["far_field"] = Name("Far field (retired)", "infinitely far away in a random direction")

LOSSES[NO_LOSS] = Name("not trained here", "not trained in this project", Style("#444444", "d", (0, (1, 1))))

METRICS = _named("metrics") | {
    "ece_floor": Name(
        "ECE floor", "the ECE that a perfectly calibrated model would show on the same number of samples"
    ),
    "confidence": Name("Confidence", "the probability that the model assigns to the label"),
    "relative_median": Name(
        "Median radius",
        "median distance at which certainty ends, or the decision changes",
        unit="relative to the nearest other label",
    ),
    "censored": Name(
        "Share of censored rays", "share of rays that ended before certainty did, or before the decision changed"
    ),
    "survival_2": Name(
        "Share still certain at twice the distance",
        "share of rays, or of points, that stay certain up to twice the distance to the nearest other label",
    ),
    "logit_gap": Name("Logit gap", "the label's logit minus the largest other logit"),
    "paper_near_exact": Name(
        "Share of fits near the optimum", "share of models for which the paper's fit is within 5% of the optimum"
    ),
}

# Metrics that are also computed for distributions that consist of regions: parts of a metric, and properties of logits.
METRIC_PARTS = {"kl_own": "kl", "kl_shared": "kl", "kl_per_log_k": "kl", "error_own": "error", "error_shared": "error"}
REGION_METRICS = (*METRIC_PARTS, *GAPS)

REGIONS = {
    "kl_own": Name("KL where one class lies", "the KL on samples in regions of a single class", unit="nats"),
    "kl_shared": Name("KL where classes overlap", "the KL on samples in regions that classes share", unit="nats"),
    "kl_per_log_k": Name("KL / log k", "the KL as a share of that of a uniform guess of k classes"),
    "error_own": Name("Error where one class lies", "the error on samples in regions of a single class"),
    "error_shared": Name("Error where classes overlap", "the error on samples in regions that classes share"),
    "gap_own": Name("Logit gap where one class lies", "the class's logit above the level of the others"),
    "gap_top": Name("Top logit gap where classes overlap", "a group's largest logit above the level of other classes"),
    "gap_partner": Name("Partners' logit gap", "the mean of a group's other logits above the level of other classes"),
    "rho": Name("Partners' gap / top gap", "how close a group's other logits come to its largest one, at most 1"),
    "partner_second": Name("Share with partners next", "share of samples whose group has the largest logits"),
    "kl_two_level": Name("KL that the gaps predict", "the KL of logits that have only these gaps", unit="nats"),
}

# The parts of the NLL by what could repair them, as in `halobench.repair_ladder`. Plots stack these parts.
REPAIRS = {
    "noise": Name(
        "nothing: noise",
        "the entropy of the posterior, below which no classifier's NLL lies",
        Style("#C4C4C4", "s"),
    ),
    "training": Name(
        "only other training", "the gap from that entropy to the best map of the logits", Style("#D55E00", "s")
    ),
    "richer_map": Name(
        "a richer map of the logits",
        "the gap from the best map to the best temperature; partner scaling and local maps are richer",
        Style("#00695C", "s"),
    ),
    "temperature": Name(
        "a temperature", "the gap from the best temperature to the model as it is", Style("#B79AE0", "s")
    ),
}

LADDER = {"repair_nll": Name("Repair ladder: the model as it is", "its NLL on test samples", unit="nats")}
LADDER |= {
    f"repair_{key}": Name(f"Repair ladder: {part.label}", part.sentence, unit="nats") for key, part in REPAIRS.items()
}
LADDER["repair_best_map"] = Name("Repair ladder: the best map", "the NLL of the best map of the logits", unit="nats")

VERDICTS = {
    "holds": Name("holds", "the interval lies entirely on the claimed side of the margin", Style("#00785A", "✓")),
    "does_not": Name("does not hold", "the interval lies entirely on the other side", Style("#B84A00", "✗")),
    "mixed": Name(
        "mixed",
        "it holds for some pairs of data set and model, and not for others",
        Style("#7B4BA0", "±"),
    ),
    "no_pair": Name(
        "supported by no pair",
        "it holds for no pair of data set and model, and not all are decided, or not after Holm's correction",
        Style("#8A5A2B", "∅"),
    ),
    "undecided": Name("undecided", "the margin lies within the interval", Style("#555555", "?")),
    "not_testable": Name(
        "not testable", "the data can't decide the claim, e.g. since its margin is out of reach", Style("#6B6B6B", "○")
    ),
    "not_tested": Name("not tested", "the grid doesn't have what the test needs", Style("#6B6B6B", "–")),
}

THEMES = {
    "halos": Name("Halos", "How far does certainty reach around training points?"),
    "temperature_scaling": Name("Temperature scaling", "What does temperature scaling (TS) repair under label noise?"),
    "mixup": Name("Mixup against TS", "Does training with Mixup do better than temperature scaling?"),
    "growth": Name("Growth with classes", "Does what TS leaves grow with the number of classes?"),
    "repair": Name("Repair after training", "Does a map that knows which classes overlap repair more than TS?"),
    "own": Name("Own claims", "What became of the claims of your own?"),
}

# The labels against which scores are computed.
LABELS = {
    "noisy": "the known posterior, in expectation",
    "clean": "the source's labels, before any noise",
    "drawn": "labels as drawn",
}

# The meaning of numbers in brackets, wherever they appear. The two kinds of interval answer different questions.
OVER_SEEDS = "95% t interval over seeds"
OVER_SAMPLES = "95% bootstrap interval over test samples"
