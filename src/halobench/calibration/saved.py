"""Save a fitted calibrator as one .npz file of JSON and arrays, and open it again, without pickle.

The file has an array ``header``, which is JSON in UTF-8, and the arrays that the JSON refers to by name. The JSON
states the versions of the format and of the packages that wrote the file. It describes the fit as nested data classes
of numbers, text and arrays, under the names that `savable` gives to the classes. Opening a file therefore runs no code
from outside halobench, unless ``trust=True`` allows it. The JSON also has a SHA-256 of all other content, which reveals
edits. With the same package versions, the same fit gives the same bytes.

Later versions can open a saved file, too, since fields that they add have defaults. They may move the package's
classes, since files don't name the modules of these classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from halobench.calibration.scores.sample_scores import softmax
from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError, describe_error, refuse
from halobench.core.plugins.kinds import PACKAGE
from halobench.storage.files import replacing

FORMAT, VERSION = "halobench calibrator", 1
HEADER = "header"
WANTED = "pass a file that a calibrator's save has written, such as calibrator.npz from `halobench diagnose --out`"

# The modules of data classes whose names aren't those of plug-ins' files.
HOMES = (
    "calibrator",
    "floor",
    "calibrators.exact",
    "calibrators.shrunk",
    "repair.columns",
    "repair.groups",
    "repair.trials",
)
PLUG_INS = f"{__package__}.calibrators"
REMEDY = "return a data class of numbers and arrays with the decorator @savable, or set REFITTED = True in the plug-in"

Class = TypeVar("Class", bound=type)
_CLASSES: dict[str, type] = {}
_FORMS: dict[type, str] = {}


def savable(form: str) -> Callable[[Class], Class]:
    """Return a decorator, put above ``@dataclass``, with which a data class may be saved under the name `form`.

    In a calibrator's file that isn't in `HOMES`, `form` is the file's name; for further classes, `form` begins with
    this name and a dot. If a class is outside the package, saved files also name its module, and are opened only with
    ``trust=True``.
    """

    def register(cls: Class) -> Class:
        name, home = form, cls.__module__
        if not home.startswith(f"{PACKAGE.name}."):
            name = f"{home}:{form}"
        elif home not in [f"{__package__}.{module}" for module in HOMES]:
            plug_in, inside = home.rpartition(".")[2], home.startswith(f"{PLUG_INS}.")
            named = inside and form.partition(".")[0] == plug_in
            right = f"call it {plug_in!r}, as its file" if inside else f"list this module in HOMES in {__name__}"
            refuse(not named, home, f"@savable({form!r}): {right}")
        refuse(not dataclasses.is_dataclass(cls), home, f"@savable({form!r}): put it above @dataclass")
        other = _CLASSES.setdefault(name, cls)
        taken = (other.__module__, other.__qualname__) != (home, cls.__qualname__)
        refuse(taken, home, f"@savable({form!r}): {other.__module__} has a class of that name; choose another")
        _CLASSES[name] = cls
        _FORMS[cls] = name
        return cls

    return register


def _class_of(form: str) -> type:
    """Return the class that is saved under a name, importing only the modules that may define it."""
    if form not in _CLASSES:
        plug_in = form.partition(".")[0]
        known = plug_in in plugins.names("calibrators")
        for module in (f"calibrators.{plug_in}",) if known else HOMES:
            importlib.import_module(f"{__package__}.{module}")
    return _CLASSES[form]


def _import_outside(path: Path, form: str) -> None:
    """Import the module of a class outside the package; raise SpecError if this fails or doesn't define the class."""
    module, holds = form.partition(":")[0], f"holds the class {form}"
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise RefusedError(str(path), f"{holds}, whose module can't be imported ({describe_error(error)})") from error
    refuse(form not in _CLASSES, str(path), f"{holds}, which that module no longer defines")


