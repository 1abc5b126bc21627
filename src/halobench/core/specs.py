"""What a cell is: frozen dataclasses, and their canonical form.

A spec is plain data (strings, numbers, tuples), so it can be written as JSON, hashed, compared and passed on a command
line. Its canonical JSON leaves out values that equal their default: a new option with a default changes no old spec. A
default, once released, must not change: results that were computed with the old one would not be computed again.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FOREIGN = ("timm/", "torchvision/")  # how the names of these libraries' models begin
LARGEST = 2**63  # whole numbers stay below this, so that every table can hold them
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class SpecError(ValueError):
    """Bad input, told in one line: the key, the value and what would be right.

    Parameters
    ----------
    key : str
        Where the value stands, dotted, e.g. ``losses.mixup2.points``.
    value : object
        What was found there.
    expected : str
        What would be right, worded to follow "expected".
    """

    def __init__(self, key: str, value: object, expected: str):
        super().__init__(f"{_printable(str(key))} = {shown(value)}: expected {expected}")
        self.key, self.value, self.expected = key, value, expected

    def within(self, prefix: str) -> SpecError:
        """The same error, its key prefixed by the place of the spec that it speaks of."""
        return SpecError(f"{prefix}.{self.key}" if self.key else prefix, self.value, self.expected)


def shown(value: object, most: int = 200) -> str:
    """`value` as Python writes it, cut to `most` characters: a whole table given by mistake still fits in a line."""
    try:
        text = _printable(repr(value))
    except ValueError:  # Python refuses to write a whole number of more than 4,300 digits
        text = f"a {type(value).__name__} too long to write"
    return text if len(text) <= most else f"{text[:most]}..."


def told(error: BaseException) -> str:
    """What an exception says, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _printable(text: str) -> str:
    """`text` in one line: line ends and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def require(condition: object, key: str, value: object, expected: str) -> None:
    """Raise SpecError unless `condition` is true."""
    if not condition:
        raise SpecError(key, value, expected)


def one_of(names: Iterable[str], value: object = None) -> str:
    """A wording of "one of these names", led by the nearest to `value` where one is near."""
    names = sorted(names)
    if not names:
        return "a name that is defined, and none is"
    return f"one of {', '.join(names)}{hint(names, value)}"


def hint(names: Iterable[str], value: object) -> str:
    """In parentheses, the nearest of `names` to `value`; nothing where none is near, or it is one of them."""
    names = list(names)
    # A check words its message before it knows whether it holds, and a comparison with every name takes time.
    needless = value is None or value in names
    near = [] if needless else difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_name(key: str, value: object) -> str:
    """`value` if it can be a folder's name without leaving its parent; SpecError otherwise."""
    if not isinstance(value, str) or not NAME.fullmatch(value) or ".." in value:
        raise SpecError(
            key, value, "a name of letters, digits, '_', '-', '+' or single '.', at most 64, a letter or digit first"
        )
    return value


@dataclass(frozen=True)
class NoiseSpec:
    """Label noise: with probability `p` a label is replaced, by a rule `kind` drawn from the cell's seed.

    ``cycle``: by the next of one random cycle through all classes; ``map``: by a random fixed other class (two classes
    may share a partner; the paper's); ``uniform``: by any other class, evenly.
    """

    kind: str = "cycle"
    p: float = 0.0

    def __post_init__(self):
        require(
            self.kind in ("cycle", "map", "uniform"), "kind", self.kind, one_of(["cycle", "map", "uniform"], self.kind)
        )
        require(0 <= self.p < 1, "p", self.p, "a probability in [0, 1)")


@dataclass(frozen=True)
class SourceSpec:
    """Where images come from: a loader (a file of ``halobench/data/loaders`` or ``module:object``) and its options."""

    loader: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """A source cut into splits of `train`, `val` and `test` points, with label noise."""

    source: str
    train: int
    val: int
    test: int
    noise: NoiseSpec = NoiseSpec()

    def __post_init__(self):
        for key, least in (("train", 2), ("val", 1), ("test", 1)):
            require(getattr(self, key) >= least, key, getattr(self, key), f"at least {least}")


