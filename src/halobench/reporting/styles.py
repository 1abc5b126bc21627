"""Give losses, calibrators, models and verdicts their colours, markers and dashes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from halobench.reporting.labels import MODELS, ordered


@dataclass(frozen=True)
class Style:
    """The colour, marker and dashes of a line. Colour and marker each identify a line without the other."""

    color: str
    marker: str | tuple[int, int, int]
    dash: Any = "-"


# Marks are drawn without edges, so each needs a face: no "x" or "+".
# Okabe and Ito's palette without its yellow, too pale for lines on white; then darker tones for further losses.
_LOSS_STYLES = {
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
# These are no colours of known losses, so that a line is never taken for a loss.
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
    "ts_mix": Style("#8C6BB1", "P", (0, (1.2, 1))),
    "gap": Style("#B8860B", "X", (0, (5, 1, 1, 1))),
    "partner": Style("#00695C", "*", "-"),
}
_MODEL_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1)), (0, (6, 1.2, 1.2, 1.2)), (0, (2.5, 1)), (0, (8, 2, 2, 2, 2, 2)))
_MODEL_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "*", "h")
VERDICT_STYLES = {
    "holds": Style("#00785A", "✓"),
    "does_not": Style("#C04E00", "✗"),
    "undecided": Style("#555555", "?"),
    "not_tested": Style("#8a8a8a", "–"),
}


def calibrator_style(name: str) -> Style:
    """Return the style of a calibrator; grey if it has none of its own."""
    return CALIBRATOR_STYLES.get(name, Style("#777777", "v", (0, (1.2, 1))))


def model_dashes(models: Iterable[str]) -> dict[str, Any]:
    """Return dashes for each model of a panel whose colours stand for losses; they repeat beyond six models."""
    return dict(zip(ordered(models, MODELS), itertools.cycle(_MODEL_DASHES), strict=False))


def model_markers(models: Iterable[str]) -> dict[str, str]:
    """Return a marker for each model of a panel whose colours stand for losses; they repeat beyond twelve models."""
    return dict(zip(ordered(models, MODELS), itertools.cycle(_MODEL_MARKERS), strict=False))


def loss_styles(losses: Iterable[str]) -> dict[str, Style]:
    """Return a style for each loss: known losses always have the same, others the next free ones in order.

    Colours repeat only beyond 6 unknown losses, and then with another marker.
    """
    looks = zip(*map(itertools.cycle, (_SPARE_COLORS, _SPARE_MARKERS, (2, 3, 4))), strict=True)
    spare = (Style(color, marker, (0, (dash, 1))) for color, marker, dash in looks)
    return {loss: _LOSS_STYLES.get(loss) or next(spare) for loss in ordered(losses, KNOWN_LOSSES)}
