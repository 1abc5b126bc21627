"""Stages and functions of the library on CUDA devices, real ones or pretend ones.

`test_rehearsal.py` runs this file on two pretend devices. On a machine with a GPU, run it by its name:
``python -m pytest tests/cuda/on_cuda.py``.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from countdown import Countdown
from halobench import TrainingPoints, attacked_radius, certified_radius
from halobench.core import plugins
from halobench.core.errors import DivergedError, Interrupted, RefusedError, SpecError
from halobench.core.seeding import generator
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.losses.cross_entropy import CrossEntropy
from halobench.pipeline import gpu_slots
from halobench.pipeline.stages import calibrate, train
from halobench.pipeline.stages import probe as probe_stage
from halobench.probing.probe import ProbedModel, probe, probe_cell
from halobench.training import batches
from halobench.training import checkpoint as checkpoints
from halobench.training.checkpoint import Checkpoint
from halobench.training.device import resolve_device
from halobench.training.loop import TrainingRun, TrainingSet, fit
from halobench.training.train_cell import predict, train_cell

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LAST = f"cuda:{torch.cuda.device_count() - 1}"  # a tensor that was sent to plain "cuda" isn't there if there are two
SHORT = {"lr": 0.003, "epochs": 2, "warmup": 1, "batch": 40}
SMALL = {"mlp_mixer": {"width": 32, "patch": 2}, "timm/test_vit": {"patch_size": 4}}  # options
ARCHITECTURES = [*plugins.names("models"), "timm/test_resnet", "timm/test_efficientnet", "timm/test_vit"]
RAYS, SEARCHES = ("manifold", "mixup_line", "nearest_other", "sphere"), ("adversarial", "certified")
DATASET = DatasetSpec("digits", 200, 50, 50, NoiseSpec("pair_flip", 0.5))


@pytest.fixture(scope="module", autouse=True)
def _start_cuda() -> None:
    """Start CUDA before the first backward pass, when PyTorch counts the pretend devices."""
    torch.zeros(1, device=LAST)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The digits, as a source."""
    folder = tmp_path_factory.mktemp("digits")
    sources.write_source(SourceSpec("digits"), folder)
    return folder


@pytest.fixture(scope="module")
def digits(source):
    """200 noisy digits."""
    return splits.load_data(source, DATASET, seed=0)


def silent(line: str) -> None:
    """Drop progress lines."""


def trained(digits, model: str, loss: str = "cross_entropy", device: str = LAST, **recipe):
    """A cell that was trained for two epochs."""
    architecture = ModelSpec(model, SMALL.get(model, {}))
    return train_cell(digits, architecture, LossSpec(loss), TrainSpec(**SHORT | recipe, device=device), 3, silent)


@pytest.fixture
def no_waiting(monkeypatch) -> Iterator[None]:
    """Raise an error if a step makes the host wait for the device; between epochs, it may."""
    start, end = TrainingRun.start_epoch, TrainingRun.end_epoch

    def strict(run, *arguments):
        found = start(run, *arguments)
        torch.cuda.set_sync_debug_mode("error")
        return found

    def relaxed(run):
        torch.cuda.set_sync_debug_mode("default")
        return end(run)

    monkeypatch.setattr(TrainingRun, "start_epoch", strict)
    monkeypatch.setattr(TrainingRun, "end_epoch", relaxed)
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_each_architecture_trains_as_on_the_cpu(digits, model):
    here, there = (trained(digits, model, device=device).logits for device in ("cpu", LAST))
    for name in here:
        scale = np.abs(here[name]).max()
        np.testing.assert_allclose(there[name], here[name], atol=0.05 * scale, err_msg=name)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("loss", plugins.names("losses"))
def test_each_loss_trains_as_on_the_cpu(digits, loss):
    here, there = (trained(digits, "mlp", loss, device).history for device in ("cpu", LAST))
    for one, other in zip(here, there, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bf16", "channels_last": True},
        {"micro_batch": 7, "optimizer": "adamw", "weight_decay": 1e-3},
        {"random_crop": 1, "flip": True, "optimizer": "sgd"},
    ],
)
def test_each_kind_of_recipe_gives_the_same_bytes_from_samples_read_ahead(digits, recipe, monkeypatch):
    kept = trained(digits, "cnn", "mixup", **recipe).logits
    monkeypatch.setattr(batches, "SHARE", 0)
    assert batches.form_that_fits(digits.splits["val"].images, torch.device(LAST)) == "nothing"
    read_ahead = trained(digits, "cnn", "mixup", **recipe).logits
    for name in kept:
        assert np.isfinite(kept[name]).all()
        np.testing.assert_array_equal(read_ahead[name], kept[name], err_msg=name)


