"""Read claims, with their conditions, statistic, margin and direction, from a file such as workflow/claims.yaml."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, Field

from halobench.analysis.claims.short_form import filled_in
from halobench.analysis.identities import COLUMNS as PLUGINS
from halobench.analysis.identities import KIND_OF, plugin_text
from halobench.analysis.names import (
    CALIBRATIONS,
    DATASETS,
    LOSSES,
    METRIC_PARTS,
    MODELS,
    PROBES,
    REGION_METRICS,
    THEMES,
)
from halobench.analysis.radii_summary import QUARTILES, SCALES
from halobench.core import plugins
from halobench.core.errors import SpecError, check_name, naming, one_of, refuse, require
from halobench.core.formatting import within
from halobench.core.plugins.facts import of_metric
from halobench.core.specs.codec import Number, Text, parse, spec, to_json
from halobench.storage.columns import REFERENCE, SURVIVAL_COLUMNS, TABLE_COLUMNS

# How the registration of a claim may begin.
REGISTERED = ("before any run", "with the first runs", "after ")
CLASSES = 5  # number of values of k needed to fit a slope on log k

# The tables that claims may read, each with the columns that they may use.
CLAIMABLE = {name: TABLE_COLUMNS[name] for name in ("metrics", "neighbourhood", "radii", "runs")}

COMPARISON = re.compile(r"(>=|<=|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")

# The columns that distinguish the rows of a cell; a claim must have a condition on each.
ROW_COLUMNS = {
    "metrics": ("split", "labels", "calibrator", "metric"),
    "neighbourhood": ("points", "probe"),
    "radii": ("points", "probe", "quantity", "calibrator"),
    "runs": (),
}
LADDER_PREFIX = "repair_"  # prefix of the metrics of repair ladders
# The smallest and largest values that a measure can take, from which it follows whether a margin can be reached.
# Metrics state theirs in their files; a measure that is neither there nor here has no known bounds.
BOUNDS = {
    **dict.fromkeys(("confidence", "censored", "paper_near_exact", "ece_floor", *SURVIVAL_COLUMNS), (0.0, 1.0)),
    **{f"{scale}_{level}": (0.0, math.inf) for scale in SCALES for level in QUARTILES},
}
# The titles of a column's values, for the texts of entries that define several claims.
TITLES = {"loss": LOSSES, "calibrator": CALIBRATIONS, "probe": PROBES, "dataset": DATASETS, "model": MODELS}
TEXTS = ("statement", "label")
SIDES = ("where", "a", "b", "otherwise", "baselines")  # the keys of conditions

Conditions = dict[str, Any]


@spec
class Claim:
    """A claim and the rule for judging it.

    A side's conditions, together with `where`, must select one row per cell and fix one `loss`. A condition on a column
    of the table or of ``runs`` is a value, a list of values, a comparison (``">0"``) or a pattern (``"overlap*"``). A
    loss or model is given by its name in the configuration or, whatever this name is, by its plug-in (``{name: mixup,
    points: 2}``).

    For ``against_best``, the best baseline in the grid is chosen for each data set x model pair, by its mean over
    seeds, not seed by seed, because the best baseline per seed would beat any baseline that a user could pick. Any
    optimism in the choice of the baseline favours the baseline, not the claim.
    """

    name: Annotated[Text, AfterValidator(functools.partial(check_name, ""))] = Field(
        description="The claim's name in tables."
    )
    label: Text = Field(description="A short name for pages and figures.")
    statement: Text = Field(description="The claim in plain words.")
    place: Text = Field(description="Where the paper makes the claim, or what the test checks.")
    theme: Text = Field(description=f"The theme of the claim: {', '.join(THEMES)}.")
    registered: Text = Field(
        description="When the claim and its margin were set, compared with the runs that they judge. It begins"
        f" with {' or '.join(repr(start.strip()) for start in REGISTERED)}, then what was seen, a commit and a date."
    )
    statistic: Literal["level", "difference", "against_best", "slope", "ratio"] = Field(
        description="level: `value` of side `a`; difference: a minus b; against_best: a minus the best of `baselines`;"
        " slope: the slope of `value` of side `a` on log k, where k is the number of classes; ratio: a over b, both"
        " positive. In a ratio, a and b name one data set each or, as in a difference, are paired within data set"
        " and model. The mean and interval of a ratio are computed on its logarithm."
    )
    table: Literal["metrics", "neighbourhood", "radii", "runs"] = Field(description="The table to read.")
    value: Text = Field(description="The column to read or, in a claim of your own, a metric.")
    a: Conditions = Field(description="Conditions by column on the side that the claim is about.")
    direction: Literal["below", "above"] = Field(
        description="The side of the margin on which the claim puts the statistic."
    )
    margin: Number = Field(
        description="The threshold, with its sign, in the unit of `value` (for slope: per unit of log k)."
    )
    kind: Literal["paper", "check", "repair", "own"] = Field(
        default="paper",
        description="A claim of the paper, a check of what the paper takes for granted, a test of further repair, or a"
        " claim of your own.",
    )
    fit: Text = Field(default="none", description="The calibrator whose fit the claim is about.")
    where: Conditions = Field(default_factory=dict, description="Conditions on all sides.")
    b: Conditions | None = Field(default=None, description="Conditions on the side that `a` is compared with.")
    otherwise: Conditions | None = Field(
        default=None, description="Conditions that replace those of `b` in cells where b has no value."
    )
    baselines: Conditions | None = Field(
        default=None, description="Conditions that the losses to choose from meet, for against_best."
    )
    best: Literal["lowest", "highest"] | None = Field(
        default=None,
        description="Which baseline is the best, for against_best; by default, the lowest if smaller values of the"
        " metric are better, and the highest if larger ones are.",
    )
    interpolating: tuple[Text, ...] | None = Field(
        default=None,
        description="Losses whose cells must interpolate; by default, all of the claim's losses or, for a claim of your"
        " own, none.",
    )

    def __post_init__(self):
        require(self.value in CLAIMABLE[self.table], "value", self.value, one_of(CLAIMABLE[self.table], self.value))
        require(self.theme in THEMES, "theme", self.theme, one_of(THEMES, self.theme))
        require(self.registered.startswith(REGISTERED), "registered", self.registered, _REGISTRATION)
        positive = self.statistic != "ratio" or self.margin > 0
        require(positive, "margin", self.margin, "a margin above 0, since ratios are compared by their logarithms")
        needed = {"difference": "b", "ratio": "b", "against_best": "baselines"}.get(self.statistic)
        for key in ("b", "baselines"):
            missing, unused = (
                f"missing; set it, since {self.statistic} needs it",
                f"{self.statistic} doesn't use this key; leave it out",
            )
            wrong = (getattr(self, key) is not None) != (key == needed)
            refuse(wrong, key, missing if key == needed else unused)
        if self.statistic == "level":
            (lowest, highest), above = self.bounds, self.direction == "above"
            reached = lowest <= self.margin < highest if above else lowest < self.margin <= highest
            expected = f"a margin within reach, since {self.measure} lies between {lowest:g} and {highest:g}"
            require(reached, "margin", self.margin, expected)
        reason = f"missing; set lowest or highest, since {self.measure} doesn't say which is better (LOWER_IS_BETTER)"
        refuse(self.statistic == "against_best" and self.lowest_is_best is None, "best", reason)
        require(self.b != self.a, "b", self.b, "conditions that differ from those of a")
        require(self.baselines != self.a, "baselines", self.baselines, "conditions that differ from those of a")
        paired = self.b is not None and not self.across_datasets
        refuse(
            self.otherwise is not None and not paired,
            "otherwise",
            "only claims that pair a with b have this key; leave it out",
        )
        self._check_conditions("where", self.where)
        for key, conditions in self._named_sides().items():
            self._check_conditions(key, conditions)
            self._check_side(key, conditions)
        self._check_conditions("baselines", self.baselines or {})
        losses = {side["loss"] for side in self.sides} - {REFERENCE}
        for loss in self.interpolating or ():
            in_claim = loss in losses or self.baselines is not None
            require(in_claim, "interpolating", loss, f"a loss of this claim: {one_of(losses, loss)}")

    def _named_sides(self) -> dict[str, Conditions]:
        """Return the conditions of each of the claim's sides, without `where`."""
        sides = {"a": self.a, "b": self.b, "otherwise": self.otherwise}
        return {key: conditions for key, conditions in sides.items() if conditions is not None}

    def _check_conditions(self, key: str, conditions: Conditions) -> None:
        """Refuse conditions on unknown columns, conditions on columns also in `where`, and malformed conditions."""
        columns = {*CLAIMABLE[self.table], *CLAIMABLE["runs"]} - {"seed", self.value}
        for column, condition in conditions.items():
            place = f"{key}.{column}"
            require(column in columns, place, condition, f"another key: {one_of(columns, column)}")
            twice = key != "where" and column in self.where
            refuse(twice, place, "`where` has this column too; keep only one of the two")
            _check_condition(place, condition)

    def _check_side(self, key: str, conditions: Conditions) -> None:
        """Refuse a side without a single loss, with several rows per cell or, if paired, with a data set or model."""
        loss = {**self.where, **conditions}.get("loss")
        require(_is_name(loss), f"{key}.loss", loss, "the name of a single loss, here or in `where`")
        require(key != "a" or loss != REFERENCE, "a.loss", loss, "a trained loss, since a reference can only be b")
        for column in ROW_COLUMNS[self.table] if loss != REFERENCE else ():
            fixed = column in conditions or column in self.where
            reason = f"missing; set {column} here or in `where`, since a cell has rows for several"
            refuse(not fixed, f"{key}.{column}", reason)
        dataset = conditions.get("dataset")
        if self.across_datasets:
            expected = "the name of a single data set, since a ratio compares two"
            require(_is_name(dataset), f"{key}.dataset", dataset, expected)
            refuse("model" in conditions, f"{key}.model", "sides can't differ in the model; move this key to `where`")
        elif self.statistic in ("difference", "against_best", "ratio"):
            reason = "sides are paired by this column; move it to `where`"
            refuse("dataset" in conditions, f"{key}.dataset", reason)
            refuse("model" in conditions and loss != REFERENCE, f"{key}.model", reason)

    @property
    def across_datasets(self) -> bool:
        """Return whether the statistic is a ratio between two data sets."""
        return self.statistic == "ratio" and any("dataset" in side for side in (self.a, self.b or {}))

    @property
    def sides(self) -> list[dict[str, Any]]:
        """Return all conditions on each side, including `where`: first on a, then on b and `otherwise`, if given."""
        return [{**self.where, **conditions} for conditions in self._named_sides().values()]

    @property
    def measure(self) -> str:
        """Return the name of the metric or column whose values are compared."""
        return str(self.sides[0].get("metric", "metric")) if self.value == "value" else self.value

    @property
    def lowest_is_best(self) -> bool | None:
        """Return whether lower values are better among baselines; None if neither claim nor metric says so."""
        return self.best == "lowest" if self.best else of_metric(self.measure).lower_is_better

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the smallest and largest values that the measure can take; infinite if unknown."""
        return BOUNDS.get(self.measure) or of_metric(METRIC_PARTS.get(self.measure, self.measure)).bounds

    @property
    def formula(self) -> str:
        """Return the statistic as a formula on one line."""
        a, *others = (described(conditions) for key, conditions in self._named_sides().items() if key != "otherwise")
        where = f" where {described(self.where)}" if self.where else ""
        body = {
            "level": a,
            "difference": f"({a}) - ({', '.join(others)})",
            "against_best": f"({a}) - best of ({described(self.baselines or {})})",
            "slope": f"{a}, on log k",
            "ratio": f"({a}) / ({', '.join(others)})",
        }[self.statistic]
        otherwise = f", or {described(self.otherwise)} if b has no value" if self.otherwise is not None else ""
        return f"{self.statistic} of {self.table}.{self.value}: {body}{otherwise}{where}"

    def must_interpolate(self, loss: str) -> bool:
        """Return whether cells with a given loss count only if they interpolate."""
        return loss != REFERENCE and (self.interpolating is None or loss in self.interpolating)


_REGISTRATION = (
    'when it was set, compared with the runs that it judges: text that begins with "before any run", "with the first'
    ' runs" or "after "'
)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and "*" not in value


def _check_condition(key: str, condition: Any) -> None:
    """Refuse a condition that isn't a value, a list of values, a comparison or a pattern."""
    expected = "a value, a list of values, a comparison or a pattern"
    for one in condition if isinstance(condition, list | tuple) else [condition]:
        require(isinstance(one, str | int | float | bool), key, one, expected)
        compares = isinstance(one, str) and one[:1] in tuple("<>!=")
        require(not compares or COMPARISON.fullmatch(one), key, one, 'a comparison with a number, e.g. ">0" or "!=10"')


