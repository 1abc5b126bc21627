"""Define the names of everything that figures, pages, tables and commands show, in one table for each kind of thing.

Files and configurations refer to things by their keys; people read the labels defined here. Each thing has a short
label, a sentence that says what it is and, if it is plotted, its own colour, marker and dashes, which are the same
everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from halobench.core.plugins import constant
from halobench.core.specs import MetricsSpec


@dataclass(frozen=True)
class Style:
    """The colour, marker and dashes of a line. Either the colour or the marker alone identifies it."""

    color: str
    marker: str | tuple[int, int, int]
    dash: Any = "-"


@dataclass(frozen=True)
class Name:
    """A thing's short label, a sentence saying what it is, its style if it is plotted, and the unit of its values."""

    label: str
    sentence: str
    style: Style | None = None
    unit: str = ""

    @property
    def axis(self) -> str:
        """The label with the unit, as shown on axes and in headings."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


# No calibration shares its colour with a loss, so their lines are never mistaken for each other.
CALIBRATIONS = {
    "none": Name("uncalibrated", "the model's own confidence, without calibration", Style("#111111", "o")),
    "released": Name(
        "TS (paper's code)",
        "temperature scaling fitted by the paper's published code, which may stop short of the optimum",
        Style("#E69F00", "s", (0, (4, 1.5))),
    ),
    "exact": Name(
        "TS (optimal)", "temperature scaling at the certified optimum on validation data", Style("#7A3DB8", "D")
    ),
    "oracle": Name(
        "TS (test-set oracle)",
        "the best temperature on the test data; it is a bound on what any temperature can achieve, not a usable method",
        Style("#777777", "^", (0, (1.2, 1))),
    ),
    "matrix": Name(
        "matrix scaling",
        "an affine map of the logits, with a penalty chosen by cross-validation",
        Style("#B03A6B", "8", (0, (6, 1, 2, 1))),
    ),
    "dirichlet": Name(
        "Dirichlet calibration",
        "an affine map of the log-probabilities, with penalties off the diagonal and on the intercepts",
        Style("#A0522D", (4, 1, 0), (0, (3, 1, 1, 1, 1, 1))),
    ),
    "gap": Name(
        "gap scaling",
        "a temperature that depends on the gap between the two largest logits",
        Style("#B8860B", "X", (0, (5, 1, 1, 1))),
    ),
    "top_rest": Name(
        "top-versus-rest scaling",
        "one temperature for whether the prediction is right, and another for which class is right if it isn't",
        Style("#5E8C31", "H", (0, (7, 1.5))),
    ),
    "confusion_mix": Name(
        "TS mixed with confusions",
        "TS mixed with the labels of the validation samples that have the same prediction",
        Style("#2F8F46", (5, 0, 180), (0, (2, 1))),
    ),
    "noise_layer": Name(
        "noise layer",
        "TS followed by a matrix of transitions from predicted classes to labels",
        Style("#5B4A3F", (6, 1, 0), (0, (4, 1, 1, 1))),
    ),
    "partner": Name(
        "partner scaling",
        "TS that also learns from confusions on validation data which classes are mistaken for which others",
        Style("#00695C", "*"),
    ),
    "local": Name(
        "local map",
        "TS and partner scaling mixed with nearest neighbours and trees, by the labels of similar validation samples",
        Style("#C2408C", (3, 1, 0), (0, (3, 1))),
    ),
}

_MIXUP = "trains on convex combinations of {} samples and their labels"
# Listed in legend order. The colours are Okabe and Ito's palette without its yellow, which is too pale for lines on
# white, followed by darker tones. Markers are drawn without edges, so each must have an area to fill, which rules out
# "x" and "+".
LOSSES = {
    "cross_entropy": Name("Cross-entropy", "empirical risk minimisation (ERM)", Style("#D55E00", "o")),
    "label_smoothing": Name(
        "Label smoothing",
        "cross-entropy towards labels mixed with the uniform distribution",
        Style("#009E73", "v", (0, (6, 1, 1, 1, 1, 1))),
    ),
    "brier": Name("Brier", "squared error of the probabilities", Style("#1A9A0F", "p", (0, (3, 1.5)))),
    "focal": Name(
        "Focal",
        "cross-entropy that down-weights samples that are already well fitted",
        Style("#CC79A7", "^", (0, (1.2, 1))),
    ),
    "dual_focal": Name(
        "Dual focal", "focal loss that also pushes down the runner-up class", Style("#C0168F", "<", (0, (2, 1)))
    ),
    "mixup": Name("Mixup", _MIXUP.format("two"), Style("#56B4E9", "s", (0, (5, 1.2)))),
    "mixup2": Name("2-point Mixup", _MIXUP.format("two"), Style("#56B4E9", "s", (0, (5, 1.2)))),
    "mixup3": Name("3-point Mixup", _MIXUP.format("three"), Style("#0072B2", "P", (0, (4, 2)))),
    "mixup5": Name("5-point Mixup", _MIXUP.format("five"), Style("#332288", "D", (0, (3, 1, 1, 1)))),
    "regmixup": Name("RegMixup", "cross-entropy plus Mixup as a regulariser", Style("#2516D9", "*", (0, (7, 1.5)))),
    "cutmix": Name(
        "CutMix", "trains on images with a patch of another image pasted in", Style("#662B0A", "X", (0, (5, 1, 1, 1)))
    ),
    # This isn't a loss but marks models whose weights come from elsewhere or that have none. It isn't counted as a
    # loss.
    "untrained": Name("not trained here", "not trained in this project", Style("#444444", "d", (0, (1, 1)))),
}
NO_LOSS = "untrained"

PROBES = {
    "sphere": Name("Random direction", "away from a point in a random direction"),
    "nearest_other": Name(
        "To nearest other label", "along the line to the nearest training point with a different label"
    ),
    "mixup_line": Name("To random other label", "along the line to a random training point with a different label"),
    "manifold": Name("Principal components", "in a random direction within the data's principal components"),
    "adversarial": Name("Attacked", "to the nearest point that an attack finds", Style("#A8182D", "v")),
    "certified": Name("Certified", "as far as certainty is proved to reach in every direction", Style("#1F4E9C", "^")),
    "far_field": Name("Far field", "infinitely far away in a random direction"),
}


def _metric(name: str) -> Name:
    """Return a metric's name from the constants of its file."""
    title, about, unit = (constant("metrics", name, key) or "" for key in ("TITLE", "ABOUT", "UNIT"))
    return Name(title or name, about, unit=unit)