class Exacting(nn.Module):
    """Cross entropy that accepts only float32 logits, with weights of classes, which must be on the device, too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.ones(10))

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert logits.dtype == torch.float32
        return nn.functional.cross_entropy(logits, labels, self.weights)


def test_bf16_is_what_layers_compute_in_and_nothing_else_is(digits):
    """In training, scoring and probing, convolutions return bfloat16, in the recipe's layout."""
    seen = set()

    def note(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            last = output.is_contiguous(memory_format=torch.channels_last)
            seen.add((module.training, output.dtype, str(output.device), last))

    recipe = {"precision": "bf16", "channels_last": True}
    with torch.nn.modules.module.register_module_forward_hook(note):
        cell = trained(digits, "cnn", f"{__name__}:Exacting", **recipe)
        assert seen == {(training, torch.bfloat16, LAST, True) for training in (True, False)}
        seen.clear()
        probed = ProbedModel(cell.model, TrainSpec(**recipe, device=LAST))
        probe_cell(probed, digits, {"sphere": ProbeSpec("sphere", points=4, control=4)}, 0)
        assert seen == {(False, torch.bfloat16, LAST, True)}
    assert {weight.dtype for weight in cell.model.parameters()} == {torch.float32}
    assert {logits.dtype for logits in cell.logits.values()} == {np.dtype(np.float32)}


class Casts(TorchDispatchMode):
    """Counts conversions of tensors of one shape."""

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._to_copy.default and tuple(args[0].shape) == self.shape
        return func(*args, **(kwargs or {}))


def test_weights_are_cast_once_for_all_batches():
    built, recipe = nn.Linear(64, 7).to(LAST), TrainSpec(precision="bf16", device=LAST, eval_batch=2)
    with Casts((7, 64)) as casts:
        predict(built, np.zeros((8, 64), dtype=np.float32), recipe)
    assert casts.count == 1


def pooling(input_shape, classes) -> nn.Module:
    """A net with a layer whose gradient has no deterministic kernel on CUDA, as PyTorch's documentation lists."""
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, classes))


@pytest.mark.parametrize("deterministic", [True, False])
def test_only_deterministic_recipes_warn_of_kernels_that_are_not_and_choose_none_by_timing(digits, deterministic):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trained(digits, f"{__name__}:pooling", deterministic=deterministic)
    warned = any("does not have a deterministic implementation" in str(warning.message) for warning in caught)
    assert (warned, torch.backends.cudnn.benchmark) == (deterministic, not deterministic)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")  # cuBLAS repeats results only with these


def test_auto_is_a_gpu_and_others_than_those_seen_are_refused():
    assert resolve_device("auto") == torch.device("cuda")
    with pytest.raises(SpecError, match=rf"CUDA devices seen here: {torch.cuda.device_count()}"):
        resolve_device(f"cuda:{torch.cuda.device_count()}")


# --- Divergence ------------------------------------------------------------------------------------------------------

SEED = 5
STEADY = TrainSpec(optimizer="sgd", epochs=2, warmup=0, batch=40, device=LAST)  # five steps an epoch


def poisoned(digits) -> TrainingSet:
    """The digits, with an infinite pixel in a sample that the first epoch's third batch has."""
    inputs = digits.inputs("train").copy()
    third = generator(SEED, "epoch", 0).permutation(len(inputs))[80:120]
    inputs[third[7], 0, 3, 3] = np.inf
    return TrainingSet(inputs, digits.splits["train"].labels, 10)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(LAST)


AT_THE_THIRD = r"loss is nan in epoch 1 of 2, step 3 of 5, "


@pytest.mark.usefixtures("no_waiting")
def test_a_loss_that_is_not_finite_is_noticed_when_the_epoch_ends(digits):
    """Before that, the host would have to wait for it."""
    net, steps = linear(), []
    net.register_forward_hook(lambda *_: steps.append(1))
    with pytest.raises(DivergedError, match=AT_THE_THIRD):
        fit(net, poisoned(digits), CrossEntropy(), STEADY, SEED, silent)
    assert len(steps) == 5


def test_a_loss_that_is_not_finite_is_never_saved(digits, tmp_path):
    point = Checkpoint(tmp_path / "point.safetensors", "key", every=0, log=silent)
    with pytest.raises(DivergedError, match=AT_THE_THIRD):
        fit(linear(), poisoned(digits), CrossEntropy(), STEADY, SEED, silent, point)
    tensors, facts = point.load()
    assert facts["step"] == 2
    assert all(tensor.isfinite().all() for name, tensor in tensors.items() if name.startswith("model."))


