"""The page of panels: curves and reliability of each data set and model, of which selects leave what is asked for.

The drawings are SVG of a few hundred bytes a line, so that a page holds what would else take a picture for each pair.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from halobench.reporting import labels, table_views
from halobench.reporting.pages import elements
from halobench.reporting.pages.elements import Choice
from halobench.reporting.styles import KNOWN_LOSSES, Style, loss_styles

WIDE, HIGH, LEFT, TOP, BOTTOM = 214, 150, 34, 8, 22  # of a drawing, in px, and the room around its axes
CALIBRATORS = ("none", "released", "exact")
STYLE = """
<style>
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .4rem 0 1rem; font-size: 14px; }
.legend svg, .drawings svg { display: block; } .legend span { display: inline-flex; align-items: center; gap: .35rem; }
.drawings { display: flex; flex-wrap: wrap; gap: .4rem 1rem; } .drawing { width: 214px; }
.drawing p { font-size: 13px; line-height: 1.3; min-height: 2.6em; display: flex; align-items: end; margin: 0;
  color: #333; } figcaption { font-weight: 600; }
svg text { font: 11px system-ui, sans-serif; fill: #333; }
</style>
"""


def page(experiment: str, tables: Mapping[str, pd.DataFrame], note: str = "") -> str:
    """The page of an experiment's panels.

    Parameters
    ----------
    experiment : str
    tables : mapping
        ``neighbourhood`` and ``reliability``, as aggregated.
    note : str
        Leads it, e.g. that cells are missing.
    """
    curves, bins = _curves(tables["neighbourhood"]), _bins(tables["reliability"])
    title = f"Panels of {experiment}: confidence around points, and reliability"
    cells = table_views.cells_in(pd.concat([tables["neighbourhood"], tables["reliability"]]))
    losses = labels.ordered({*table_views.losses_in(curves), *table_views.losses_in(bins)}, KNOWN_LOSSES)
    styles = loss_styles(losses)
    drawn = [_figure(cell, curves, bins, losses, styles) for cell in cells]
    shown = "\n".join(filter(None, drawn)) or "<p>There is nothing to show.</p>"
    keys = [{"dataset": d, "model": m, "loss": loss} for d, m in cells for loss in losses]
    selects = [*elements.choices(keys), *_views(curves, bins)]
    body = (
        f"{STYLE}{elements.note(note)}\n{TOLD}\n{elements.filters(selects, 'panels', 'panels')}\n"
        f'<div id="panels">{_legend(losses, styles)}{shown}</div>'
    )
    return elements.document(title, body)


TOLD = f"""<p>A panel is a data set and a model; a line is a loss, as a mean over seeds. <b>Confidence</b>: how sure the
model is of a point's own label (the one trained on) on the way out from the point; 1 on the horizontal axis is as far
as the nearest training point of another label. Solid lines are around training points, dashed ones around held-out
points, the control. <b>Reliability</b>: accuracy on test data against confidence in bins, pooled over seeds; below the
diagonal a model is more confident than it is right. Bins of fewer than {labels.FEW} points are left out.</p>"""


def _curves(neighbourhood: pd.DataFrame) -> pd.DataFrame:
    """Mean confidence over seeds at relative distances."""
    table, _ = table_views.own_points(table_views.relative_rows(neighbourhood))
    by = ["dataset", "model", "probe", "loss", "points", "relative_radius"]
    return table.groupby(by, sort=True, as_index=False)[["confidence"]].mean()


def _bins(reliability: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in bins of confidence, pooled over seeds."""
    rows = reliability[reliability["calibrator"].isin(CALIBRATORS) & (reliability["loss"] != "reference")]
    pooled = table_views.pooled_bins(table_views.preferred_labels(rows), ["dataset", "model", "loss", "calibrator"])
    return pooled[pooled["count"] >= labels.FEW]


def _views(curves: pd.DataFrame, bins: pd.DataFrame) -> list[Choice]:
    """The select of what is drawn: each probe, and reliability after each calibrator."""
    probes = labels.ordered(curves["probe"], labels.PROBES)
    options = [(probe, f"Confidence: {labels.probe_label(probe).lower()}") for probe in probes]
    there = set(bins["calibrator"])
    options += [(c, f"Reliability: {labels.calibrator_label(c)}") for c in CALIBRATORS if c in there]
    return [Choice("view", "Drawing", tuple(options))] if len(options) > 1 else []


def _legend(losses: Iterable[str], styles: Mapping[str, Style]) -> str:
    """What the colours say."""
    keys = "".join(
        f'<span class="item" data-loss="{html.escape(loss)}"><svg width="26" height="10" aria-hidden="true">'
        f'<path d="M0 5h26" stroke="{styles[loss].color}" stroke-width="3"/></svg>'
        f"{html.escape(labels.loss_label(loss))}</span>"
        for loss in losses
    )
    return f'<div class="legend">{keys}</div>'


def _figure(
    cell: tuple[str, str],
    curves: pd.DataFrame,
    bins: pd.DataFrame,
    losses: Sequence[str],
    styles: Mapping[str, Style],
) -> str:
    """All drawings of a data set and model; nothing where there are none."""
    curves, bins = (t[(t["dataset"] == cell[0]) & (t["model"] == cell[1])] for t in (curves, bins))
    end = float(curves["relative_radius"].max()) if len(curves) else 1.0
    drawn = []
    for probe in labels.ordered(curves["probe"], labels.PROBES):
        own = curves[curves["probe"] == probe]
        lines = "".join(_confidence(own[own["loss"] == loss], loss, styles[loss], end) for loss in losses)
        drawn.append(_drawing(probe, labels.probe_label(probe), lines, end, _words(own), "distance"))
    for calibrator in CALIBRATORS:
        own = bins[bins["calibrator"] == calibrator]
        lines = "".join(_reliability(own[own["loss"] == loss], loss, styles[loss]) for loss in losses)
        title = f"Reliability, {labels.calibrator_label(calibrator)}"
        if lines:
            drawn.append(_drawing(calibrator, title, _diagonal() + lines, 1.0, title, "confidence"))
    if not drawn:
        return ""
    keys = elements.keyed({"dataset": cell[0], "model": cell[1]})
    return (
        f'<figure class="item group counted"{keys}><figcaption>{html.escape(labels.cell_label(*cell))}</figcaption>'
        f'<div class="drawings">{"".join(drawn)}</div></figure>'
    )


def _words(own: pd.DataFrame) -> str:
    """A drawing in words: where each loss's line begins and ends."""
    told = []
    for loss, rows in own[own["points"] == "train"].groupby("loss", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        told.append(
            f"{labels.loss_label(str(loss))} from {first['confidence']:.2f} at the point to {last['confidence']:.2f} "
            f"at {last['relative_radius']:g}"
        )
    return "Confidence: " + "; ".join(told)


def _drawing(view: str, title: str, lines: str, end: float, label: str, below: str) -> str:
    """A pair of axes from 0 to `end` and from 0 to 1, with what is drawn in them."""
    grid = "".join(f"M{LEFT} {_y(v):.1f}H{WIDE - 4}" for v in (0, 0.5, 1)) + f"M{_x(1, end):.1f} {TOP}V{HIGH - BOTTOM}"
    texts = "".join(
        f'<text x="{LEFT - 5}" y="{_y(v) + 4:.1f}" text-anchor="end">{v:g}</text>' for v in (0, 0.5, 1)
    ) + "".join(
        f'<text x="{_x(v, end):.1f}" y="{HIGH - BOTTOM + 13}" text-anchor="middle">{v:g}</text>' for v in _ticks(end)
    )
    name = f'<text x="{(LEFT + WIDE) / 2:.0f}" y="{HIGH - 1 + 6}" text-anchor="middle">{below}</text>'
    return (
        f'<div class="drawing item group" data-view="{html.escape(view)}"><p>{html.escape(title)}</p>'
        f'<svg viewBox="0 0 {WIDE} {HIGH + 8}" width="{WIDE}" role="img" aria-label="{html.escape(label)}">'
        f'<path d="{grid}" stroke="#dddddd" fill="none"/>{lines}{texts}{name}</svg></div>'
    )


def _ticks(end: float) -> tuple[float, ...]:
    """What stands on the horizontal axis."""
    return (0, 0.5, 1) if end <= 1 else (0, 1, end)


def _x(value: float, end: float) -> float:
    return LEFT + (WIDE - LEFT - 8) * value / end


def _y(value: float) -> float:
    return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * value


def _diagonal() -> str:
    """Where confidence is what accuracy is."""
    return f'<path d="M{_x(0, 1):.1f} {_y(0):.1f}L{_x(1, 1):.1f} {_y(1):.1f}" stroke="#8a8a8a" fill="none"/>'


def _path(points: Iterable[tuple[float, float]], end: float, look: str) -> str:
    """A line through points."""
    steps = "L".join(f"{_x(x, end):.1f} {_y(y):.1f}" for x, y in points)
    return f'<path d="M{steps}" fill="none" {look}/>' if steps else ""


def _confidence(own: pd.DataFrame, loss: str, style: Style, end: float) -> str:
    """A loss's lines, around training points and held-out ones."""
    made = ""
    for points, look in (("heldout", 'stroke-dasharray="4 3" stroke-width="1.2"'), ("train", 'stroke-width="2"')):
        rows = own[own["points"] == points]
        made += _path(_pairs(rows, "relative_radius", "confidence"), end, f'stroke="{style.color}" {look}')
    return f'<g class="item" data-loss="{html.escape(loss)}">{made}</g>' if made else ""


def _reliability(own: pd.DataFrame, loss: str, style: Style) -> str:
    """A loss's line with a mark for each bin."""
    pairs = _pairs(own, "confidence", "accuracy")
    if not pairs:
        return ""
    marks = "".join(f'<circle cx="{_x(x, 1):.1f}" cy="{_y(y):.1f}" r="2.2" fill="{style.color}"/>' for x, y in pairs)
    line = _path(pairs, 1.0, f'stroke="{style.color}" stroke-width="1.6"')
    return f'<g class="item" data-loss="{html.escape(loss)}">{line}{marks}</g>'


def _pairs(table: pd.DataFrame, x: str, y: str) -> list[tuple[Any, Any]]:
    """Two columns as points."""
    return list(zip(table[x].tolist(), table[y].tolist(), strict=True))
