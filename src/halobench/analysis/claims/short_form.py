"""Fill in the keys that a user's own claim may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from halobench.core.errors import refuse, require
from halobench.storage.columns import TABLE_COLUMNS

NEEDED = ("name", "statement", "value", "a", "margin")  # besides `b` or `baselines`, if `a` is compared
# Conditions on the tables' rows, unless a claim has its own.
CONDITIONS = {
    "metrics": {"split": "test", "labels": "clean", "calibrator": "exact"},
    "neighbourhood": {"points": "train"},
    "radii": {"points": "train"},
    "runs": {},
}
UNKNOWN = "after unknown results: the claim doesn't say when it was set"


def filled_in(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim's entry with all mandatory keys; an entry with a `place` must be complete, and isn't changed.

    A `value` may be a metric. Unless the claim says otherwise, scores are on clean test labels after the exact
    temperature fit, and samples are training samples. The sign of the margin gives the direction, unless the margin is
    0 or the claim is about a ratio. The models of a user's own claim need not interpolate. SpecError names a key
    that is missing or can't be inferred.
    """
    if "place" in entry:
        return dict(entry)
    entry = {key: value for key, value in entry.items() if value is not None}
    for key in NEEDED:
        refuse(key not in entry, key, f"missing; a claim needs {', '.join(NEEDED)} and, to compare a, b or baselines")
    statistic = "difference" if "b" in entry else "against_best" if "baselines" in entry else "level"
    shown = str(entry["name"]).replace("_", " ")
    full = {
        "label": shown[:1].upper() + shown[1:],
        "place": "a claim of your own",
        "theme": "own",
        "registered": UNKNOWN,
        "statistic": statistic,
        "kind": "own",
        "interpolating": [],
        **entry,
    }
    full |= _table(entry)
    margin = entry["margin"]
    require(isinstance(margin, int | float) and not isinstance(margin, bool), "margin", margin, "a number")
    if "direction" not in entry:
        signed = margin != 0 and full["statistic"] != "ratio"
        refuse(not signed, "direction", "missing; set below or above, since the margin's sign doesn't say which")
        full["direction"] = "below" if margin < 0 else "above"
    sides = [entry[key] for key in ("a", "b") if isinstance(entry.get(key), Mapping)]
    where = entry.get("where", {})
    if isinstance(where, Mapping):
        own = {column for side in sides for column in side} | set(where)
        defaults = {column: value for column, value in CONDITIONS[full["table"]].items() if column not in own}
        metric = {"metric": entry["value"]} if full["value"] != entry["value"] else {}
        full["where"] = where = {**defaults, **metric, **where}
    fits = {side.get("calibrator") for side in [*sides, where] if isinstance(side, Mapping)} - {None}
    if "fit" not in full and len(fits) == 1 and isinstance(fit := fits.pop(), str):
        full["fit"] = fit
    return full


def _table(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the table and column of a claim's `value`; a `value` that isn't a column of any table is a metric."""
    for key in ("table", "value"):
        require(isinstance(entry.get(key, ""), str), key, entry.get(key), "a name")
    if "table" in entry:
        require(entry["table"] in CONDITIONS, "table", entry["table"], f"one of {', '.join(CONDITIONS)}")
        return {}
    tables = [table for table in CONDITIONS if entry["value"] in TABLE_COLUMNS[table]]
    refuse(len(tables) > 1, "table", f"missing; set {' or '.join(tables)}, which all have a column {entry['value']}")
    return {"table": tables[0]} if tables else {"table": "metrics", "value": "value"}
