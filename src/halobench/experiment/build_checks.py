"""Check, by building them, that a configuration's losses can score a batch and its models accept their images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError, describe_error, require
from halobench.core.spec_codec import parse, to_json
from halobench.core.specs import IMAGE_KEYS, DatasetSpec, LossSpec, ModelSpec, SourceSpec
from halobench.data import sources, splits

SMALL = (1, 4, 4)  # the shape of the images that losses are tried on


def run(request: Any) -> tuple[list[str], dict[str, Any]]:
    """Build everything in a request.

    Parameters
    ----------
    request : dict
        As returned by `halobench.experiment.build_request`. Sources under its key ``described`` aren't built.

    Returns
    -------
    list of str
        A line for each problem.
    dict
        Under ``sources``, the number of classes and the bytes of each source; under ``weights``, by model and source,
        the bytes of each model's weights and buffers (0 if the model can't be built).
    """
    build = _Build(request)
    build.check_sources()
    build.check_datasets()
    build.check_losses()
    build.check_models()
    build.check_displays()
    sizes = {
        name: {
            "classes": source.classes,
            "bytes": (source.size or 0) * math.prod(source.shape) * sources.sample_type(source.shape).itemsize,
        }
        for name, source in build.descriptions.items()
    }
    return list(dict.fromkeys(build.problems)), {"sources": sizes, "weights": build.weights}


class _Build:
    """One pass over a request; later checks skip whatever depends on a part that has a problem."""

    def __init__(self, request: Mapping[str, Any]):
        self.request = request
        self.problems: list[str] = []
        self.descriptions: dict[str, sources.Description] = {}
        self.weights: dict[str, dict[str, int]] = {}
        self.sound_losses: set[str] = set()
        self.rows: dict[tuple[Any, ...], int | None] = {}  # by loss, batch and shape of a sample

    def check_sources(self) -> None:
        """Describe each source, unless the request already does."""
        described = self.request.get("described", {})
        for name, spec in self.request["sources"].items():
            if name in described:
                self.descriptions[name] = sources.Description(**described[name])
                continue
            description = self._try(f"sources.{name}", lambda spec: sources.describe(parse(SourceSpec, spec)), spec)
            if description is not None:
                self.descriptions[name] = description

    def check_datasets(self) -> None:
        """Check that sources have enough images for the splits of each data set."""
        for name, spec in self.request["datasets"].items():
            dataset = parse(DatasetSpec, spec)
            if source := self.descriptions.get(dataset.source):
                self._try(f"datasets.{name}", splits.check_size, dataset, source.size, source.parts)

    def check_losses(self) -> None:
        """Score a batch with each loss."""
        for name, spec in self.request["losses"].items():
            if self._try(f"losses.{name}", lambda spec: check_loss(parse(LossSpec, spec)), spec):
                self.sound_losses.add(name)

    def check_models(self) -> None:
        """Check each model on images from each source it is used with, in batches like those that its losses make."""
        sizes: dict[tuple[Any, ...], int] = {}
        for pair in self.request["pairs"]:
            name, source = pair["model"], pair["source"]
            description = self.descriptions.get(source)
            rows = self._rows(pair, description)
            if description is None:
                continue
            model = parse(ModelSpec, self.request["models"][name])
            self._try("", check_augmentation, pair, description.shape)
            part = smallest_part(pair, rows)
            # Many losses and batch sizes lead to the same smallest part.
            key = (name, source, part, pair["points"], part < 2 and to_json(pair))
            if key not in sizes:
                arguments = (model, description, pair, rows)
                sizes[key] = self._try("", check_model, *arguments, plugin=f"models.{name}") or 0
            self.weights.setdefault(name, {})[source] = sizes[key]
            if sizes[key]:
                for probe in pair.get("certified", ()):
                    self._try(f"probes.{probe}", check_certified, model, description, name)

    def check_displays(self) -> None:
        """Import the figures and tables that come from outside the package."""
        for kind, name in self.request["displays"]:
            self._try(kind, plugins.load, kind, name)

    def _rows(self, pair: Mapping[str, Any], source: sources.Description | None) -> int:
        """Return the number of rows in a model's training batches, which a loss may increase."""
        if "loss" not in pair:
            return 2  # nothing is trained
        name, batch = pair["loss"], pair["batch"]
        shape = SMALL if source is None or len(source.shape) == 3 else tuple(source.shape)
        key = (name, batch, shape)
        if name in self.sound_losses and key not in self.rows:
            spec = parse(LossSpec, self.request["losses"][name])
            self.rows[key] = self._try(f"losses.{name}", check_batch, spec, batch, shape)
        return self.rows.get(key) or batch

    def _try(self, place: str, check: Callable[..., Any], *arguments: Any, plugin: str = "") -> Any:
        """Return the result of `check`; if it raises anything, record that and return None.

        The keys of its SpecErrors are relative to `place`. Other exceptions are blamed on `plugin` or, by default,
        `place`.
        """
        try:
            return check(*arguments)
        except SpecError as error:
            self.problems.append(str(error.within(place) if place else error))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            self.problems.append(unbuildable(plugin or place, error))
        return None


def unbuildable(place: str, error: BaseException) -> str:
    """Return the line that reports a plug-in that raised something other than a SpecError."""
    return f"{place}: expected a plug-in that can be built ({describe_error(error)})"


