"""Check plug-ins in their authors' own tests; a check that fails raises an AssertionError that says what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halobench.core import plugins
from halobench.core.errors import SpecError, one_of, refuse, require
from halobench.core.plugins import facts as plugin_facts
from halobench.core.plugins.kinds import kinds

if TYPE_CHECKING:
    import pandas as pd


def plugin_of(file: Path) -> tuple[str, str]:
    """Return the kind and name of the plug-in in a file of the package; raise SpecError for any other file."""
    kind = next((name for name, kind in kinds().items() if kind.folder == file.resolve().parent), "")
    right = "pass a file in a folder of plug-ins, or a kind and a name, e.g. losses mine.losses:Poly1"
    refuse(kind not in CHECKED or not file.is_file(), str(file), f"isn't a plug-in's file; {right}")
    return kind, file.stem


def check(kind: str, name: str, options: Mapping[str, Any] | None = None, tables: Path | None = None) -> None:
    """Check a plug-in by its name or ``module:object``, with the function for its kind.

    Figures and print tables are checked on an experiment's tables, in the folder `tables`. AssertionError is raised if
    the plug-in doesn't exist or breaks a rule, and SpecError if `kind` is unknown or `tables` are missing.
    """
    require(kind in CHECKED, "KIND", kind, one_of(CHECKED, kind))
    if kind not in ("figures", "tables"):
        CHECKED[kind](name, **(options or {}))
        return
    from halobench.storage.layout import TABLES
    from halobench.storage.tables_io import read_tables

    right = f"pass an experiment's tables, such as results/tables/digits, since {kind} are drawn from them"
    refuse(tables is None, "--tables", right)
    assert tables is not None
    check_display(kind, name, read_tables(tables, TABLES))


# --- Losses, models, sources, calibrators, directions, figures and tables --------------------------------------------


@contextlib.contextmanager
def _asserting(kind: str, name: str) -> Iterator[None]:
    """Check a plug-in's constants, and turn each SpecError into an AssertionError."""
    try:
        plugin_facts.facts(kind, name)
        yield
    except SpecError as error:
        raise AssertionError(str(error)) from None