# --- Stopping and resuming -------------------------------------------------------------------------------------------


class Unsteady(nn.Module):
    """A net with dropout, which draws from the device's generator, and batch statistics."""

    def __init__(self, outputs: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
        self.head = nn.Linear(6 * 36, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


def unsteady(input_shape, classes) -> nn.Module:
    return Unsteady(classes)


def test_stopping_changes_no_byte(digits, tmp_path):
    """A cell that ran in one go has the test logits of the same cell after three stops."""
    model, loss = ModelSpec(f"{__name__}:unsteady"), LossSpec("mixup", {"points": 3})
    path = tmp_path / "point.safetensors"
    spec = TrainSpec(**SHORT | {"epochs": 4}, optimizer="adamw", device=LAST)
    whole = train_cell(digits, model, loss, spec, 5, silent)
    for count in (1, 7, 12):
        with pytest.raises(Interrupted):
            train_cell(digits, model, loss, spec, 5, silent, Checkpoint(path, "key", 1e9, Countdown(count)))
    parts = train_cell(digits, model, loss, spec, 5, silent, Checkpoint(path, "key", every=1e9))
    assert whole.logits["test.logits"].tobytes() == parts.logits["test.logits"].tobytes()


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def limited():
    """A function that limits the first device's memory to what is in use and some more bytes, until the test ends."""

    def limit(more: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.mem_get_info(0)[1]
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(0) + more) / total, 0)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_a_device_keeps_samples_that_fit_into_half_of_its_own_free_memory():
    device = torch.device(LAST)
    held = torch.empty(2**24, dtype=torch.uint8, device=device)  # so that devices differ in what is free
    half = torch.cuda.mem_get_info(device)[0] // 2

    def form(numbers: int, kind: type) -> str:
        return batches.form_that_fits(SimpleNamespace(shape=(numbers, 1), dtype=kind), device)

    assert [form(half, np.uint8), form(half + 1, np.uint8)] == ["bytes", "nothing"]
    assert [form(half // 4, np.float32), form(half // 4 + 1, np.float32)] == ["bytes", "nothing"]
    del held


def test_a_resume_point_is_saved_without_any_of_the_devices_memory(digits, tmp_path):
    """A nearly full card has no room for a second copy of the state, and a copy there would lose the checkpoint."""
    built = nn.Linear(64, 4096).to(LAST)
    optimizer = torch.optim.AdamW(built.parameters())
    built(torch.ones(2, 64, device=LAST)).sum().backward()
    optimizer.step()
    torch.cuda.reset_peak_memory_stats(LAST)
    before = torch.cuda.memory_allocated(LAST)
    saved = checkpoints.capture(built, optimizer)
    assert torch.cuda.max_memory_allocated(LAST) == before
    assert {tensor.device.type for tensor in saved.values()} == {"cpu"}
    assert all(tensor.isfinite().all() for tensor in saved.values()), "all copies have arrived"


def spec_of(model: dict, **recipe) -> dict:
    """The spec of a training stage on the first device."""
    train_spec = SHORT | recipe | {"device": "cuda:0"}
    return {"dataset": canonical(DATASET), "model": model, "loss": {"name": "cross_entropy"}, "train": train_spec}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (2**20, r"train\.device: the model.*need more memory.*lower slots_per_gpu.*out of memory"),  # placing weights
        (7 * 2**20, r"train\.batch = 40: .*train\.micro_batch.*lower slots_per_gpu.*out of memory"),  # the first step
    ],
)
def test_a_full_device_is_reported_in_one_line_that_says_what_to_do(source, limited, tmp_path, more, said):
    limited(more)
    with pytest.raises(SpecError, match=said) as caught:
        train.run(spec=spec_of({"name": "mlp", "width": 1024}), source=source, seed=0, out=tmp_path / "cell")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cell/train.json").exists()


def test_a_device_that_fills_up_during_a_probe_is_reported(source, limited, tmp_path):
    """Before the first forward pass, or in it."""
    cell = tmp_path / "cell"
    spec = spec_of({"name": "cnn", "width": 32})
    train.run(spec=spec, source=source, seed=0, out=cell)
    probes = {"sphere": {"kind": "sphere", "points": 20, "control": 5, "directions": 8}}
    wide = {key: spec[key] for key in ("dataset", "model")} | {"train": {"device": "cuda:0"}, "probes": probes}
    for more, said in ((2**16, r"train\.device"), (3 * 2**20, r"train\.eval_batch = 250")):
        limited(more)
        with pytest.raises(SpecError, match=rf"{said}: .*out of memory"):
            probe_stage.run(spec=wide, source=source, seed=0, folder=cell)
    limited(2**30)
    probe_stage.run(spec=wide, source=source, seed=0, folder=cell)
    calibrate.run(spec={"calibrators": ["none", "exact", "paper"]}, seed=0, folder=cell)
    assert (cell / "calibrate.json").exists()


def test_other_errors_of_cuda_are_one_line_too(source, tmp_path, monkeypatch):
    """Such as that of a card in exclusive mode that another process uses."""

    def taken(name: str) -> torch.device:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore lines")

    monkeypatch.setattr("halobench.training.device.resolve_device", taken)
    with pytest.raises(RefusedError, match=r"train\.device: CUDA failed; `nvidia-smi`.*busy or unavailable more"):
        train.run(spec=spec_of({"name": "mlp"}), source=source, seed=0, out=tmp_path / "cell")


def test_a_slot_is_kept_while_the_process_occupies_the_device(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_slots.tempfile, "gettempdir", lambda: str(tmp_path))
    torch.zeros(1, device="cuda:0")
    with gpu_slots.device_slot(1) as first:
        pass
    try:
        held = [gpu_slots.Device(first.value, first.uuid)]
        assert gpu_slots._take(held, 1, next(tmp_path.iterdir())) is None, "another process could use its memory"
        with gpu_slots.device_slot(1) as again:
            assert again == first
    finally:
        gpu_slots._kept.pop()[1].release()


# --- The library -----------------------------------------------------------------------------------------------------


def network(device: str) -> nn.Module:
    """A random network with convolutions, for images 1x4x4 and three classes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)]
    return nn.Sequential(*layers).eval().to(device)


def samples(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with the labels that the network predicts."""
    images = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return images.to(device), network("cpu")(images).argmax(dim=1).to(device)


@pytest.mark.parametrize("kind", RAYS)
def test_rays_are_those_of_the_cpu(kind):
    tables = []
    for device in ("cpu", LAST):
        images, labels = samples(device)
        several = {} if kind == "nearest_other" else {"directions": 3}
        spec = ProbeSpec(kind=kind, points=20, control=0, radii=(0.0, 1.0), relative_radii=(0.5,), **several)
        points = TrainingPoints(images, labels)
        rng = np.random.default_rng(0)
        tables.append(probe(network(device), images[:20], labels[:20], spec, points, rng=rng).curves)
    np.testing.assert_allclose(*(table.select_dtypes("number").to_numpy() for table in tables), atol=1e-3)


def test_attacks_and_certificates_are_those_of_the_cpu():
    found: dict[str, list[np.ndarray]] = {}
    for device in ("cpu", LAST):
        images, labels = samples(device)
        model = network(device)
        found.setdefault("attacked", []).append(attacked_radius(model, images, labels, 0.4))
        found.setdefault("certified", []).append(certified_radius(model, images, labels, 0.4))
    for name, (here, there) in found.items():
        np.testing.assert_allclose(there, here, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("kind", SEARCHES)
def test_each_search_runs_as_a_stage(source, tmp_path, kind):
    cell, spec = tmp_path / "cell", spec_of({"name": "mlp", "width": 8})
    train.run(spec=spec, source=source, seed=0, out=cell)
    probes = {kind: {"kind": kind, "points": 4, "control": 2}}
    recipe = {"train": {"device": "cuda:0"}, "probes": probes}
    probe_stage.run(spec={key: spec[key] for key in ("dataset", "model")} | recipe, source=source, seed=0, folder=cell)
    assert (cell / "radii.parquet").exists()


def test_mixed_devices_are_refused_by_name():
    spec = ProbeSpec(kind="sphere", points=20, control=0)
    (here, labels), (there, _) = samples("cpu"), samples(LAST)

    def probed(inputs, points):
        return probe(network(LAST), inputs, labels, spec, points, rng=np.random.default_rng(0))

    with pytest.raises(SpecError, match=rf"inputs: found device cpu, expected {LAST}, as in the model's parameters"):
        probed(here, TrainingPoints(here, labels))
    with pytest.raises(SpecError, match=rf"inputs: found device {LAST}, expected cpu, as for the training samples"):
        probed(there, TrainingPoints(here, labels))
    with pytest.raises(SpecError, match=r"inputs: found ndarray, expected a float tensor"):
        TrainingPoints(here.numpy(), labels)
    with pytest.raises(SpecError, match=r"expected .*, as in the model's parameters"):
        attacked_radius(network(LAST), here, labels)