@dataclass(frozen=True)
class ModelSpec:
    """A model's builder: a file of ``models/architectures``, ``timm/NAME``, ``torchvision/NAME`` or ``module:object``.

    `resize` is the side, in pixels, that images are interpolated to before they enter the model; None leaves them.
    `stem`, of models of timm and torchvision, is ``plain``, as they have it, or ``small``: a 3x3 convolution of stride
    1 without pooling behind it.

    With `weights`, a .safetensors file, or `pretrained`, the weights that timm publishes, nothing is trained.
    `preprocess` is then whose preprocessing the model gets: ``timm``, as the weights were trained with, or ``dataset``,
    the data set's, as for models trained here. `trained_on` is the source that the weights were trained on: only around
    its points does a probe speak of training points.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resize: int | None = None
    stem: str = "plain"
    weights: str | None = None
    pretrained: bool = False
    preprocess: str | None = None
    trained_on: str | None = None

    def __post_init__(self):
        require(self.resize is None or self.resize >= 1, "resize", self.resize, "a side in pixels, at least 1")
        require(self.stem in ("plain", "small"), "stem", self.stem, one_of(("plain", "small"), self.stem))
        foreign = self.name.startswith(FOREIGN)
        require(foreign or self.stem == "plain", "stem", self.stem, "plain, but for models of timm and torchvision")
        both = self.weights is not None and self.pretrained
        require(not both, "weights", self.weights, "either weights or pretrained, not both")
        timm = self.of_timm
        require(timm or not self.pretrained, "pretrained", self.pretrained, "a model of timm's, or `weights: FILE`")
        known = self.preprocess in (None, "timm", "dataset")
        require(known, "preprocess", self.preprocess, one_of(("timm", "dataset"), self.preprocess))
        for key in ("preprocess", "trained_on"):
            value = getattr(self, key)
            require(value is None or self.given, key, value, "this key beside `weights` or `pretrained` alone")
        require(timm or self.preprocess != "timm", "preprocess", self.preprocess, "dataset: it is no model of timm's")

    @property
    def of_timm(self) -> bool:
        """Whether it is one of timm's."""
        return self.name.startswith("timm/")

    @property
    def given(self) -> bool:
        """Whether its weights come from elsewhere, so that it isn't trained."""
        return self.pretrained or self.weights is not None

    @property
    def own_preprocessing(self) -> bool:
        """Whether it gets timm's preprocessing."""
        return self.given and self.of_timm and self.preprocess in (None, "timm")

    def fitted_on(self, source: str) -> bool:
        """Whether it was fitted to a source's points."""
        return not self.given or self.trained_on == source


