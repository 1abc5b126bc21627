"""Build the elements of pages: their frame with style and script, tables that sort, and selects that filter.

Without a script a page shows everything in its first order; the selects appear where a script runs. Style and script
lie here, not in files of their own, so that the code map sees them change.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from halobench.reporting import labels, styles
from halobench.storage import files

STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --quiet: #4a4a4a; --line: #c8c8c8; --link: #00528a; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: var(--ink);
  background: #fff; margin: 0; }
main { padding: 1rem; max-width: 100rem; }
h1 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 52rem; margin: .4rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid #0072b2; outline-offset: 1px; }
.scroll { overflow-x: auto; max-width: 100%; margin: .4rem 0 1.6rem; }
table { border-collapse: collapse; border-top: 2px solid var(--ink); border-bottom: 2px solid var(--ink); }
caption { text-align: left; padding: 0 0 .5rem; }
caption > span { display: block; max-width: min(52rem, 92vw); }
th, td { padding: .2rem .55rem; text-align: left; vertical-align: top; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 1px solid #8a8a8a; background: #fff; }
tbody th { font-weight: normal; background: #fff; }
tbody tr + tr > * { border-top: 1px solid #ececec; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.group-head { text-align: center; }
td.first { padding-left: 1.4rem; }
th.block { font-style: italic; padding-top: .6rem; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .15rem 0; margin: 0;
  text-align: inherit; cursor: pointer; }
th button::after { content: "\\2195"; color: #6b6b6b; padding-left: .3em; font-weight: 400; }
th[aria-sort=ascending] button::after { content: "\\2191"; color: var(--ink); }
th[aria-sort=descending] button::after { content: "\\2193"; color: var(--ink); }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; margin: .8rem 0; padding: .6rem .8rem;
  background: #f3f3f3; border-radius: 6px; }
.filters label { display: grid; gap: .1rem; font-size: 13px; color: #333; }
.filters select, .filters button { font: inherit; font-size: 15px; color: var(--ink); background: #fff;
  min-height: 2.1rem; border: 1px solid #767676; border-radius: 4px; padding: .15rem .5rem; max-width: 80vw; }
.filters button { cursor: pointer; }
.filters output { font-size: 13px; color: #333; padding: .4rem 0; }
.sd, sup, .small { font-size: 13px; color: var(--quiet); }
.note { color: #a3221a; font-weight: 600; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .6rem 0; max-width: 60rem; }
.facts dt { font-weight: 600; } .facts dd { margin: 0; }
.verdict { white-space: nowrap; font-weight: 600; border-left: 6px solid #8a8a8a; }
.verdict.holds { border-left-color: #0072b2; } .verdict.does_not { border-left-color: #d55e00; }
.verdict.not_tested { border-left-style: dotted; font-weight: normal; }
.word { white-space: nowrap; } .word.holds { color: #006647; } .word.does_not { color: #a84300; }
.word ~ .small { white-space: nowrap; } .claims tbody th { min-width: 24rem; }
.claims td:last-child, #pairs td:last-child { min-width: 16rem; }
pre { overflow: auto; font-size: 12px; background: #f3f3f3; padding: .6rem; border-radius: 6px; }
summary { cursor: pointer; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; }
figcaption { max-width: 52rem; margin: 0 0 .4rem; }
.wide tbody th:not(.block), .wide thead tr:first-child > :first-child { position: sticky; left: 0; z-index: 1;
  background: #fff; }
.wide tbody th:not(.block) { white-space: nowrap; }
@media (max-width: 640px) {
  main { padding: .7rem; } .claims tbody th { min-width: 15rem; }
  th, td { padding: .2rem .4rem; } .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; } .wide tbody th:not(.block) { white-space: normal; max-width: 38vw; }
}
@media print {
  @page { size: landscape; margin: 8mm; }
  body { font-size: 9pt; } .wide table { font-size: 6.5pt; } main { padding: 0; max-width: none; }
  .filters, th button::after { display: none !important; }
  .scroll { overflow: visible; } .wide tbody th:not(.block) { position: static; } thead { display: table-header-group; }
  tr, figure { break-inside: avoid; } th, td { padding: .1rem .3rem; }
}
"""

