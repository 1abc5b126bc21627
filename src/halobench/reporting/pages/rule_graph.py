"""The graph of the workflow's rules as SVG: layers from the first rules down, drawn without a layout program."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

HIGH, GAP, SIDE, LETTER = 30, 34, 14, 7.6  # of a box; between layers; between boxes; of a letter at 13 px

Edge = tuple[str, str]


def reduced(edges: Iterable[Edge]) -> set[Edge]:
    """The edges without those that a longer path stands for.

    Examples
    --------
    >>> sorted(reduced([("a", "b"), ("b", "c"), ("a", "c")]))
    [('a', 'b'), ('b', 'c')]
    """
    edges = {(a, b) for a, b in edges if a != b}
    after: dict[str, set[str]] = {}
    for a, b in edges:
        after.setdefault(a, set()).add(b)

    def reaches(a: str, b: str) -> bool:
        left, seen = set(after.get(a, ())) - {b}, set()
        while left:
            node = left.pop()
            seen.add(node)
            left |= after.get(node, set()) - seen
        return b in seen

    return {(a, b) for a, b in edges if not reaches(a, b)}


def depths(edges: Iterable[Edge]) -> dict[str, int]:
    """How long the longest path is that leads to each node.

    Raises
    ------
    ValueError
        If the edges go in a circle.
    """
    above: dict[str, list[str]] = {}
    for a, b in edges:
        above.setdefault(a, [])
        above.setdefault(b, []).append(a)
    depth: dict[str, int] = {}
    try:
        for node in TopologicalSorter(above).static_order():
            depth[node] = max((depth[a] + 1 for a in above[node]), default=0)
    except CycleError:
        raise ValueError("the rules go in a circle") from None
    return dict(sorted(depth.items()))


def spread(edges: Iterable[Edge]) -> tuple[list[Edge], dict[str, int]]:
    """Edges that lead from each layer to the next, with empty nodes where one passes a layer; and all nodes' layers.

    Examples
    --------
    >>> spread([("a", "b"), ("b", "c"), ("a", "c")])[0]
    [('a', ' a c 1'), ('a', 'b'), (' a c 1', 'c'), ('b', 'c')]
    """
    edges = sorted(edges)
    depth = depths(edges)
    found: list[tuple[str, str]] = []
    for a, b in edges:
        between = [f" {a} {b} {level}" for level in range(depth[a] + 1, depth[b])]
        depth |= {node: depth[a] + 1 + i for i, node in enumerate(between)}
        found += zip([a, *between], [*between, b], strict=True)
    return sorted(found, key=lambda edge: (depth[edge[0]], edge)), depth


def layers(edges: Iterable[Edge], depth: Mapping[str, int]) -> list[list[str]]:
    """Nodes by their layer, within it by where those above them stand."""
    found = [sorted(n for n in depth if depth[n] == level) for level in range(max(depth.values(), default=-1) + 1)]
    place: dict[str, float] = {}
    for own in found:
        above = {n: [place[a] for a, b in edges if b == n] for n in own}
        own.sort(key=lambda n: (sum(above[n]) / len(above[n]) if above[n] else 0.0, n))
        place |= {n: (i + 0.5) / len(own) for i, n in enumerate(own)}
    return found


def svg(edges: Iterable[Edge], labels: Mapping[str, str]) -> str:
    """The graph as an SVG element that stands in a page.

    Parameters
    ----------
    edges : iterable of (str, str)
        A rule, and one that reads what it writes.
    labels : mapping
        What nodes are called where that isn't their name.
    """
    told_edges = sorted(reduced(edges))
    steps, depth = spread(told_edges)
    rows = layers(steps, depth)
    told = {node: labels.get(node, node) for node in depth if not is_empty(node)}
    wide = {node: max(56.0, LETTER * len(told[node]) + 18) if node in told else 1.0 for node in depth}
    width = max((sum(wide[n] for n in row) + SIDE * (len(row) - 1) for row in rows), default=0) + 4
    centre = _centres(rows, wide, width)
    height = len(rows) * (HIGH + GAP) - GAP + 4
    lines = "".join(_line(centre[a], centre[b]) + ("" if is_empty(b) else _tip(centre[b])) for a, b in steps)
    lines += "".join(_passing(centre[node]) for node in depth if is_empty(node))
    boxes = "".join(_box(told[n], wide[n], centre[n]) for row in rows for n in row if n in told)
    label = "The workflow's rules: " + "; ".join(f"{told[a]} leads to {told[b]}" for a, b in told_edges)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{html.escape(label)}" '
        f'style="max-width: 100%; height: auto; font: 13px system-ui, sans-serif">{lines}{boxes}</svg>'
    )


def _centres(rows: Sequence[Sequence[str]], wide: Mapping[str, float], width: float) -> dict[str, tuple[float, float]]:
    """Where each box's middle is: rows are centred."""
    found = {}
    for level, row in enumerate(rows):
        left = (width - sum(wide[n] for n in row) - SIDE * (len(row) - 1)) / 2
        for node in row:
            found[node] = (left + wide[node] / 2, 2 + level * (HIGH + GAP) + HIGH / 2)
            left += wide[node] + SIDE
    return found


def is_empty(node: str) -> bool:
    """Whether a node only holds a place for an edge that passes its layer."""
    return node.startswith(" ")


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from the bottom of one box to the top of another."""
    (x0, y0), (x1, y1) = (start[0], start[1] + HIGH / 2), (end[0], end[1] - HIGH / 2)
    middle = (y0 + y1) / 2
    return (
        f'<path d="M{x0:.1f} {y0:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}" '
        f'fill="none" stroke="#767676"/>'
    )


def _tip(end: tuple[float, float]) -> str:
    """The head of a curve that ends at a box."""
    return f'<path d="M{end[0] - 3.5:.1f} {end[1] - HIGH / 2 - 6:.1f}h7l-3.5 6z" fill="#767676"/>'


def _passing(centre: tuple[float, float]) -> str:
    """A straight line where an edge passes a layer."""
    return f'<path d="M{centre[0]:.1f} {centre[1] - HIGH / 2:.1f}v{HIGH}" stroke="#767676"/>'


def _box(text: str, wide: float, centre: tuple[float, float]) -> str:
    """A rule's box with its name."""
    x, y = centre
    return (
        f'<rect x="{x - wide / 2:.1f}" y="{y - HIGH / 2:.1f}" width="{wide:.1f}" height="{HIGH}" rx="6" fill="#eef4f9" '
        f'stroke="#5b7f9d"/><text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" fill="#1a1a1a">'
        f"{html.escape(text)}</text>"
    )