def check_loss(name: str, **options: Any) -> None:
    """Check a loss by its name or ``module:object``, on images in three classes.

    The batch is mixed and scored as in training; the mean loss and its gradient must be finite even if a model is
    certain. The loss must not change the batch. It must mix the batch identically for the same random numbers, keep the
    batch's type and memory layout, and return ``ROWS`` rows per sample, by default 1.

    Examples
    --------
    >>> check_loss("mixup", points=3)
    """
    import torch

    from halobench.core.specs.training import LossSpec
    from halobench.losses import base, checks

    with _asserting("losses", name):
        spec = LossSpec(name, options)
        rows = checks.check_loss(spec, batch=6)
        wanted = 6 * (plugins.find("losses", name).constants.get("ROWS") or 1)
        assert rows == wanted, f"{name} makes {rows} rows of 6, but its file says {wanted} (ROWS)"
        loss, labels = base.build(spec), torch.arange(6) % 3
        targets = labels if base.takes_labels(loss) else torch.eye(3)[labels]
        images = torch.randn(6, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        kept = images.clone(), targets.clone()
        mixed, soft = loss.mix(images, targets, np.random.default_rng(5))
        again, _ = loss.mix(images, targets, np.random.default_rng(5))
        unchanged = torch.equal(images, kept[0]) and torch.equal(targets, kept[1])
        assert unchanged, f"{name} changes the batch"
        assert torch.equal(mixed, again), f"{name} mixes differently for the same random numbers; draw all from rng"
        assert mixed.dtype == images.dtype, f"{name} turns {images.dtype} into {mixed.dtype}"
        same = mixed.is_contiguous(memory_format=torch.channels_last)
        assert same, f"{name} changes the layout of images in memory, which slows training down"
        logits = (1000.0 * torch.eye(3)[torch.arange(rows) % 3]).requires_grad_()
        value = loss(logits, soft)
        value.backward()
        finite = logits.grad is not None and bool(torch.isfinite(logits.grad).all() and torch.isfinite(value))
        assert finite, f"{name} or its gradient isn't finite for a model that is certain"


def check_model(name: str, shape: tuple[int, ...] = (1, 8, 8), classes: int = 3, **options: Any) -> None:
    """Check a model by its name or ``module:object``, for samples of one shape.

    The model must return finite logits, one per class, with a gradient if any parameter is learnable. In eval mode, a
    sample's logits must not depend on the rest of its batch.
    """
    import torch

    from halobench.core.specs.model import ModelSpec
    from halobench.models import builder

    with _asserting("models", name):
        model = builder.build(ModelSpec(name, options), shape, classes)
        rng = np.random.default_rng(0)
        inputs, labels = rng.normal(size=(8, *shape)).astype(np.float32), np.arange(8) % classes
        builder.start(model, inputs, labels, classes)
        logits = model.train()(torch.from_numpy(inputs))
        assert tuple(logits.shape) == (8, classes), f"{name} returns {tuple(logits.shape)}, not logits (8, {classes})"
        assert bool(torch.isfinite(logits).all()), f"{name} returns logits that aren't finite"
        if any(parameter.requires_grad for parameter in model.parameters()):
            assert logits.requires_grad, f"the logits of {name} have no gradient"
        with torch.no_grad():
            together = model.eval()(torch.from_numpy(inputs))
            alone = model(torch.from_numpy(inputs[:1]))
        assert torch.allclose(together[:1], alone, atol=1e-4), f"in eval mode, {name} mixes the samples of a batch"


def check_source(name: str, **options: Any) -> None:
    """Check that a source, by its loader or ``module:object``, has a description, and gives equal labels each time."""
    from halobench.core.specs.data import SourceSpec
    from halobench.data import sources

    with _asserting("data", name):
        spec = SourceSpec(name, options)
        sources.describe(spec)
        if sources.is_distribution(name):
            drawn = (sources.load_distribution(spec).sample(20, np.random.default_rng(0)) for _ in range(2))
            first, again = (np.asarray(sample.labels) for sample in drawn)
        else:
            first, again = (np.asarray(sources.load_source(spec).labels) for _ in range(2))
        assert np.array_equal(first, again), f"{name} gives other samples the second time"


def check_calibrator(name: str, **options: Any) -> None:
    """Check a calibrator by its name or ``module:object``.

    The calibrator must map logits row by row, without changing its arguments, and give the same probabilities if it is
    fitted again. It must be possible to save it. If all predictions are right, the calibrator must also give
    probabilities, or a `Calibrator` that says why not.
    """
    from halobench.calibration import calibrator, saved

    with _asserting("calibrators", name):
        rng = np.random.default_rng(0)
        logits = 2 * rng.normal(size=(300, 4))
        labels = (logits / 3 + rng.gumbel(size=logits.shape)).argmax(axis=1)
        kept = logits.copy(), labels.copy()
        fitted, again = (calibrator.fit(name, logits, labels, **options) for _ in range(2))
        unchanged = np.array_equal(logits, kept[0]) and np.array_equal(labels, kept[1])
        assert unchanged, f"{name} changes the arrays that it is given"
        calibrated = fitted.predict_proba(logits)
        assert np.array_equal(calibrated, again.predict_proba(logits)), f"{name} gives other values the second time"
        alone = fitted.predict_proba(logits[:1])
        assert np.allclose(calibrated[:1], alone, atol=1e-6), f"{name} maps a sample differently next to other samples"
        remedy = f'add @savable("{name}") of {saved.__name__} to the data class of its map'
        remedy += ", or set REFITTED = True in its file to save all samples instead"
        assert saved.is_savable(fitted), f"{name} can't be saved; {remedy}"
        try:
            separable = calibrator.fit(name, logits, logits.argmax(axis=1), **options)
            mapped = separable.transform is not None and separable.predict_proba(logits).size > 0
        except SpecError as error:
            raise AssertionError(f"{name} fails on separable logits (all predictions are right): {error}") from None
        explained = mapped or separable.separable or separable.reason
        assert explained, f"{name} has no map for separable logits (all predictions are right), and no reason"


def check_direction(name: str) -> None:
    """Check the directions of a probe by its name or ``module:object``.

    Directions must be finite, nonzero and identical for the same random numbers; the samples must stay unchanged.
    """
    import torch

    from halobench.core.specs.probe import ProbeSpec
    from halobench.probing.probe import probe
    from halobench.probing.rays import TrainingPoints

    with _asserting("probes", name):
        rng = np.random.default_rng(1)
        points, labels = torch.from_numpy(rng.normal(size=(30, 6))).float(), np.arange(30) % 3
        kept = points.clone()
        count = 1 if plugins.find("probes", name).constants.get("ONE_DIRECTION") else 2
        spec = ProbeSpec(kind=name, radii=(0.0, 1.0), directions=count, points=10)
        model, around = torch.nn.Linear(6, 3).eval(), TrainingPoints(points, labels)
        curves = [probe(model, points, labels, spec, around, rng=np.random.default_rng(0)).curves for _ in range(2)]
        assert torch.equal(points, kept), f"{name} changes the samples"
        same = curves[0]["confidence"].equals(curves[1]["confidence"])
        assert same, f"{name} gives other directions for the same random numbers; draw all from rng"


def check_display(kind: str, name: str, tables: Mapping[str, pd.DataFrame]) -> Any:
    """Check a figure or print table (`kind`: ``figures`` or ``tables``) on an experiment's tables; return the result.

    The figure or table must read only tables that experiments have, must not change them, and must work even if only
    ``runs`` has rows.
    """
    from matplotlib.figure import Figure

    from halobench.experiment.figure_choice import tables_read
    from halobench.reporting.print_tables.layout import Table

    with _asserting(kind, name):
        draw, read = plugins.load(kind, name), tables_read(kind, name)
        kept = {table: tables[table].copy() for table in read}
        shown = draw(*(tables[table] for table in read))
        wanted = Figure if kind == "figures" else Table
        assert isinstance(shown, wanted), f"{name} returns {type(shown).__name__}, not a {wanted.__name__}"
        changed = [table for table in read if not tables[table].equals(kept[table])]
        assert not changed, f"{name} changes the table {', '.join(changed)}"
        draw(*(tables[table] if table == "runs" else tables[table].iloc[:0] for table in read))
        return shown


# --- Metrics ---------------------------------------------------------------------------------------------------------


def check_metric(name: str, **options: Any) -> None:
    """Check a metric by its name or ``module:object``.

    The metric's constants must have the right types. The metric's parameters must be among the arguments that metrics
    can take. The metric must return one number, or one number per sample, even for a single sample or two classes,
    within its ``RANGE``. The metric must not change its arguments, and must return the same result each time. The
    order of samples must not matter. Unless the metric takes ``labels`` or ``posterior``, labels must score as one-hot
    posteriors do. If ``LOWER_IS_BETTER`` is set, right predictions must not score worse than wrong ones.

    Parameters
    ----------
    name : str
    **options
        The metric's options.

    Examples
    --------
    >>> check_metric("ece", bins=10)
    """
    from halobench.calibration.scores.metric import Metric, by_kind
    from halobench.core.specs.metric import MetricSpec

    with _asserting("metrics", name):
        metric = Metric(name, MetricSpec(name, options).options)
        takes, said = metric.takes, plugin_facts.facts("metrics", name)
        low, high = np.add(said.bounds, (-1e-9, 1e-9))

    def value(logits: np.ndarray, targets: np.ndarray) -> float:
        arguments = _predictions(logits, targets) | by_kind(targets)
        kept = {key: array.copy() for key, array in arguments.items()}
        with _asserting("metrics", name):
            values = metric.compute(arguments)
        changed = [key for key in arguments if not np.array_equal(arguments[key], kept[key])]
        assert not changed, f"{name} changes its argument {', '.join(changed)}"
        assert np.all((low <= values) & (values <= high)), f"{name} has values outside its RANGE {said.range}"
        return float(np.mean(values))

    rng = np.random.default_rng(0)
    for n, k in ((60, 4), (60, 2), (1, 3)):
        logits, labels = 2 * rng.normal(size=(n, k)), rng.integers(k, size=n)
        logits[::7] = logits[0]  # among equal predictions, the order of samples must not matter either
        targets = np.eye(k)[labels] if "posterior" in takes else labels
        first, order = value(logits, targets), rng.permutation(n)
        assert np.isfinite(first), f"{name} is {first} for finite logits"
        assert value(logits, targets) == first, f"{name} gives another value the second time"
        close = np.isclose(value(logits[order], targets[order]), first, atol=1e-9)
        assert close, f"{name} depends on the order of samples"
        if not {"labels", "posterior"} & set(takes):
            same = np.isclose(value(logits, labels), value(logits, np.eye(k)[labels]), atol=1e-9)
            assert same, f"{name} differs between labels and rows with all mass on them"
    if said.lower_is_better is not None:
        rows = np.eye(3)[np.arange(30) % 3]
        targets = rows if "posterior" in takes else rows.argmax(axis=1)
        right, wrong = value(5 * rows, targets), value(5 * np.roll(rows, 1, axis=1), targets)
        better = (right <= wrong) if said.lower_is_better else (right >= wrong)
        assert better, f"{name} prefers wrong predictions (LOWER_IS_BETTER)"


def _predictions(logits: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return, by name, all arrays of predictions that a metric may take."""
    from halobench.calibration.scores import sample_scores

    probabilities = sample_scores.softmax(logits)
    predicted, confidence = sample_scores.predictions(probabilities)
    correct = sample_scores.correctness(predicted, targets)
    return {"logits": logits, "probabilities": probabilities, "confidence": confidence, "correct": correct}


CHECKED: dict[str, Callable[..., Any]] = {
    "losses": check_loss,
    "models": check_model,
    "data": check_source,
    "calibrators": check_calibrator,
    "metrics": check_metric,
    "probes": check_direction,
    "figures": check_display,
    "tables": check_display,
}