def check_loss(spec: LossSpec, batch: int = 4, classes: int = 3, shape: tuple[int, ...] = SMALL) -> int:
    """Build a loss and score a batch with it, as training would; return the number of rows it turns the batch into.

    Raises
    ------
    SpecError
        If the loss can't be built, its mix doesn't return a batch, or it doesn't return a finite mean loss with a
        gradient for the logits.
    """
    import numpy as np
    import torch

    from halobench.losses import base

    loss = base.build(spec)
    images, labels = torch.rand(batch, *shape), torch.arange(batch) % classes
    targets = labels if base.takes_labels(loss) else torch.eye(classes)[labels]
    try:
        mixed, soft = loss.mix(images, targets, np.random.default_rng(0))
        shapes = tuple(mixed.shape), tuple(soft.shape)
        logits = torch.linspace(-1, 1, len(soft) * classes).view(-1, classes).requires_grad_()
        value = loss(logits, soft)
        kind = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        learns = kind == () and value.requires_grad
        number = value.item() if learns else 0.0
    except SpecError as error:  # raised for these samples
        raise SpecError("name", spec.name, f"a loss for these samples, but this one takes {error.expected}") from None
    except Exception as error:
        raise SpecError("name", spec.name, f"a loss that can score a batch ({describe_error(error)})") from error
    rows = max(shapes[1][0], 1) if shapes[1] else 1
    if shapes != ((rows, *images.shape[1:]), (rows, *targets.shape[1:])):
        batch_shapes = f"a batch with shapes {tuple(images.shape)} and {tuple(targets.shape)}"
        wanted = f"{batch_shapes}, possibly with a different number of rows (at least one, and the same in both)"
        raise SpecError("name", spec.name, f"a loss whose mix returns {wanted}, not {shapes[0]} and {shapes[1]}")
    if not learns:
        raise SpecError(
            "name", spec.name, f"a loss that returns a scalar tensor with a gradient for each batch, not {kind}"
        )
    require(math.isfinite(number), "name", spec.name, f"a loss that is finite for logits from -1 to 1, not {number}")
    return rows


def check_batch(spec: LossSpec, batch: int, shape: tuple[int, ...] = SMALL) -> int:
    """Check a loss on a training batch of `batch` samples; return the number of rows it turns the batch into.

    Raises
    ------
    SpecError
        As in `check_loss`, and also if more samples are to be mixed than a batch contains.
    """
    from halobench.losses import base
    from halobench.losses.mixup import Mixup

    loss = base.build(spec)
    if isinstance(loss, Mixup) and loss.points > batch:
        what = f"at most the batch size, {batch}, since each mixed point is from another ordering of the batch"
        raise SpecError("points", loss.points, what)
    return check_loss(spec, batch, shape=shape)


def check_certified(spec: ModelSpec, description: sources.Description, name: str) -> None:
    """Raise SpecError, naming the layer, if a model has a layer that can't be bounded."""
    from halobench.models import shape_check

    try:
        shape_check.check_piecewise(spec, description.shape, description.classes)
    except SpecError as error:
        what = f"models without {error.value}, which can't be certified; certification needs {error.expected}"
        raise SpecError("models", name, what) from None


def check_augmentation(pair: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise SpecError if training would pad images (C, H, W) by at least their side, or treat features as images."""
    if len(shape) == 1:
        for key in IMAGE_KEYS:
            value, what = pair.get(key), f"this key to be left out, since samples of {pair['source']} aren't images"
            require(not value, pair["set_by"][key] if value else "", value, what)
        return
    side, padding = min(shape[1:]), pair.get("random_crop", 0)
    what = f"fewer pixels than the shorter side of the images in {pair['source']}, {shape[1]}x{shape[2]}"
    require(padding < side, pair["set_by"]["random_crop"] if padding else "", padding, what)


def smallest_part(pair: Mapping[str, Any], rows: int) -> int:
    """Return the number of samples, capped at 2, in the smallest part of a batch of `rows` that a model gets."""
    micro = pair.get("micro_batch") or rows
    return min(rows % micro or micro, 2)


def check_model(spec: ModelSpec, description: sources.Description, pair: Mapping[str, Any], rows: int) -> int:
    """Check a model on samples from a source, using the smallest part of a batch of `rows` that it gets in training.

    Returns
    -------
    int
        The size of its weights and buffers in bytes.

    Raises
    ------
    SpecError
        As in `models.shape_check.check`. The key is below ``models`` or, if the model fails only on a part of one
        sample, is the recipe's key.
    """
    from halobench.models import shape_check

    part, micro = smallest_part(pair, rows), pair.get("micro_batch") or rows
    arguments = (spec, description.shape, description.classes)
    try:
        return shape_check.check(*arguments, part, pair["points"], description.names)
    except SpecError as error:
        refusal = error.within(f"models.{pair['model']}")
    try:
        shape_check.check(*arguments, 2, pair["points"], description.names)
    except SpecError:
        raise refusal from None
    key = "micro_batch" if pair.get("micro_batch") else "batch"
    reason = f"a batch of {rows} rows leaves a part of 1" if micro > 1 else "it gets one sample at a time"
    what = f"parts of at least two samples, which the model {pair['model']} needs in training, but {reason}"
    raise SpecError(pair["set_by"][key], pair[key], what)