class Savable:
    """A fitted calibrator, which maps logits and can be saved; subclasses are data classes that are `savable`."""

    if TYPE_CHECKING:  # subclasses have it as an attribute or as a property

        @property
        def calibrator(self) -> Any:
            """Return the fit's map as a `halobench.Calibrator`."""

    def logits(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return calibrated logits (n, k) for logits (n, k) or probabilities (n, k).

        Parameters
        ----------
        logits : (n, k) array, or data frame
            A probability of 0 has a logit of -inf. In a data frame with columns logit_NAME or probability_NAME, the
            columns may have any order if the fit knows the names of its classes.
        probabilities : bool, optional
            True if `logits` are probabilities, whose logarithms are then mapped; False if they are logits that may look
            like probabilities. By default, such logits are refused.

        Raises
        ------
        SpecError
            If the logits are not finite (or -inf, if the calibrator takes it) or not (n, k) with the fit's k, if they
            look like probabilities, if the data frame has other classes, or if the fit failed or has no finite optimum.
        """
        return self.calibrator.logits(logits, probabilities)

    def predict_proba(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return calibrated probabilities (n, k), float64; arguments and errors are those of `logits`."""
        return softmax(self.logits(logits, probabilities))

    def save(self, path: Path | str) -> None:
        """Write the calibrator to an .npz file, which `load` opens.

        If the file holds the samples that the calibrator was fitted to, a UserWarning says so.
        """
        write(path, self)

    @classmethod
    def load(cls, path: Path | str, trust: bool = False) -> Self:
        """Return a calibrator that `save` has written.

        Parameters
        ----------
        path : path of an .npz file
        trust : bool
            Whether the file may name a plug-in or class outside the package, whose code is then run.

        Raises
        ------
        SpecError
            If the file is missing, is of another kind or of a later format, was damaged or edited, or names code
            outside the package although `trust` is false.
        """
        fitted = read(path, trust)
        kind = type(fitted).__name__
        refuse(not isinstance(fitted, cls), str(path), f"contains a {kind}; open it by {kind}.load")
        assert isinstance(fitted, cls)
        return fitted


def is_savable(value: Any) -> bool:
    """Return whether a value consists only of values that files may contain."""
    try:
        _encode(value, "", {})
    except SpecError:
        return False
    return True


def write(path: Path | str, fitted: Any) -> None:
    """Write an instance of a `savable` data class, with a warning if it holds samples."""
    arrays: dict[str, np.ndarray] = {}
    try:
        fit = _encode(fitted, "", arrays)
    except SpecError as error:
        raise error.at(str(path)) from None
    header = {"format": FORMAT, "version": VERSION, "packages": _packages(fitted), "fit": fit}
    header["sha256"] = _digest(header, arrays)
    text = np.frombuffer(json.dumps(header, sort_keys=True, allow_nan=False).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{HEADER: text}, **arrays)
    for fields in _fields_of(fit, "refitted"):
        held = f"{path} holds all {len(arrays[fields['labels']['array']]):,} validation samples"
        warnings.warn(f"{held}, since {fields['name']} can't be saved otherwise", stacklevel=3)


def read(path: Path | str, trust: bool = False) -> Any:
    """Return the calibrator in a file that `write` has written; see `Savable.load` for `trust` and the errors."""
    header, arrays = _parts(Path(path))
    newer = f"was saved by halobench {header['packages'].get('halobench')}, whose files this version can't open"
    refuse(header["version"] > VERSION, str(path), f"{newer}; install that version")
    digest = header.pop("sha256", "")
    edited = "was damaged or edited after it was saved (its SHA-256 differs); save it again"
    refuse(_digest(header, arrays) != digest, str(path), edited)
    classes = [form for form, _ in _forms(header["fit"]) if ":" in form]
    names = [str(fields.get("name")) for fields in _fields_of(header["fit"], "refitted")]
    outside = [*(f"the plug-in {name}" for name in names if ":" in name), *(f"the class {form}" for form in classes)]
    if outside and not trust:
        sentence = f"runs {outside[0]}, which isn't part of halobench; if you trust it, pass trust=True"
        raise RefusedError(str(path), sentence)
    for form in classes:
        _import_outside(Path(path), form)
    try:
        fitted = _decode(header["fit"], arrays)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise RefusedError(str(path), f"{newer} (unknown {error})") from None
    refuse(not isinstance(fitted, Savable), str(path), f"contains no calibrator; {WANTED}")
    return fitted


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file."""
    if not path.is_file():
        raise RefusedError(str(path), f"this is a folder; {WANTED}" if path.is_dir() else "no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if HEADER not in arrays:
            raise RefusedError(str(path), f"has the arrays {', '.join(sorted(arrays))}, but no calibrator; {WANTED}")
        header = json.loads(arrays.pop(HEADER).tobytes())
        if header["format"] != FORMAT:
            raise RefusedError(str(path), f"has the format {header['format']!r}, not {FORMAT!r}; {WANTED}")
        known = {"version": int(header["version"]), "packages": dict(header["packages"]), "fit": header["fit"]}
        list(_forms(header["fit"]))  # reaches the bottom, unless it is nested too deeply
        return header | known, arrays
    except SpecError:
        raise
    except Exception as error:  # numpy, zipfile and json raise a dozen types
        sentence = f"isn't a calibrator, or is damaged ({type(error).__name__}); {WANTED}"
        raise RefusedError(str(path), sentence) from None


def _packages(fitted: Any) -> dict[str, str]:
    """Return the versions of the packages that a fit depends on."""
    libraries = fitted.libraries() if hasattr(fitted, "libraries") else ()
    return {name: metadata.version(name) for name in ("halobench", "numpy", *libraries)}


def _digest(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all arrays and of a header that doesn't contain this SHA-256."""
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _encode(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON, and move its arrays to `arrays`, named by their `place` in the value."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, np.generic):
        return _encode(value.item(), place, arrays)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[place] = np.ascontiguousarray(value)
        return {"array": place}
    if isinstance(value, list | tuple):
        return [_encode(entry, f"{place}.{i}".strip("."), arrays) for i, entry in enumerate(value)]
    if isinstance(value, Mapping):
        entries = {str(key): _encode(entry, f"{place}.{key}".strip("."), arrays) for key, entry in value.items()}
        return {"map": entries}
    form = _FORMS.get(type(value), "")
    refuse(not form, "", f"an object of the type {type(value).__name__} can't be saved; {REMEDY}")
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {"form": form, **_encode(fields, place, arrays)}


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the value that `_encode` turned into JSON, with tuples in place of lists."""
    if isinstance(value, list):
        return tuple(_decode(entry, arrays) for entry in value)
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float(value["float"])
    if "array" in value:
        return arrays[value["array"]]
    entries = {key: _decode(entry, arrays) for key, entry in value["map"].items()}
    if "form" not in value:
        return entries
    return _class_of(value["form"])(**entries)


def _fields_of(fit: Any, form: str) -> list[dict[str, Any]]:
    """Return the fields of each object of one form in a fit that is given as JSON."""
    return [fields for each, fields in _forms(fit) if each == form]


def _forms(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the form and the fields of each object in a fit that is given as JSON."""
    if isinstance(value, list):
        for entry in value:
            yield from _forms(entry)
    elif isinstance(value, dict):
        entries = value.get("map", {})
        if "form" in value:
            yield str(value["form"]), entries
        yield from _forms(list(entries.values()))