@dataclass(frozen=True)
class LossSpec:
    """A loss (a file of ``halobench/losses`` or ``module:object``) and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


# The keys of a recipe that a probe reads, and those that count for a model which isn't trained.
PROBED = ("precision", "channels_last", "eval_batch", "device", "threads")
EVALUATED = (*PROBED, "deterministic")


@dataclass(frozen=True)
class TrainSpec:
    """The recipe of training. Learning rates are per step; `warmup` and `epochs` count epochs.

    `shift` and `flip` are augmentation, drawn anew for each image in each epoch: the pixels, down and right, that it is
    moved by at most (a random crop of the image with its border repeated), and whether it is mirrored every other time.
    `micro_batch` is how many images pass through the model at once: gradients of a batch are added up over such parts,
    so that it takes less memory (batch norm then sees parts). `compile` hands training steps to torch.compile.
    Without `deterministic`, kernels may be chosen by trial and add up in any order: on a GPU that is faster, and bytes
    may differ from run to run. `threads` is the number of threads of the numerical libraries on the CPU: it can change
    the last bits of a result.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch: int = 50
    epochs: int = 50
    schedule: str = "cosine"
    warmup: int = 2
    shift: int = 0
    flip: bool = False
    micro_batch: int | None = None
    compile: bool = False
    deterministic: bool = True
    precision: str = "float32"
    channels_last: bool = False
    eval_batch: int = 250
    device: str = "auto"
    threads: int = 1

    def __post_init__(self):
        for key, names in (
            ("optimizer", ("adam", "adamw", "sgd")),
            ("schedule", ("cosine", "constant")),
            ("precision", ("float32", "bf16")),
        ):
            require(getattr(self, key) in names, key, getattr(self, key), one_of(names, getattr(self, key)))
        require(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device), "device", self.device, "auto, cpu, cuda or cuda:N")
        require(self.lr > 0, "lr", self.lr, "a learning rate above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number of at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")
        for key in ("batch", "epochs", "eval_batch", "threads"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        fits = self.micro_batch is None or 1 <= self.micro_batch <= self.batch
        require(fits, "micro_batch", self.micro_batch, f"at least 1, and at most the batch, {self.batch}")
        for key in ("warmup", "shift"):
            require(getattr(self, key) >= 0, key, getattr(self, key), "at least 0")
        fewer = f"epochs in [0, {self.epochs}), fewer than epochs"
        require(self.warmup < self.epochs, "warmup", self.warmup, fewer)


def check_known(kind: str, key: str, name: str, own: Iterable[str]) -> None:
    """Raise SpecError unless `name` is one of the package's `own`, or a plug-in of the kind."""
    from halobench.core import plugins  # which imports this module

    if name in own:
        hidden = plugins.folder(kind) / f"{name}.py"
        require(not hidden.exists(), key, name, f"another name for {kind}/{name}.py: the package has one of its own")
        return
    try:
        plugins.locate(kind, name)
    except SpecError as error:
        known = (*own, *plugins.names(kind))
        expected = error.expected if ":" in name or name in known else f"{one_of(known, name)} or module:object"
        raise SpecError(key, name, expected) from None


PROBE_KINDS = ("sphere", "nearest_other", "mixup_line", "manifold")


@dataclass(frozen=True)
class ProbeSpec:
    """One probe: which directions, around how many points, at which distances.

    `points` training points and `control` held-out points are visited, with `directions` rays each. `radii` are
    distances in normalised pixels; `relative_radii` are multiples of a point's distance to its nearest training point
    of another label. `threshold` is the label confidence under which certainty has ended; `components` is how many
    principal components the ``manifold`` probe spans; `bisections` halve the bracket of each radius.
    """

    kind: str
    points: int = 150
    control: int = 100
    directions: int = 1
    radii: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0)
    relative_radii: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
    threshold: float = 0.9
    components: int = 32
    bisections: int = 6

    def __post_init__(self):
        check_known("probes", "kind", self.kind, PROBE_KINDS)
        for key in ("points", "directions", "components", "bisections"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        require(self.control >= 0, "control", self.control, "at least 0")
        require(0 < self.threshold < 1, "threshold", self.threshold, "a confidence in (0, 1)")
        for key in ("radii", "relative_radii"):
            values = getattr(self, key)
            increasing = all(a < b for a, b in itertools.pairwise(values))
            require(values and values[0] >= 0 and increasing, key, list(values), "increasing distances of at least 0")
        if self.kind == "nearest_other":
            require(self.directions == 1, "directions", self.directions, "1: a point has one nearest other-label point")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """The plug-in that it runs, if any."""
        return [] if self.kind in PROBE_KINDS else [("probes", self.kind)]


CALIBRATORS = ("none", "exact", "released", "oracle")
POSTHOC = (
    "vector",
    "matrix",
    "isotonic",
    "histogram",
    "ensemble",
)  # as well, where asked for: halobench.calibration.calibrator
EXTRA = {"matrix": ("posthoc", ("probmetrics", "numba"))}  # the extra, and its packages, that a calibrator needs


@dataclass(frozen=True)
class CalibrateSpec:
    """Which calibrators are fitted and how metrics are taken: equal-width `bins`, bootstrap `draws`, `floor_draws`."""

    calibrators: tuple[str, ...] = CALIBRATORS
    bins: int = 15
    draws: int = 1000
    floor_draws: int = 200

    def __post_init__(self):
        for name in self.calibrators:
            check_known("calibrators", "calibrators", name, CALIBRATORS + POSTHOC)
        unique = self.calibrators and len(set(self.calibrators)) == len(self.calibrators)
        require(unique, "calibrators", list(self.calibrators), "at least one calibrator, each once")
        for key in ("bins", "draws", "floor_draws"):
            require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """The plug-ins that it runs."""
        return [("calibrators", name) for name in self.calibrators if name not in CALIBRATORS + POSTHOC]


def check_installed(calibrators: Iterable[str]) -> None:
    """Raise SpecError, which names the extra, if a package that fits a calibrator isn't here. None is imported."""
    for name in calibrators:
        extra, packages = EXTRA.get(name, ("", ()))
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        told = f"{' and '.join(packages)} to be installed, which fit it: pip install --editable '.[{extra}]'"
        require(not missing, "calibrators", name, told)


def parse(cls: type, mapping: Mapping[str, Any]) -> Any:
    """Build the spec `cls` from a mapping: keys and types are checked, whole floats may be given as integers.

    A field named ``options`` takes every key that is not a field's name (and a key ``options`` itself).

    Raises
    ------
    SpecError
        On an unknown key, a missing one, or a value of another type or out of its range.
    """
    if not isinstance(mapping, Mapping):
        raise SpecError("", mapping, f"a mapping with the keys {', '.join(f.name for f in dataclasses.fields(cls))}")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    options = _options(mapping) if "options" in fields else {}
    for key, value in mapping.items():
        if key == "options" and "options" in fields:
            continue
        if key not in fields:
            if "options" not in fields:
                raise SpecError(str(key), value, f"a key among {', '.join(fields)}{hint(fields, key)}")
            options[str(key)] = value
            continue
        values[key] = _convert(hints[key], key, value)
    if "options" in fields:
        values["options"] = {key: _plain_option(key, value) for key, value in options.items()}
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SpecError(name, None, "a value: it has no default")
    return cls(**values)


def _options(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The key ``options`` of a mapping, itself a mapping."""
    options = mapping.get("options", {})
    require(isinstance(options, Mapping), "options", options, "a mapping of keys")
    return {str(key): value for key, value in options.items()}


def _plain_option(key: str, value: Any) -> Any:
    """A plug-in's option if JSON can hold it (no dates, no infinities); SpecError otherwise."""
    if isinstance(value, Mapping):
        return {str(inner): _plain_option(f"{key}.{inner}", v) for inner, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_option(f"{key}[{i}]", v) for i, v in enumerate(value)]
    plain = value is None or isinstance(value, str | bool | int | float)
    require(plain, key, value, "a number, a string, true, false, null, or a list or mapping of such")
    require(not isinstance(value, float) or math.isfinite(value), key, value, "a finite number")
    return value


def _convert(hint: Any, key: str, value: Any) -> Any:
    """`value` as the type `hint`, or a SpecError that says which type is meant."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        try:
            return parse(hint, value)
        except SpecError as error:
            raise error.within(key) from None
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return None if value is None else _convert(inner[0], key, value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SpecError(key, value, "a list")
        return tuple(_convert(typing.get_args(hint)[0], f"{key}[{i}]", v) for i, v in enumerate(value))
    if hint is bool:
        require(isinstance(value, bool), key, value, "true or false")
        return value
    if hint in (int, float):
        return convert_number(hint, key, value)
    if hint is str:
        require(isinstance(value, str), key, value, "a string")
    return value


def convert_number(kind: type, key: str, value: Any) -> Any:
    """`value` as `kind` (int or float); a string that looks like a number is named as YAML's trap that it is."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise SpecError(key, value, "a number") from None
        require(math.isfinite(number), key, value, "a finite number")
        written = str(int(number)) if kind is int and number.is_integer() else f"{_plain(number)} (with a dot)"
        raise SpecError(key, value, f"a number, but YAML read a string: write {written}, unquoted")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SpecError(key, value, "a whole number" if kind is int else "a number")
    require(isinstance(value, int) or math.isfinite(value), key, value, "a finite number")
    # A whole number beyond every float's range would overflow in float() below.
    require(isinstance(value, float) or abs(value) < LARGEST, key, value, "a number below 2**63")
    if kind is int:
        require(float(value).is_integer() and abs(value) < LARGEST, key, value, "a whole number below 2**63")
    return kind(value)


def _plain(number: float) -> str:
    """A number as YAML 1.1 reads it back: with a dot in the mantissa and a sign in the exponent."""
    text = repr(number)
    mantissa, e, exponent = text.partition("e")
    return text if not e else f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"


def canonical(spec: Any) -> dict[str, Any]:
    """A spec as a plain dict without the values that equal their defaults (options of plug-ins are kept as given)."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value == default:
            continue
        out[f.name] = canonical(value) if dataclasses.is_dataclass(value) else _listed(value)
    return out


def _listed(value: Any) -> Any:
    """Tuples as lists, at every depth, so that a value equals its own JSON round trip."""
    if isinstance(value, tuple | list):
        return [_listed(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _listed(v) for key, v in value.items()}
    return value


def to_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN. A dataclass is made canonical first."""
    plain = canonical(value) if dataclasses.is_dataclass(value) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