def plain_names(condition: Any) -> list[str]:
    """Return the names in a condition, without patterns and comparisons."""
    values = condition if isinstance(condition, list | tuple) else [condition]
    return [value for value in values if isinstance(value, str) and not {*"*<>=!"} & {*value}]


def described(conditions: Mapping[str, Any]) -> str:
    """Format conditions on one line, e.g. ``loss mixup2, noise >0``."""
    words = []
    for column, condition in conditions.items():
        shown = " or ".join(map(str, condition)) if isinstance(condition, list | tuple) else str(condition)
        words.append(f"{column} {shown or 'none'}")
    return ", ".join(words)


# --- Reading the rules -----------------------------------------------------------------------------------------------


def load_claims(path: Path | str) -> list[Claim]:
    """Read the claims in a YAML file; raise SpecError if a claim is invalid or two claims have the same name.

    An entry with ``each: {column: [values]}`` defines one claim per combination of values, which replace ``{column}``
    in all of its strings; in `statement` and `label`, the values' titles replace it.
    """
    from halobench.storage.yaml_io import read_yaml  # YAML isn't in the core, whose pages read this module's constants

    content = read_yaml(path)
    listed = isinstance(content, Mapping) and set(content) == {"claims"} and isinstance(content["claims"], list)
    keys = sorted(map(str, content)) if isinstance(content, Mapping) else content
    require(listed, str(path), keys, "the single key 'claims' with a list of claims")
    try:
        return _parsed(content["claims"])
    except SpecError as error:
        raise error.at(f"{path}: {error.key}") from None