METRICS = {name: _metric(name) for name in MetricsSpec().scores} | {
    "ece_floor": Name(
        "ECE floor", "the ECE that a perfectly calibrated model would show on the same number of samples"
    ),
    "confidence": Name("Confidence", "the probability that the model assigns to the label"),
    "relative_median": Name(
        "Median radius", "median distance at which confidence is lost", unit="relative to the nearest other label"
    ),
    "censored": Name("Share of censored rays", "share of rays that ended before reaching the point sought"),
    "survival_2": Name(
        "Share still certain at twice the distance",
        "share of rays, or of points, that stay certain up to twice the distance to the nearest other label",
    ),
    "logit_gap": Name("Logit gap", "the label's logit minus the largest other logit"),
    "released_near_exact": Name(
        "Share of fits near the optimum", "share of models for which the paper's fit is within 5% of the optimum"
    ),
}

# The NLL, split into parts by what could repair them, as in `halobench.repair_ladder`. Plots stack these parts.
REPAIRS = {
    "noise": Name(
        "nothing: noise",
        "the entropy of the posterior, which is the lowest NLL that any classifier can reach",
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

VERDICTS = {
    "holds": Name("holds", "the interval lies entirely on the claimed side of the margin", Style("#00785A", "✓")),
    "does_not": Name("does not hold", "the interval lies entirely on the other side", Style("#B84A00", "✗")),
    "undecided": Name("undecided", "the margin lies within the interval", Style("#555555", "?")),
    "not_tested": Name("not tested", "the grid doesn't have what the test needs", Style("#6B6B6B", "–")),
}

# Families of distributions that differ only in the number of classes.
FAMILIES = {
    "overlap": "Balls in pairs",
    "overlap-m4": "Balls in fours",
    "overlap-all": "Balls, one region for all",
    "overlap-n50": "Balls in pairs, 50 samples per class",
    "overlap-disc": "Discs in pairs",
    "overlap-image": "MNIST images in pairs",
}

THEMES = {
    "halos": Name("Halos", "How far does certainty reach around training points?"),
    "temperature_scaling": Name("Temperature scaling", "What does temperature scaling (TS) repair under label noise?"),
    "mixup": Name("Mixup against TS", "Does training with Mixup do better than temperature scaling?"),
    "growth": Name("Growth with classes", "Does what TS leaves grow with the number of classes?"),
    "repair": Name("Repair after training", "Does a map that knows which classes overlap repair more than TS?"),
}

# Labels of the tests in workflow/claims.yaml. Each key is a pattern that matches tests' names without the calibration.
# The pattern's groups (names of losses, probes and families) fill in the label's placeholders. Tests that match no
# pattern are labelled with their names.
CLAIMS = {
    "halo_at_training_points": "Cross-entropy near-certain half-way to another label",
    "halo_larger_at_training_points": "Cross-entropy more confident around training than held-out points",
    r"halo_larger_than_(mixup\d+)": "Cross-entropy more confident half-way out than {0}",
    r"radius_(\w+)_larger_than_(mixup\d+)": "Cross-entropy's radius larger than {1}'s ({0})",
    "halo_in_the_worst_direction": "Cross-entropy certain half-way to another label in the worst direction",
    "random_directions_overstate_the_radius": "Random directions reach 1.5 times as far as flat boundaries explain",
    "random_directions_pass_one_flat_boundary": "Random directions reach further than one flat boundary allows",
    r"(adversarial|certified)_radius_larger_than_(\w+)": "Cross-entropy's radius larger than {1}'s ({0})",
    "far_field_is_certain": "Cross-entropy certain of some class far away in almost every direction",
    "worst_direction_larger_at_training_points": "Worst-direction radius larger at training than at held-out points",
    "released_improves_raw": "TS improves on uncalibrated (NLL)",
    "exact_improves_released": "Optimal temperature improves on the paper's code (NLL)",
    "paper_fit_converges": "The paper's code finds the optimum",
    "ts_leaves_a_gap": "TS leaves a gap to the posterior (KL)",
    r"(mixup\d+)_raw_beats_raw": "Uncalibrated {0} beats uncalibrated cross-entropy (NLL)",
    r"(mixup\d+)_raw_beats_ts": "Uncalibrated {0} beats cross-entropy with TS (NLL)",
    r"(mixup\d+)_raw_beats_ts_clean": "Uncalibrated {0} beats cross-entropy with TS (NLL, clean labels)",
    r"(mixup\d+)_raw_beats_ts_ece": "Uncalibrated {0} beats cross-entropy with TS (ECE)",
    r"(mixup\d+)_calibrated_beats_ts": "{0} with TS beats cross-entropy with TS (NLL)",
    r"(mixup\d+)_beats_best": "{0} beats the best other loss (NLL)",
    "more_points_help": "5-point Mixup beats 2-point Mixup (NLL)",
    "kl_grows_like_log_k": "Cross-entropy with TS: KL grows like log k",
    r"kl_grows_like_log_k_([\w-]+)": "Cross-entropy with TS: KL grows like log k ({0})",
    r"kl_of_(mixup\d+)_bounded": "{0}: KL does not grow like log k",
    r"kl_of_(mixup\d+)_bounded_([\w-]+)": "{0}: KL does not grow like log k ({1})",
    "kl_bounded_where_all_classes_share_one_region": "KL does not grow if all classes share one region",
    r"kl_per_log_k_lasts_from_(\d+)_to_(\d+)": "KL / log k lasts from k = {0} to {1}",
    r"kl_grows_from_(\d+)_to_(\d+)": "KL grows from k = {0} to {1}",
    r"kl_per_log_k_no_faster_from_(\d+)_to_(\d+)": "KL grows no faster than log k from k = {0} to {1}",
    r"(mixup\d+)_closer_than_ts_where_both_interpolate": "{0} closer to the posterior, if both interpolate (KL)",
    r"(?:partner|top_rest)_closer_than_ts": "Cross-entropy closer to the posterior than with TS (KL)",
    r"partner_closer_than_(mixup\d+)_with_ts": "Cross-entropy closer to the posterior than {0} with TS (KL)",
    r"partner_helps_(mixup\d+)": "{0} closer to the posterior than with TS (KL)",
    "partner_harmless_without_noise": "Cross-entropy no worse than with TS without label noise (NLL)",
    "kl_of_cross_entropy_bounded": "Cross-entropy: KL does not grow like log k",
    "kl_grows_after": "Cross-entropy: KL still grows like log k",
    r"(?:partner|top_rest)_halves_kl_of_ts": "Cross-entropy: at most half of the KL that TS leaves",
    r"(mixup\d+)_closer_than_ts_interpolating_or_not": "{0} closer to the posterior, interpolating or not (KL)",
}

# Titles of figures and tables whose file names don't say what they show.
TITLES = {
    "claims": "Every test of the claims",
    "halo": "Halos in the worst direction",
    "confidence_radius": "Confidence by distance in inputs",
    "neighbourhood": "Confidence by distance, relative",
    "radii": "Radii of certainty and decision",
    "reliability_posthoc": "Reliability after other calibrations",
    "log_k": "What TS leaves, by number of classes",
    "phase": "Where TS fails like log k",
    "predicted": "Predicted and measured KL",
    "overlap": "Classes that overlap",
    "repair": "What could repair it",
    "repair_metrics": "What could repair it, other metrics",
    "paper_images": "Scores against clean labels",
    "paper_images_posterior": "Scores under the known posterior",
    "images_posthoc": "Scores of all calibrations",
}


def title(name: str) -> str:
    """Return the title of a figure or table with this file name.

    Examples
    --------
    >>> title("log_k"), title("logit_gaps")
    ('What TS leaves, by number of classes', 'Logit gaps')
    """
    words = name.replace("_", " ")
    return TITLES.get(name, words[:1].upper() + words[1:])


# The labels that scores are measured against.
LABELS = {
    "noisy": "the known posterior, in expectation",
    "clean": "the source's labels, before any noise",
    "drawn": "labels as drawn",
}

# What the numbers in brackets mean, wherever they appear. The two kinds of interval answer different questions.
OVER_SEEDS = "95% t interval over seeds"
OVER_SAMPLES = "95% bootstrap interval over test samples"
