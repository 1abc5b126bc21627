"""Save fitted calibrators as one .npz file of JSON and arrays, and open them again, without pickle.

The file has an array ``header``, which is JSON in UTF-8, and the arrays that the JSON refers to by name. The JSON says
which version of the format and of which packages wrote the file, and describes the fit as nested data classes: numbers,
text, arrays, and the names in `FORMS`, so opening a file runs no code that isn't halobench's. The JSON also has a
SHA-256 of itself and all arrays, so edits are noticed. The same fit always gives the same bytes.

A file is opened by this version and later ones: fields that are added have defaults, and classes may move, since files
contain only their names in `FORMS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from halobench.calibration.scores.sample_scores import softmax
from halobench.core.errors import RefusedError, SpecError, refuse
from halobench.storage.files import replacing

FORMAT, VERSION = "halobench calibrator", 1
HEADER = "header"
WANTED = "pass a file that a calibrator's save has written, such as calibrator.npz from `halobench diagnose --out`"

# The data classes that files may contain, by the names that they have there: module and class.
FORMS = {
    "calibrator": ("calibrator", "Calibrator"),
    "checked": ("calibrator", "CheckedMap"),
    "refitted": ("calibrator", "Refitted"),
    "temperature_fit": ("temperature.temperature_scaling", "TemperatureFit"),
    "temperature": ("temperature.temperature_scaling", "Tempering"),
    "partner": ("repair.partner_scaling", "PartnerFit"),
    "auto": ("repair.auto", "AutoFit"),
    "gain": ("repair.trials", "Gain"),
    "confidence": ("repair.trials", "Confidence"),
    "shrunk": ("repair.shrunk", "ShrunkFit"),
    "mismatch": ("repair.columns", "Mismatch"),
    "groups": ("repair.groups", "Groups"),
    "floored": ("floor", "Floored"),
    "top_rest": ("calibrators.top_rest", "TopRest"),
    "gap": ("calibrators.gap", "Gap"),
    "matrix": ("calibrators.matrix", "Matrix"),
    "dirichlet": ("calibrators.dirichlet", "Dirichlet"),
    "confusion_mix": ("calibrators.confusion_mix", "ConfusionMix"),
    "noise_layer": ("calibrators.noise_layer", "NoiseLayer"),
}
NAMES = {f"{__package__}.{module}.{name}": form for form, (module, name) in FORMS.items()}


class Savable:
    """A fitted calibrator, which maps logits and can be saved; subclasses are data classes in `FORMS`."""

    if TYPE_CHECKING:  # subclasses have it as an attribute or as a property

        @property
        def calibrator(self) -> Any:
            """The fit's map, a `halobench.Calibrator`."""

    def logits(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return calibrated logits (n, k), float64, for logits (n, k) or probabilities (n, k).

        Parameters
        ----------
        logits : (n, k) array, or data frame
            A probability of 0 has a logit of -inf. In a data frame with columns logit_NAME or probability_NAME, the
            columns may have any order if the fit knows the names of its classes.
        probabilities : bool, optional
            True if `logits` are probabilities, whose logarithms are then mapped; False if they are logits, even if they
            look like probabilities, which are refused otherwise.

        Raises
        ------
        SpecError
            If the logits are not finite (or -inf, for temperatures) or not (n, k) with the fit's k, if they look like
            probabilities, if the data frame has other classes, or if no optimum is finite.
        """
        return self.calibrator.logits(logits, probabilities)

    def predict_proba(self, logits: Any, probabilities: bool | None = None) -> np.ndarray:
        """Return calibrated probabilities (n, k), float64; arguments and errors are those of `logits`."""
        return softmax(self.logits(logits, probabilities))

    def save(self, path: Path | str) -> None:
        """Write the calibrator to an .npz file, which `load` opens; the same fit gives the same bytes."""
        write(path, self)

    @classmethod
    def load(cls, path: Path | str, trust: bool = False) -> Self:
        """Open a calibrator that `save` has written.

        Parameters
        ----------
        path : path of an .npz file
        trust : bool
            Whether the file may name a plug-in outside the package, ``module:object``, whose code is then run.

        Raises
        ------
        SpecError
            If the file is missing, is of another kind or of a later format, or was damaged or edited.
        """
        fitted = read(path, trust)
        kind = type(fitted).__name__
        refuse(not isinstance(fitted, cls), str(path), f"contains a {kind}; open it by {kind}.load")
        assert isinstance(fitted, cls)
        return fitted


def is_savable(value: Any) -> bool:
    """Return True if a value consists of what files may contain."""
    try:
        _encode(value, "", {})
    except TypeError:
        return False
    return True


def write(path: Path | str, fitted: Any) -> None:
    """Write a data class that is listed in `FORMS`."""
    arrays: dict[str, np.ndarray] = {}
    header = {"format": FORMAT, "version": VERSION, "packages": _packages(fitted), "fit": _encode(fitted, "", arrays)}
    header["sha256"] = _digest(header, arrays)
    text = np.frombuffer(json.dumps(header, sort_keys=True, allow_nan=False).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{HEADER: text}, **arrays)


def read(path: Path | str, trust: bool = False) -> Any:
    """Open a file that `write` has written; see `Savable.load` for its argument and errors."""
    header, arrays = _parts(Path(path))
    newer = f"was saved by halobench {header['packages'].get('halobench')}, whose files this version can't open"
    refuse(header["version"] > VERSION, str(path), f"{newer}; install that version")
    digest = header.pop("sha256", "")
    edited = "was damaged or edited after it was saved (its SHA-256 differs); save it again"
    refuse(_digest(header, arrays) != digest, str(path), edited)
    if not trust and (plug_ins := _outside(header["fit"])):
        sentence = f"runs the plug-in {plug_ins[0]}, which isn't part of halobench; if you trust it, pass trust=True"
        raise RefusedError(str(path), sentence)
    try:
        fitted = _decode(header["fit"], arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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
        return header | {"version": int(header["version"]), "packages": dict(header["packages"])}, arrays
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
    """Return the SHA-256 of a header without its own, and of all arrays."""
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _encode(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON, moving arrays, which are named by their `place` in it, to `arrays`."""
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
    form = NAMES.get(f"{type(value).__module__}.{type(value).__qualname__}")
    if form is None:
        raise TypeError(f"{type(value).__name__} isn't a form in which calibrators are saved")
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
    module, name = FORMS[value["form"]]
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)(**entries)


def _outside(value: Any) -> list[str]:
    """Return the names of the plug-ins outside the package that would be run to apply a fit."""
    if isinstance(value, list):
        return [name for entry in value for name in _outside(entry)]
    if not isinstance(value, dict):
        return []
    named = value.get("map", {}).get("name", "") if value.get("form") == "refitted" else ""
    return [named] * (":" in str(named)) + [name for entry in value.get("map", {}).values() for name in _outside(entry)]