def check_computed(claims: Iterable[Claim], metrics: Iterable[str], calibrators: Iterable[str]) -> None:
    """Raise SpecError if a claim reads a metric or calibrator that isn't computed, since no run would test the claim.

    Conditions that are patterns or comparisons may match any name, so they aren't checked.
    """
    computed = {"metric": {*metrics, "ece_floor", *REGION_METRICS}, "calibrator": {*calibrators}}
    for claim in claims:
        for side, (column, names) in itertools.product(claim.sides if claim.table != "runs" else (), computed.items()):
            for value in plain_names(side.get(column, ())):
                known = value in names or value.startswith(LADDER_PREFIX)
                require(known, f"claims.{claim.name}.{column}", value, one_of(names, value))


def claims_digest(claims: Iterable[Claim]) -> str:
    """Return the SHA-256 of claims, which doesn't depend on comments or on the order of keys."""
    content = to_json([dataclasses.asdict(claim) for claim in claims])
    return hashlib.sha256(content.encode()).hexdigest()


def _parsed(entries: list[Any]) -> list[Claim]:
    """Return the claims that the file's entries define."""
    claims: dict[str, Claim] = {}
    for position, entry in enumerate(entries):
        place = f"claims[{position}]"
        require(isinstance(entry, Mapping), place, entry, "a claim's keys and values")
        for variant in _variants(entry, place):
            with naming(f"claims.{variant.get('name', position)}"):
                claim = parse(Claim, filled_in(_with_plugins(variant)))
                require(claim.name not in claims, "name", claim.name, "a name not used by any other claim")
            claims[claim.name] = claim
    return list(claims.values())


