"""The verdicts as a page of their own."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from halobench.claims.rules import VERDICTS

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 1rem; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: 0 0 .6rem; max-width: 60rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #c8c8c8; }
thead th { border-bottom: 2px solid #1a1a1a; white-space: nowrap; }
tbody th { font-weight: normal; width: 46%; min-width: 22rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.verdict { white-space: nowrap; font-weight: 600; }
.holds { border-left: 6px solid #0072b2; }
.does_not { border-left: 6px solid #d55e00; }
.undecided { border-left: 6px solid #8a8a8a; }
.not_tested { border-left: 6px dotted #8a8a8a; font-weight: normal; }
.small { font-size: 13px; color: #4a4a4a; }
summary { cursor: pointer; }
"""
_WORDS = {"holds": "holds", "does_not": "does not hold", "undecided": "undecided", "not_tested": "not tested"}


def claims_html(table: pd.DataFrame) -> str:
    """The verdicts as one HTML page that needs no network and no script.

    A row per claim shows scope ``all``; its pairs unfold below the statement. Verdicts are words; colours only repeat
    them.

    Parameters
    ----------
    table : DataFrame
        As `evaluate` returns it.

    Returns
    -------
    str
    """
    heads = ["Claim", "Fit", "Verdict", "Estimate", "95% interval", "Claimed", "Seeds", "Excluded", "Note"]
    body = "\n".join(_claim_row(group) for _, group in table.groupby("claim", sort=False))
    whole = table[table["scope"] == "all"]
    counts = ", ".join(f"{(whole['verdict'] == name).sum()} {_WORDS[name]}" for name in VERDICTS)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Claims and verdicts</title>
<style>{_STYLE}</style>
</head>
<body>
<table>
<caption>Verdicts on {len(whole)} claims over all data set x model pairs: {counts}. Intervals are Student's t over
seeds; a claim holds, or does not, where its interval lies wholly on one side of the margin.</caption>
<thead><tr>{"".join(f'<th scope="col">{head}</th>' for head in heads)}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</body>
</html>
"""
    # ASCII with character references reads the same whatever encoding it is stored or served in.
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _claim_row(group: pd.DataFrame) -> str:
    """One claim's row of the page."""
    first = group.iloc[0]
    scopes: Iterable[Any] = group.iloc[1:].itertuples()
    pairs = "".join(
        f"<li>{html.escape(row.scope)}: {_WORDS[row.verdict]}, {_number(row.estimate)} {_interval(row)}, "
        f"{row.n} seeds{', ' + html.escape(row.note) if row.note else ''}</li>"
        for row in scopes
    )
    details = f"<details><summary>{len(group) - 1} rows by data set and model</summary><ul>{pairs}</ul></details>"
    sign = "&lt;" if first["direction"] == "below" else "&gt;"
    return (
        f'<tr id="{html.escape(first["claim"])}"><th scope="row">{html.escape(first["statement"])}'
        f'<div class="small">{html.escape(first["statistic"])}</div>{details if pairs else ""}</th>'
        f"<td>{html.escape(first['fit'])}</td>"
        f'<td class="verdict {first["verdict"]}">{_WORDS[first["verdict"]]}</td>'
        f'<td class="number">{_number(first["estimate"])}</td><td class="number">{_interval(first)}</td>'
        f'<td class="number">{sign} {first["margin"]:g}</td><td class="number">{first["n"]}</td>'
        f'<td class="number">{first["excluded"]}</td><td class="small">{html.escape(first["note"])}</td></tr>'
    )


def _number(value: float) -> str:
    """A number to three decimals with a real minus sign, a dash where there is none."""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "\N{EN DASH}"


def _interval(row: Any) -> str:
    """The interval of a row of the table."""
    return f"[{_number(row.low)}, {_number(row.high)}]" if np.isfinite(row.low) else "\N{EN DASH}"