SCRIPT = """
(function () {
  "use strict";
  function all(root, what) { return Array.prototype.slice.call(root.querySelectorAll(what)); }
  function hide(element, gone) { if (gone) element.setAttribute("hidden", ""); else element.removeAttribute("hidden"); }
  function shown(element) { return !element.closest("[hidden]"); }
  function value(row, column) {
    var cell = row.cells[column];
    if (!cell) return "";
    return cell.hasAttribute("data-value") ? cell.getAttribute("data-value") : cell.textContent.trim();
  }
  function order(a, b, numeric) {
    if (!numeric) return a.localeCompare(b, "en", { numeric: true });
    return (Number(a) > Number(b)) - (Number(a) < Number(b));
  }
  // Each body of a table is sorted by itself, below its heading; what has no value comes last whichever way.
  function sort(table, head) {
    var up = head.getAttribute("aria-sort") !== "ascending", numeric = head.getAttribute("data-kind") === "number";
    var column = Number(head.getAttribute("data-column"));
    all(table, "th[aria-sort]").forEach(function (other) { other.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    all(table, "tbody").forEach(function (body) {
      var rows = all(body, "tr.item").map(function (row, i) { return [value(row, column), i, row]; });
      rows.sort(function (a, b) {
        if (a[0] === "" || b[0] === "") return (a[0] === "") - (b[0] === "") || a[1] - b[1];
        return (up ? 1 : -1) * order(a[0], b[0], numeric) || a[1] - b[1];
      });
      rows.forEach(function (row) { body.appendChild(row[2]); });
    });
  }
  // An item goes if it bears another value than one that is chosen; a group goes with the last of its items.
  function filter(form) {
    var root = document.getElementById(form.getAttribute("data-for")), chosen = {};
    all(form, "select").forEach(function (select) { if (select.value) chosen[select.name] = select.value; });
    all(root, ".group").forEach(function (group) { hide(group, false); });
    all(root, ".item").forEach(function (item) {
      hide(item, Object.keys(chosen).some(function (name) {
        return item.hasAttribute("data-" + name) && item.getAttribute("data-" + name) !== chosen[name];
      }));
    });
    all(root, ".group").reverse().forEach(function (group) {
      if (shown(group) && !all(group, ".item").some(shown)) hide(group, true);
    });
    var counted = all(root, ".counted");
    form.querySelector("output").textContent =
      counted.filter(shown).length + " of " + counted.length + " " + form.getAttribute("data-what");
  }
  all(document, "table").forEach(function (table) {
    all(table, "th[aria-sort] button").forEach(function (button) {
      button.addEventListener("click", function () { sort(table, button.parentNode); });
    });
  });
  all(document, "form.filters").forEach(function (form) {
    form.removeAttribute("hidden");
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("change", function () { filter(form); });
    form.querySelector("button").addEventListener("click", function () {
      all(form, "select").forEach(function (select) { select.value = select.getAttribute("data-first") || ""; });
      filter(form);
    });
    filter(form);
  });
})();
"""


def document(title: str, body: str) -> str:
    """Return a whole page in ASCII, with style and script.

    Parameters
    ----------
    title : str
        As text; its heading too.
    body : str
        As HTML.
    """
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
    return as_ascii(text)


def as_ascii(text: str) -> str:
    """Replace all that isn't ASCII by character references, so that HTML reads the same in any encoding."""
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def write(path: Path, text: str) -> None:
    """Write a page, completely or not at all."""
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="ascii", newline="\n")


def note(text: str) -> str:
    """Return a warning that leads a page, e.g. that cells are missing; nothing for an empty text."""
    return f'<p class="note">{html.escape(text)}</p>' if text else ""


# Tables ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column: its heading as text, whether it holds numbers, and what its heading means."""

    heading: str
    number: bool = False
    means: str = ""


@dataclass(frozen=True)
class Entry:
    """What a cell of a table shows, as HTML, and the value that it is sorted by; None is no value, and comes last."""

    shown: str
    value: float | str | None = None


@dataclass(frozen=True)
class Line:
    """A row: what filters know it by, and its entries, of which the first is the row's heading."""

    keys: Mapping[str, str]
    entries: tuple[Entry, ...]


def words(text: str) -> Entry:
    """Return an entry of text, sorted as text."""
    return Entry(html.escape(text), text)


def number(value: float, form: str = ".3f") -> Entry:
    """Return an entry of a number, sorted as such; a dash without a value for NaN.

    Examples
    --------
    >>> number(-0.25).shown, number(float("nan")).shown
    ('−0.250', '–')
    """
    if math.isnan(value):
        return Entry("–")
    if math.isinf(value):
        return Entry("∞" if value > 0 else "−∞", value)
    return Entry(format(value, form).replace("-", "−"), value)


