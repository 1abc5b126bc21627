"""What only building can check: that losses score a batch and models take the images that they will get."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from halobench.core.errors import SpecError, describe_error, require
from halobench.core.spec_codec import parse, to_json
from halobench.core.specs import DatasetSpec, LossSpec, ModelSpec, SourceSpec
from halobench.data import sources, splits

REQUEST = ("sources", "datasets", "losses", "models", "pairs")


def _unbuilt(where: str, error: BaseException) -> str:
    """A line on a plug-in that raised what it shouldn't."""
    return f"{where}: expected a plug-in that can be built ({describe_error(error)})"


def check_loss(spec: LossSpec, batch: int = 4, classes: int = 3) -> int:
    """Build a loss and score a batch with it, as training would; return how many rows it makes of the batch.

    Raises
    ------
    SpecError
        Where building does, and where what it gives is no batch, or no mean loss that logits can learn from.
    """
    import numpy as np
    import torch

    from halobench.losses import base

    loss = base.build(spec)
    images, targets = torch.rand(batch, 1, 4, 4), torch.eye(classes)[torch.arange(batch) % classes]
    try:
        mixed, soft = loss.mix(images, targets, np.random.default_rng(0))
        shapes = tuple(mixed.shape), tuple(soft.shape)
        logits = torch.zeros(soft.shape, requires_grad=True)
        value = loss(logits, soft)
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        learns = found == () and value.requires_grad
    except Exception as error:
        raise SpecError("name", spec.name, f"a loss that can score a batch ({describe_error(error)})") from error
    rows = max(shapes[1][0], 1) if shapes[1] else 1
    if shapes != ((rows, *images.shape[1:]), (rows, classes)):
        given = f"a batch of shapes {tuple(images.shape)} and {tuple(targets.shape)}"
        wanted = f"{given} back, but for its number of rows (one or more, the same in both)"
        raise SpecError("name", spec.name, f"a loss whose mix gives {wanted}, not {shapes[0]} and {shapes[1]}")
    if not learns:
        raise SpecError("name", spec.name, f"a loss that gives one number, with a gradient, for a batch, not {found}")
    return rows


def check_batch(spec: LossSpec, batch: int) -> int:
    """The rows that a loss makes of a training batch.

    Raises
    ------
    SpecError
        Where `check_loss` does, and where more points are to be mixed than a batch has.
    """
    from halobench.losses import base
    from halobench.losses.mixup import Mixup

    loss = base.build(spec)
    if isinstance(loss, Mixup) and loss.points > batch:
        what = f"at most the images of a batch, {batch}, of which each point mixed is another order"
        raise SpecError("points", loss.points, what)
    return check_loss(spec, batch)


def check_crop(pair: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise SpecError if training would pad images (C, H, W) by as much as their side, or more."""
    side, most = min(shape[1:]), pair.get("random_crop", 0)
    what = f"fewer pixels than the side of {pair['source']}'s images, {shape[1]}x{shape[2]}"
    require(most < side, pair["set_by"]["random_crop"] if most else "", most, what)


def smallest_part(pair: Mapping[str, Any], rows: int) -> int:
    """Images in the smallest part of a batch of `rows` that passes a model in training, 2 for any more."""
    micro = pair.get("micro_batch") or rows
    return min(rows % micro or micro, 2)


def check_model(spec: ModelSpec, described: sources.Description, pair: Mapping[str, Any], rows: int) -> int:
    """Check a model on the images of a source, and on the smallest part of a batch of `rows` that it gets in training.

    Returns
    -------
    int
        Bytes that its weights and buffers will take.

    Raises
    ------
    SpecError
        Where `models.check` does; where only a part of one image is too small for it, the key of the recipe is named.
    """
    from halobench.models import shape_check

    part, micro = smallest_part(pair, rows), pair.get("micro_batch") or rows
    asked = (spec, described.shape, described.classes)
    try:
        return shape_check.check(*asked, part, pair["points"])
    except SpecError as error:
        refused = error.within(f"models.{pair['model']}")
    try:
        shape_check.check(*asked, 2, pair["points"])
    except SpecError:
        raise refused from None
    key = "micro_batch" if pair.get("micro_batch") else "batch"
    left = f"a batch of {rows} rows leaves a part of 1" if micro > 1 else "it gets one image at a time"
    what = f"parts of two images or more, which the model {pair['model']} needs in training: {left}"
    raise SpecError(pair["set_by"][key], pair[key], what)


def run(asked: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Build everything that was asked for; return a line per problem, and the report of `ensure`.

    What `described` tells of a source is taken for what it holds.
    """
    missing = [key for key in REQUEST if not isinstance(asked, Mapping) or key not in asked]
    if missing:
        raise SpecError("request", asked, f"a mapping with {', '.join(REQUEST)}")
    problems: list[str] = []
    found: dict[str, sources.Description] = {}
    weights: dict[str, dict[str, int]] = {}
    scored: set[str] = set()
    rows_of: dict[tuple[str, int], int | None] = {}
    tried: dict[tuple[Any, ...], int] = {}

    def attempt(where: str, make: Callable[..., Any], *given: Any, told_where: bool = False) -> Any:
        """What `make` gives, or None and a line; its errors are about parts of `where`, unless they tell where."""
        try:
            return make(*given)
        except SpecError as error:
            problems.append(str(error if told_where else error.within(where)))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            problems.append(_unbuilt(where, error))
        return None

    def made_of(pair: Mapping[str, Any]) -> int:
        """The rows of a batch that a model gets in training: losses may make more of it than it had."""
        if "loss" not in pair:
            return 2  # nothing is trained
        name, batch = pair["loss"], pair["batch"]
        if name in scored and (name, batch) not in rows_of:
            spec = parse(LossSpec, asked["losses"][name])
            rows_of[name, batch] = attempt(f"losses.{name}", check_batch, spec, batch)
        return rows_of.get((name, batch)) or batch

    known = {name: sources.Description(**described) for name, described in asked.get("described", {}).items()}
    for name, spec in asked["sources"].items():
        described = known.get(name) or attempt(
            f"sources.{name}", lambda spec: sources.describe(parse(SourceSpec, spec)), spec
        )
        if described is not None:
            found[name] = described
    for name, spec in asked["datasets"].items():
        dataset = parse(DatasetSpec, spec)
        if held := found.get(dataset.source):
            attempt(f"datasets.{name}", splits.check_size, dataset, held.size, held.parts)
    for name, spec in asked["losses"].items():
        if attempt(f"losses.{name}", lambda spec: check_loss(parse(LossSpec, spec)), spec):
            scored.add(name)
    for pair in asked["pairs"]:
        name, source = pair["model"], pair["source"]
        rows = made_of(pair)
        if described := found.get(source):
            model = parse(ModelSpec, asked["models"][name])
            attempt("", check_crop, pair, described.shape, told_where=True)
            least = smallest_part(pair, rows)
            # Many losses and batches come to the same parts.
            key = (name, source, least, pair["points"], least < 2 and to_json(pair))
            if key not in tried:
                size = attempt(f"models.{name}", check_model, model, described, pair, rows, told_where=True)
                tried[key] = size or 0
            weights.setdefault(name, {})[source] = tried[key]
    sizes = {name: {"classes": of.classes, "bytes": (of.size or 0) * math.prod(of.shape)} for name, of in found.items()}
    return list(dict.fromkeys(problems)), {"sources": sizes, "weights": weights}
