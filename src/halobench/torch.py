"""Use a fitted calibrator as a PyTorch module, which can be trained through, exported and deployed.

::

    import torch

    from halobench import Calibrator
    from halobench.torch import Calibrated

    calibrated = Calibrated(Calibrator.load("calibrator.npz"), model)
    probabilities = calibrated.predict_proba(inputs)
    torch.onnx.export(calibrated, (inputs,), "calibrated.onnx", dynamo=True)

The module's probabilities equal the calibrator's up to rounding: to about 1e-12 in float64 and 1e-6 in float32. Without
a model, the module's inputs are logits, or probabilities with ``probabilities=True``. Gradients flow through the map to
the logits; the map itself is fixed, so its numbers are buffers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from halobench.calibration.arrays import as_array, as_probabilities, check_logits, check_unscaled
from halobench.calibration.calibrator import Calibrator, CheckedMap, accepts_zeros
from halobench.calibration.calibrators.exact import Tempering
from halobench.calibration.calibrators.matrix import Matrix
from halobench.calibration.calibrators.partner import PartnerFit
from halobench.calibration.calibrators.top_rest import TopRest
from halobench.calibration.floor import Floored
from halobench.calibration.saved import Savable
from halobench.calibration.scores.sample_scores import logarithm
from halobench.core.errors import Found, RefusedError, refuse, require
from halobench.core.extras import explained

with explained(__name__):
    import torch
    from torch import nn
    from torch.nn import functional

__all__ = ["Calibrated"]

ENDLESS = float("-inf")


class Calibrated(nn.Module):
    """A model followed by a calibrator's map, or the map alone.

    Parameters
    ----------
    fitted : Calibrator, AutoFit, PartnerFit or TemperatureFit
        Its map must be temperature, top-versus-rest, partner or matrix scaling, with or without a floor.
    model : nn.Module, optional
        Maps inputs to logits or probabilities (n, k), with the classes in the order of the fit.
    probabilities : bool, optional
        True if the model returns probabilities or, without a model, if inputs are probabilities; their logarithms are
        then mapped. False for logits, even if they look like probabilities. By default, logits that look like
        probabilities are refused. An exported module no longer checks its inputs.

    Attributes
    ----------
    names : tuple of str
        The names of the classes in the order of the columns; empty if they are unknown.

    Raises
    ------
    SpecError
        If the calibrator has another map or no map. In calls, if the logits or probabilities to map aren't as
        `probabilities` says, or have another number of classes than the fit.
    """

    def __init__(self, fitted: Savable, model: nn.Module | None = None, probabilities: bool | None = None):
        super().__init__()
        path = isinstance(fitted, str | os.PathLike)
        refuse(path, "", f"Calibrated takes a fitted calibrator; pass Calibrator.load({str(fitted)!r})")
        calibrator = getattr(fitted, "calibrator", None)
        expected = "a fitted calibrator, such as Calibrator.load(path) or a classifier's calibrator_"
        require(isinstance(calibrator, Calibrator), "fitted", Found(f"a {type(fitted).__name__}"), expected)
        assert isinstance(calibrator, Calibrator)
        if calibrator.transform is None:
            raise RefusedError("this calibrator couldn't be fitted", calibrator.reason or "separable data")
        self.model = nn.Identity() if model is None else model
        self.map = _module(calibrator.transform)
        self.probabilities = probabilities
        self._zeros = accepts_zeros(calibrator.transform)
        self.names: tuple[str, ...] = calibrator.names
        self.classes: int = calibrator.classes

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return calibrated logits (n, k), in the dtype of the model's logits; their softmax is calibrated."""
        rows = self.model(inputs)
        if self.classes and rows.shape[-1] != self.classes:
            expected = f"{self.classes}, one for each class in the fit"
            require(False, "logits", Found(f"{rows.shape[-1]} columns"), expected)
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            self._check(rows.detach())
        calibrated: torch.Tensor = self.map(rows.log() if self.probabilities else rows)
        return calibrated

    def _check(self, rows: torch.Tensor) -> None:
        """Raise SpecError for invalid probabilities (n, k) or, by default, for logits that look like probabilities."""
        if self.probabilities:
            check_logits(logarithm(as_probabilities(as_array(rows))), self._zeros)
        # Most logits have one below 0, so they needn't be copied from a GPU.
        elif self.probabilities is None and rows.numel() and float(rows.amin()) >= 0:
            check_unscaled(as_array(rows), advice="if they are probabilities, pass probabilities=True")

    def predict_proba(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return calibrated probabilities (n, k)."""
        return torch.softmax(self(inputs), dim=-1)


class _Map(nn.Module):
    """A map whose numbers are buffers, which are used in the dtype of the logits."""

    def __init__(self, **numbers: Any):
        super().__init__()
        for name, value in numbers.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64).clone())

    def _as(self, logits: torch.Tensor) -> Callable[[str], torch.Tensor]:
        """Return a function that gets a buffer in the dtype of the logits."""
        return lambda name: getattr(self, name).to(logits.dtype)


class _Tempering(_Map):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits - logits.amax(dim=1, keepdim=True)) * self._as(logits)("beta")


class _Matrix(_Map):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        get = self._as(logits)
        centred = (logits - logits.mean(dim=1, keepdim=True)) / get("unit")
        linear = centred @ get("weights")[:-1] + get("weights")[-1]
        return (logits - logits.amax(dim=1, keepdim=True)) * get("beta") + linear


class _TopRest(_Map):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        get = self._as(logits)
        top = _is_top(logits)
        u = (logits - logits.amax(dim=1, keepdim=True)) * get("beta")
        odds = -u.masked_fill(top, ENDLESS).logsumexp(dim=1, keepdim=True)
        rest = (u * get("w")).masked_fill(top, ENDLESS).log_softmax(dim=1)
        return torch.where(top, get("v") * odds + get("c"), rest)


class _Partner(_Map):
    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        get = self._as(logits)
        place, top = logits.argmax(dim=1), _is_top(logits)
        below = logits - logits.amax(dim=1, keepdim=True)
        gap = -below.masked_fill(top, ENDLESS).amax(dim=1, keepdim=True)
        h, u = 2 * gap / (gap + get("mean_gap")), below * get("beta")
        w, v = get("which"), get("top")
        scores = w[0] * u + (w[1] + w[2] * h) * get("counts")[place]
        others = scores.masked_fill(top, ENDLESS).log_softmax(dim=1)
        mean = (others.exp() * u).sum(dim=1, keepdim=True)
        odds = -u.masked_fill(top, ENDLESS).logsumexp(dim=1, keepdim=True)
        score = v[0] * odds + v[1] + v[2] * h + v[3] * mean + get("classes")[place][:, None]
        return torch.where(top, functional.logsigmoid(score), others + functional.logsigmoid(-score))


class _Floored(_Map):
    def __init__(self, inner: nn.Module, **numbers: float):
        super().__init__(**numbers)
        self.inner = inner

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        get = self._as(logits)
        calibrated: torch.Tensor = self.inner(get("scale") * (logits.softmax(dim=1) + get("floor")).log())
        return calibrated


def _is_top(logits: torch.Tensor) -> torch.Tensor:
    """Return a bool tensor (n, k) that is True at the first of each row's largest logits."""
    return logits.argmax(dim=1, keepdim=True) == torch.arange(logits.shape[1], device=logits.device)


def _module(transform: Any) -> nn.Module:
    """Return the module of a calibrator's map."""
    match transform:
        case CheckedMap():
            return _module(transform.transform)
        case Floored():
            return _Floored(_module(transform.transform), floor=transform.floor, scale=transform.scale)
        case Tempering():
            return _Tempering(beta=transform.beta)
        case Matrix():
            return _Matrix(weights=transform.weights, beta=transform.beta, unit=transform.unit)
        case TopRest():
            return _TopRest(beta=transform.beta, w=transform.w, v=transform.v, c=transform.c)
        case PartnerFit():
            numbers = {name: getattr(transform, name) for name in ("which", "top", "classes", "beta", "mean_gap")}
            return _Partner(**numbers, counts=transform.log_counts(transform.confusions))
    sentence = "can't be a module; choose temperature, top-versus-rest, partner or matrix scaling"
    raise RefusedError("", f"the map {type(transform).__name__} {sentence}")