def head(column: Column, index: int) -> str:
    """Return a heading that sorts by its column when it is pressed."""
    kind = "number" if column.number else "text"
    title = f' title="{html.escape(column.means)}"' if column.means else ""
    return (
        f'<th scope="col" class="{kind}" aria-sort="none" data-column="{index}" data-kind="{kind}"{title}>'
        f'<button type="button">{html.escape(column.heading)}</button></th>'
    )


def sort_key(value: float | str | None) -> str:
    """Return the attribute that the script sorts by."""
    if value is None:
        return ' data-value=""'
    if isinstance(value, float) and math.isinf(value):
        return f' data-value="{"-" * (value < 0)}Infinity"'
    return f' data-value="{html.escape(value if isinstance(value, str) else repr(value))}"'


def keyed(keys: Mapping[str, str]) -> str:
    """Return the attributes by which filters recognise an element."""
    return "".join(f' data-{key}="{html.escape(value)}"' for key, value in keys.items())


def table(caption: str, columns: Sequence[Column], lines: Iterable[Line], wide: bool = False) -> str:
    """Return a table whose headings sort it.

    Parameters
    ----------
    caption : str
        As text.
    columns : sequence of Column
    lines : iterable of Line
    wide : bool
        Whether the first column stays in sight as the table scrolls sideways.
    """
    heads = "".join(head(column, i) for i, column in enumerate(columns))
    body = "\n".join(row(line, columns) for line in lines)
    inner = (
        f"<table{' class=wide' if wide else ''}>\n<caption><span>{html.escape(caption)}</span></caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )
    return scrolling(inner, caption)


def row(line: Line, columns: Sequence[Column]) -> str:
    """Return a row of such a table."""
    cells = []
    for i, (entry, column) in enumerate(zip(line.entries, columns, strict=True)):
        kind = ' class="number"' if column.number else ""
        tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
        cells.append(f"<{tag}{scope}{kind}{sort_key(entry.value)}>{entry.shown}</{tag}>")
    return f'<tr class="item counted"{keyed(line.keys)}>{"".join(cells)}</tr>'


def scrolling(inner: str, name: str) -> str:
    """Wrap what may be wider than the window, so that it scrolls by itself, by the keyboard too."""
    label = html.escape(name.partition(":")[0].partition(". ")[0])
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">\n{inner}\n</div>'


# Filters --------------------------------------------------------------------------------------------------------------

KINDS = {
    "dataset": ("Data set", labels.dataset_label, labels.DATASETS),
    "model": ("Model", labels.model_label, labels.MODELS),
    "loss": ("Loss", labels.loss_label, styles.KNOWN_LOSSES),
}


@dataclass(frozen=True)
class Choice:
    """A select: the key that it filters by, its label, its options (value and text), and which of them comes first."""

    key: str
    label: str
    options: tuple[tuple[str, str], ...]
    first: str = ""


def choices(items: Iterable[Mapping[str, str]]) -> list[Choice]:
    """Return selects of data set, model and loss for items with these keys; none if there is nothing to choose."""
    values: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for keys in items:
        for kind in KINDS.keys() & keys.keys():
            values[kind].add(keys[kind])
    selects = []
    for kind, (label, label_of, order) in KINDS.items():
        if len(values[kind]) > 1:
            options = tuple((name, label_of(name)) for name in labels.ordered(values[kind], order))
            selects.append(Choice(kind, label, options))
    return selects


def filters(selects: Sequence[Choice], target: str, what: str) -> str:
    """Return a form that filters the items within the element `target`, and counts `what` is left; or nothing."""
    if not selects:
        return ""
    shown = "".join(map(_select, selects))
    return (
        f'<form class="filters" data-for="{target}" data-what="{html.escape(what)}" aria-label="Filters" hidden>{shown}'
        '<button type="button">Reset filters</button> <output role="status"></output></form>'
    )


def _select(choice: Choice) -> str:
    """Return a select with its label."""
    options = "".join(
        f'<option value="{html.escape(value)}"{" selected" * (value == choice.first)}>{html.escape(text)}</option>'
        for value, text in choice.options
    )
    return (
        f'<label>{html.escape(choice.label)} <select name="{choice.key}" data-first="{html.escape(choice.first)}" '
        f'autocomplete="off"><option value="">all</option>{options}</select></label>'
    )
