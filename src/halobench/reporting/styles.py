"""Provide colours, markers and dashes for losses, calibrators, models and verdicts, and spare styles for others."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from halobench.analysis import names
from halobench.analysis.names import Style
from halobench.reporting.labels import ordered, stands_for

KNOWN_LOSSES: tuple[str, ...] = tuple(names.LOSSES)
_SPARE_COLORS = ("#E69F00", "#117733", "#882255", "#000000", "#999933", "#888888")
_SPARE_MARKERS = (">", "h", (8, 1, 0), (4, 1, 0), r"$\clubsuit$", "8", (6, 1, 0))  # (n, 1, angle): a star of n points
_LOSS_STYLES, CALIBRATOR_STYLES, VERDICT_STYLES = (
    {key: name.style for key, name in kind.items() if name.style}
    for kind in (names.LOSSES, names.CALIBRATIONS, names.VERDICTS)
)


def calibrator_style(name: str) -> Style:
    """Return a calibrator's style, or a grey one if it doesn't define any."""
    return CALIBRATOR_STYLES.get(name, Style("#777777", "v", (0, (1.2, 1))))


def calibrator_styles(calibrators: Iterable[str]) -> dict[str, Style]:
    """Return a style for each calibrator, in order; calibrators that don't define a style get spare styles."""
    spare = _spare_styles()
    return {name: CALIBRATOR_STYLES.get(name) or next(spare) for name in calibrators}


def loss_styles(losses: Iterable[str]) -> dict[str, Style]:
    """Return a style for each loss: its own or, within `labels.naming`, that of the plug-in that it stands for.

    A loss without a style, or with the style of an earlier loss, gets the next spare style.
    """
    spare, styles = _spare_styles(), dict[str, Style]()
    for loss in ordered(losses, KNOWN_LOSSES):
        known = stands_for("losses", loss)
        style = _LOSS_STYLES.get(loss) or (Style(*known.style) if known and known.style else None)
        styles[loss] = style if style and style not in styles.values() else next(spare)
    return styles


def _spare_styles() -> Iterator[Style]:
    looks = zip(*map(itertools.cycle, (_SPARE_COLORS, _SPARE_MARKERS, (2, 3, 4))), strict=True)
    return (Style(color, marker, (0, (dash, 1))) for color, marker, dash in looks)