def _with_plugins(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim's entry; plug-ins given in place of names become JSON (`identities.plugin_text`)."""
    read = {key: entry[key] for key in SIDES if isinstance(entry.get(key), Mapping)}
    sides = {
        key: {column: _plugin(f"{key}.{column}", column, each) for column, each in side.items()}
        for key, side in read.items()
    }
    names = entry.get("interpolating")
    listed = (
        {"interpolating": [_plugin("interpolating", "loss", name) for name in names]} if isinstance(names, list) else {}
    )
    return {**entry, **sides, **listed}


def _plugin(place: str, column: str, condition: Any) -> Any:
    """Return a condition, writing a plug-in of a model or loss, e.g. ``{name: mixup, points: 2}``, as JSON."""
    if column not in PLUGINS or not isinstance(condition, Mapping):
        return condition
    kind, rest = KIND_OF[column], {str(key): value for key, value in condition.items()}
    name = rest.pop("name", None)
    require(
        isinstance(name, str), f"{place}.name", name, f"the name of one of the {kind}, e.g. {{name: mixup, points: 2}}"
    )
    with naming(place):
        return plugin_text({"name": name, "options": plugins.find(kind, str(name)).without_defaults(rest)})


def resolved(claim: Claim, runs: pd.DataFrame) -> Claim:
    """Return a claim in which plug-ins are replaced by the names that they have in a grid.

    `runs` has a row per cell. SpecError is raised if no name in the grid stands for a plug-in, or several names do.
    """

    def name(column: str, value: Any) -> Any:
        if column not in PLUGINS or not (isinstance(value, str) and value.startswith("{")):
            return value
        stand_for = runs.get(PLUGINS[column], pd.Series(dtype=object, index=runs.index))
        found = sorted(set(runs.loc[stand_for == value, column]))
        known = f"those of the grid are {', '.join(sorted(set(stand_for.dropna()))) or 'unknown'}"
        refuse(not found, column, f"no {column} of the grid is {value}; {known}")
        refuse(len(found) > 1, column, f"{' and '.join(found)} are both {value}; name one of them")
        return found[0]

    sides = {key: getattr(claim, key) for key in SIDES}
    changes: dict[str, Any] = {
        key: {column: name(column, value) for column, value in side.items()} for key, side in sides.items() if side
    }
    if claim.interpolating:
        changes["interpolating"] = tuple(name("loss", loss) for loss in claim.interpolating)
    same = all(getattr(claim, key) == value for key, value in changes.items())
    return claim if same else dataclasses.replace(claim, **changes)


def _variants(entry: Mapping[str, Any], place: str) -> Iterator[dict[str, Any]]:
    """Yield the claims that an entry defines: one or, with ``each``, one per combination of values."""
    each = entry.get("each", {})
    lists = isinstance(each, Mapping) and all(isinstance(values, list) and values for values in each.values())
    expected = "a non-empty list of values for each placeholder, e.g. {loss: [mixup2, mixup5]}"
    require(lists, f"{place}.each", each, expected)
    for key in each:
        reason = f"the claim's name {entry.get('name')!r} must contain {{{key}}}, so that all names differ"
        refuse(f"{{{key}}}" not in str(entry.get("name", "")), f"{place}.each.{key}", reason)
    rest = {key: value for key, value in entry.items() if key != "each"}
    for values in itertools.product(*each.values()):
        filled = dict(zip(each, values, strict=True))
        titles = {column: _title(column, str(value)) for column, value in filled.items()}
        yield {key: _filled(value, titles if key in TEXTS else filled) for key, value in rest.items()}


def _title(column: str, value: str) -> str:
    """Return the title of a column's value as written within a sentence."""
    named = TITLES.get(column, {})
    label = named[value].label if value in named else value
    return within(label) if column in ("probe", "dataset") else label


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Return `value` with every ``{placeholder}`` in its strings replaced, at any depth."""
    if isinstance(value, str):
        for key, text in values.items():
            value = value.replace(f"{{{key}}}", str(text))
        return value
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    return [_filled(item, values) for item in value] if isinstance(value, list) else value
