"""Stages and functions of the library on CUDA devices, real ones or pretend ones.

`test_rehearsal.py` runs this file on two pretend devices. On a machine with a GPU, run it by its name:
``python -m pytest tests/cuda/on_cuda.py``.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from torch import nn

from countdown import Countdown
from halobench import TrainingPoints, attacked_radius, certified_radius, far_field
from halobench.core import plugins
from halobench.core.errors import Interrupted, RefusedError, SpecError
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.pipeline import gpu_slots
from halobench.pipeline.stages import calibrate, train
from halobench.pipeline.stages import probe as probe_stage
from halobench.probing.probe import probe
from halobench.training import checkpoint as checkpoints
from halobench.training import loop
from halobench.training.cell import train_cell
from halobench.training.checkpoint import Checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LAST = f"cuda:{torch.cuda.device_count() - 1}"  # a tensor that was sent to plain "cuda" isn't there if there are two
SHORT = {"lr": 0.003, "epochs": 2, "warmup": 1, "batch": 40}
SMALL = {"mlp_mixer": {"width": 32, "patch": 2}, "timm/test_vit": {"patch_size": 4}}  # options
ARCHITECTURES = [*plugins.names("models"), "timm/test_resnet", "timm/test_efficientnet", "timm/test_vit"]
RAYS, SEARCHES = ("manifold", "mixup_line", "nearest_other", "sphere"), ("adversarial", "certified", "far_field")
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


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_each_architecture_trains_as_on_the_cpu(digits, model):
    here, there = (trained(digits, model, device=device).logits for device in ("cpu", LAST))
    for name in here:
        scale = np.abs(here[name]).max()
        np.testing.assert_allclose(there[name], here[name], atol=0.05 * scale, err_msg=name)


@pytest.mark.parametrize("loss", plugins.names("losses"))
def test_each_loss_trains_as_on_the_cpu(digits, loss):
    here, there = (trained(digits, "mlp", loss, device).history for device in ("cpu", LAST))
    for one, other in zip(here, there, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)


@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bf16", "channels_last": True},
        {"micro_batch": 7, "optimizer": "adamw", "weight_decay": 1e-3},
        {"random_crop": 1, "flip": True, "optimizer": "sgd"},
    ],
)
def test_each_kind_of_recipe_trains(digits, recipe):
    assert np.isfinite(trained(digits, "cnn", "mixup", **recipe).logits["test.logits"]).all()


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


def whole_and_in_parts(digits, path) -> tuple[bytes, bytes]:
    """The test logits of a cell that ran in one go, and of the same cell after three stops."""
    model, loss = ModelSpec(f"{__name__}:unsteady"), LossSpec("mixup", {"points": 3})
    spec = TrainSpec(**SHORT | {"epochs": 4}, optimizer="adamw", device=LAST)
    whole = train_cell(digits, model, loss, spec, 5, silent)
    for count in (1, 7, 12):
        with pytest.raises(Interrupted):
            train_cell(digits, model, loss, spec, 5, silent, Checkpoint(path, "key", 1e9, Countdown(count)))
    parts = train_cell(digits, model, loss, spec, 5, silent, Checkpoint(path, "key", every=1e9))
    return whole.logits["test.logits"].tobytes(), parts.logits["test.logits"].tobytes()


def test_stopping_changes_no_byte(digits, tmp_path):
    whole, parts = whole_and_in_parts(digits, tmp_path / "point.safetensors")
    assert whole == parts


def test_a_resume_point_without_the_devices_random_state_would_be_noticed(digits, tmp_path, monkeypatch):
    """A mutant of the code: the test above must be able to fail."""

    def only_of_the_host(tensors, facts, rng, device):
        checkpoints.restore_random_states(tensors, facts, rng, torch.device("cpu"))

    monkeypatch.setattr(loop, "restore_random_states", only_of_the_host)
    whole, parts = whole_and_in_parts(digits, tmp_path / "point.safetensors")
    assert whole != parts


class LeftBehind(nn.Module):
    """A model that adds a tensor on the CPU."""

    def __init__(self, size: int, outputs: int):
        super().__init__()
        self.inner = nn.Linear(size, outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images.flatten(1)) + torch.zeros(self.inner.out_features)


def left_behind(input_shape, classes) -> nn.Module:
    return LeftBehind(int(np.prod(input_shape)), classes)


def test_a_tensor_left_on_the_cpu_is_noticed(digits):
    """Another mutant."""
    with pytest.raises(RuntimeError, match="same device"):
        trained(digits, f"{__name__}:left_behind")


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
    cell = tmp_path / "cell"
    spec = spec_of({"name": "cnn", "width": 8})
    train.run(spec=spec, source=source, seed=0, out=cell)
    probes = {"sphere": {"kind": "sphere", "points": 20, "control": 5, "directions": 50}}
    limited(2**16)
    wide = {key: spec[key] for key in ("dataset", "model")} | {"train": {"device": "cuda:0"}, "probes": probes}
    with pytest.raises(SpecError, match=r"train\.(device|eval_batch).*out of memory"):
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


def test_attacks_certificates_and_the_far_field_are_those_of_the_cpu():
    found: dict[str, list[np.ndarray]] = {}
    for device in ("cpu", LAST):
        images, labels = samples(device)
        model = network(device)
        ways = torch.randn(24, 2, 16, generator=torch.Generator().manual_seed(2)).to(device)
        found.setdefault("attacked", []).append(attacked_radius(model, images, labels, 0.4))
        found.setdefault("certified", []).append(certified_radius(model, images, labels, 0.4))
        found.setdefault("far", []).append(far_field(model, images, ways).certain_from)
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
