"""Write the page of a diagnosis, with the list of answers followed by the evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from halobench.analysis.names import REPAIRS
from halobench.calibration.diagnosis.result import Diagnosis
from halobench.calibration.diagnosis.text import OTHERS, label
from halobench.calibration.repair.trials import Gain
from halobench.core.formatting import interval, number
from halobench.reporting.rendering import render
from halobench.reporting.styles import calibrator_style

SCORED = {"nll": "NLL", "error": "error", "brier": "Brier score", "ece": "ECE"}


def diagnosis_page(diagnosis: Diagnosis, title: str = "Diagnosis") -> str:
    """Return the page of a diagnosis, which needs no other file and no network."""
    names = diagnosis.names
    confusions = [
        {
            "predicted": names[pair.predicted],
            "label": names[pair.label],
            "count": number(pair.count, ".4g"),
            "of": pair.of,
        }
        | {"expected": number(pair.expected, ".1f")}
        for pair in diagnosis.confusions
    ]
    scores = [
        (label(name), [(number(rung.value), _span(rung.low, rung.high)) for rung in (rungs[key] for key in SCORED)])
        for name, rungs in diagnosis.scores.items()
    ]
    diagrams = [
        {"label": label(name), "ece": number(each.ece), "floor": number(each.floor)}
        | {"points": [(100 * x, 100 - 100 * y, 1 + 6 * math.sqrt(share)) for x, y, share in each.bins]}
        for name, each in diagnosis.reliability.items()
    ]
    shown: Mapping[str, Any] = {
        **{"diagrams": diagrams, "on_test": bool(diagnosis.scores)},
        **{"summary": diagnosis.summary(), "answers": diagnosis.answers(), "confusions": confusions},
        **{"curve": _curve(diagnosis), "parts": _parts(diagnosis), "scores": scores, "metrics": SCORED.values()},
    }
    return render("diagnosis.html", title=title, note="", experiment=title, **_gains(diagnosis), **shown)


def _span(low: float, high: float) -> str:
    return "" if math.isnan(low) else interval(low, high)


def _gains(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the candidates' gains with their positions, and that of a gain of 0, in percent of the chart's width."""
    chosen = diagnosis.auto
    tried = [] if math.isnan(chosen.nll) else [Gain("none", 0.0, 0.0, 0.0), *chosen.over_none]
    if tried and chosen.temperature_gain.name != "none":
        tried.append(chosen.temperature_gain)
    tried.sort(key=lambda fit: -fit.value)
    if not tried:
        return {"gains": [], "zero": 0}
    largest = max(0.005, *(abs(fit.value) for fit in tried), *(fit.high for fit in tried))
    low = max(min(0.0, *(fit.low for fit in tried)), -largest)  # far below 0, exact positions don't matter
    width = (largest - low) * 1.04

    def at(value: float) -> float:
        return round(100 * min(max((value - low) / width + 0.02, 0.0), 1.0), 2)

    rows = [
        {
            **{"label": label(fit.name), "chosen": fit.name == chosen.chosen, "at": at(fit.value), "left": at(fit.low)},
            **{"width": round(at(fit.high) - at(fit.low), 2), "value": number(fit.value)},
            "span": _span(fit.low, fit.high) if fit.high > fit.low else "",
        }
        for fit in tried
    ]
    return {"gains": rows, "zero": at(0.0)}


def _curve(diagnosis: Diagnosis) -> dict[str, Any] | None:
    """Return the curve of the NLL against temperature and the marks on it, in percent of the chart's size."""
    fit = diagnosis.temperature
    if not fit.curve:
        return None
    (first, _), (last, _) = fit.curve[0], fit.curve[-1]
    on_curve = diagnosis.floor is None or diagnosis.floor.always
    marks = [("uncalibrated", 1.0, fit.nll, "none")] if on_curve else []
    marks += [
        (OTHERS[name], other.T, other.nll, name)
        for name, other in fit.others.items()
        if name in OTHERS and first < other.T < last
    ]
    marks.append(("optimal", fit.exact.T, fit.exact.nll, "exact"))  # drawn over any mark at the same place
    low, top = fit.exact.nll, max(nll for _, _, nll, _ in marks)
    high = low + max(1e-3, 1.15 * (top - low))

    def place(T: float, nll: float) -> tuple[float, float]:
        x = math.log(T / first) / math.log(last / first)
        return round(100 * x, 2), round(96 - 92 * (nll - low) / (high - low), 2)

    path = "M" + " L".join("{} {}".format(*place(*point)) for point in fit.curve)
    shown = [
        dict(zip(("x", "y"), place(T, nll), strict=True))
        | {"label": words, "T": number(T, ".4g"), "nll": number(nll), "color": _color(name)}
        for words, T, nll, name in marks
    ]
    ends = {"first": number(first, ".2g"), "last": number(last, ".2g"), "low": number(low), "high": number(high)}
    return {"path": path, "marks": shown} | ends


def _color(name: str) -> str:
    return "#0072B2" if name == "copied" else "#777777" if name == "none" else calibrator_style(name).color


def _parts(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """Return the parts of the NLL, from the part that nothing removes to the part that a temperature removes."""
    ladder = diagnosis.ladder
    if ladder is None:
        return []
    rungs = {name: rung for name in REPAIRS if (rung := getattr(ladder, name)) is not None}
    total = sum(max(rung.value, 0.0) for rung in rungs.values()) or 1.0
    or_noise = "" if ladder.noise else ", or nothing: it includes label noise"
    return [
        {"label": REPAIRS[name].label + (or_noise if name == "training" else ""), "value": number(rung.value)}
        | {"span": _span(rung.low, rung.high), "share": round(100 * max(rung.value, 0.0) / total, 2)}
        | {"color": REPAIRS[name].style.color}  # type: ignore[union-attr]
        for name, rung in rungs.items()
    ]
