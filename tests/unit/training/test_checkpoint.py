"""Resume points: resuming gives the same bytes as never stopping, and a faulty one is never used."""

from __future__ import annotations

import os
import random
import re
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from countdown import Countdown
from halobench.core.errors import DivergedError, Interrupted
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import LossSpec, TrainSpec
from halobench.data import sources, splits
from halobench.losses import base
from halobench.losses.base import Loss
from halobench.probing import probe
from halobench.probing.rays import TrainingPoints
from halobench.training.checkpoint import Checkpoint, Signals, capture, fingerprint, restore
from halobench.training.loop import TrainingSet, fit
from halobench.training.optimizer import build_optimizer
from halobench.training.train_cell import train_cell

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """200 noisy digits."""
    folder = tmp_path_factory.mktemp("digits")
    sources.write_source(SourceSpec("digits"), folder)
    return splits.load_data(folder, DatasetSpec("digits", 200, 50, 50, NoiseSpec("pair_flip", 0.5)), seed=0)


def silent(line: str) -> None:
    """Drop progress lines."""


class Unsteady(nn.Module):
    """A net with all the state a resume point needs: batch statistics, dropout, draws from every global generator."""

    def __init__(self, outputs: int = 10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
        self.head = nn.Linear(6 * 36, outputs)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
            images = images + 0.01 * random.random() + 0.01 * np.random.rand() + 1e-3 * self.calls  # noqa: NPY002
        return self.head(self.body(images))


def unsteady(input_shape, classes) -> nn.Module:
    return Unsteady(classes)


@pytest.mark.parametrize(("optimizer", "layout"), [("adam", True), ("adamw", False), ("sgd", True)])
def test_stopping_anywhere_changes_no_byte(digits, tmp_path, optimizer, layout):
    """With repeated stops, after every few checks for a signal, model, logits and history end the same."""
    spec = TrainSpec(
        optimizer=optimizer, lr=0.01, epochs=4, warmup=1, batch=40, weight_decay=1e-3, channels_last=layout
    )
    model, loss = ModelSpec(f"{__name__}:unsteady"), LossSpec("mixup", {"points": 3})
    whole = train_cell(digits, model, loss, spec, 5, silent)
    path, stops, told = tmp_path / "point.safetensors", 0, []
    for count in [1, 9, 4, 7, 3, 12, 5, 8, 2, 6, 11, 10, 1000]:
        checkpoint = Checkpoint(path, "key", every=1e9, signals=Countdown(count), log=told.append)
        try:
            parts = train_cell(digits, model, loss, spec, 5, told.append, checkpoint)
            break
        except Interrupted:
            stops += 1
    assert stops >= 3
    assert sum(line.startswith("resuming at") for line in told) == stops
    assert parts.facts["resumed_at"][0] != [0, 0]
    assert len(parts.facts["resumed_at"]) == stops
    assert parts.history == whole.history
    for name, logits in whole.logits.items():
        assert parts.logits[name].tobytes() == logits.tobytes(), name
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], tensor), name
    assert parts.model.calls == whole.model.calls


class Counting(Loss):
    """A loss with a step counter, as for a schedule of its own, or with its own generator."""

    def __init__(self, *, kind: str = "counter"):
        self.kind, self.steps, self.rng, self.weights = kind, 0, np.random.default_rng(0), torch.ones(10)

    def __call__(self, logits, targets):
        if self.kind == "counter":
            self.steps += 1
        elif self.kind == "generator":
            self.rng.random()
        elif self.kind == "tensor":
            self.weights *= 0.9
        return base.soft_cross_entropy(logits * self.weights.to(logits.device), targets)


@pytest.mark.parametrize("kind", ["counter", "generator", "tensor", "none"])
def test_no_resume_point_is_kept_of_a_loss_with_a_state(digits, tmp_path, kind):
    """Its state would be lost, so restarting is better than resuming with other numbers."""
    spec = TrainSpec(lr=0.01, epochs=2, warmup=1, batch=40)
    loss = LossSpec(f"{__name__}:Counting", {"kind": kind})
    told, path = [], tmp_path / "point.safetensors"
    train_cell(digits, ModelSpec("mlp"), loss, spec, 0, silent, Checkpoint(path, "key", every=0, log=told.append))
    assert path.exists() == (kind == "none")
    assert any("the loss Counting keeps state" in line for line in told) == (kind != "none")
    if kind != "none":
        stopped = Checkpoint(path, "key", every=1e9, signals=Countdown(2), log=silent)
        with pytest.raises(Interrupted, match="the loss Counting keeps state"):
            train_cell(digits, ModelSpec("mlp"), loss, spec, 0, silent, stopped)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.tensor(1.0, dtype=torch.float64), torch.tensor(1.0 + 2**-52, dtype=torch.float64)),
        (torch.tensor([2**24]), torch.tensor([2**24 + 1])),
        (torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)),
        (torch.tensor([True]), torch.tensor([False])),
    ],
    ids=lambda value: str(value.dtype),
)
def test_the_smallest_change_of_a_tensor_that_a_loss_keeps_is_seen(before, after):
    """The type's full width counts: rounding to float32 would lose a count past 2^24 or a running mean in float64."""
    assert fingerprint({"seen": before}) != fingerprint({"seen": after})
    assert fingerprint({"seen": before}) == fingerprint({"seen": before.clone()})


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def rekey(path):
    Checkpoint(path, "another key", log=silent).save({"a": torch.zeros(3)}, {}, "the start")


def foreign(path):
    save_file(load_file(path), path)


SPOILERS = {
    "cut short": (cut, "can't be read"),
    "a bit flipped": (flip, "is damaged"),
    "another key": (rekey, "belongs to a different spec, seed, code version or source"),
    "no facts": (foreign, "can't be read"),
    "no safetensors": (lambda path: path.write_text("hello" * 50), "can't be read"),
}


@pytest.mark.parametrize("spoiler", SPOILERS, ids=SPOILERS)
def test_a_spoilt_resume_point_is_thrown_away_with_a_warning(tmp_path, spoiler):
    spoil, why = SPOILERS[spoiler]
    path, told = tmp_path / "point.safetensors", []
    Checkpoint(path, "key", log=silent).save({"a": torch.arange(100.0), "b": torch.ones(())}, {"epoch": 3}, "here")
    tensors, facts = Checkpoint(path, "key", log=told.append).load()
    assert (tensors["a"] == torch.arange(100.0)).all()
    assert (facts, told) == ({"epoch": 3}, [])
    spoil(path)
    assert Checkpoint(path, "key", log=told.append).load() is None
    assert len(told) == 1
    assert told[0].startswith(f"warning: resume point {path} {why}")
    assert not path.exists()


def test_machines_that_had_a_part_in_it_are_remembered(tmp_path):
    """Resuming elsewhere is allowed, and reported: a record must not list only the last machine."""
    told = []
    for place in ("one", "one", "two", "three", "two"):
        point = Checkpoint(tmp_path / "point.safetensors", "key", log=told.append, here=place)
        point.load()
        point.save({}, {}, "the start")
    assert point.made_on == ["one", "three", "two"]
    warnings = [line for line in told if line.startswith("warning")]
    assert warnings == [
        "warning: started on one, resuming on two; results may differ in the last digits",
        "warning: started on one; two, resuming on three; results may differ in the last digits",
    ]


def test_a_resume_point_that_cannot_be_written_stops_nothing(tmp_path):
    said = []
    (tmp_path / "folder").mkdir()
    occupied = Checkpoint(tmp_path / "folder", "key", log=said.append)
    assert occupied.load() is None
    occupied.save({"a": torch.zeros(3)}, {}, "epoch 3")
    told = ["can't be read", "can't be removed", "not saved at epoch 3"]
    assert all(what in line for what, line in zip(told, said, strict=True))
    told = []
    (tmp_path / "file").write_text("in the way")
    checkpoint = Checkpoint(tmp_path / "file/point.safetensors", "key", log=told.append)
    checkpoint.save({"a": torch.zeros(3)}, {}, "epoch 3")
    assert told[0].startswith("warning: not saved at epoch 3: ")
    checkpoint.signals = Countdown(0)
    with pytest.raises(Interrupted, match="stopped by SIGTERM; warning: not saved at epoch 4"):
        checkpoint.save({"a": torch.zeros(3)}, {}, "epoch 4")


def test_moments_come_back_in_the_memory_layout_of_their_parameter():
    """Fused kernels read a parameter and its moments side by side in memory."""
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, TrainSpec(optimizer="adam"))
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    saved = {name: tensor.contiguous() for name, tensor in capture(model, optimizer).items()}
    other = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    fresh = build_optimizer(other, TrainSpec(optimizer="adam"))
    restore(saved, other, fresh)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        for key, value in optimizer.state[mine].items():
            assert torch.equal(value, fresh.state[theirs][key])
            assert value.stride() == fresh.state[theirs][key].stride()


def test_signals_are_noted_and_handlers_given_back():
    """The exception is an ignored interrupt, as for a script's background run, which Ctrl-C isn't meant for."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, interrupt)
    before = signal.getsignal(signal.SIGUSR1)
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before


class Poisoned(Loss):
    """Cross entropy that turns into `value` at call number `at`."""

    def __init__(self, at: int, value: float):
        self.at, self.value = at, value

    def __call__(self, logits, targets):
        self.at -= 1
        return base.soft_cross_entropy(logits, targets) * (self.value if self.at < 0 else 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training_and_says_where(digits, value):
    spec = TrainSpec(optimizer="sgd", lr=0.02, epochs=5, warmup=0, schedule="constant", batch=40)
    samples = TrainingSet(digits.inputs("train"), digits.splits["train"].labels, 10)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(DivergedError) as caught:
        fit(net, samples, Poisoned(12, value), spec, 0, silent)
    start = f"loss is {value} in epoch 3 of 5, step 3 of 5, learning rate 0.02, gradient norm "
    before = re.fullmatch(rf"{start}(\S+) an epoch earlier", str(caught.value))
    assert 0 < float(before[1]) < 100


def exploding(input_shape, classes) -> nn.Module:
    """A net whose logits overflow only in eval mode."""

    class Exploding(nn.Linear):
        def forward(self, images):
            return (
                super().forward(images.flatten(1)) * (1.0 if self.training else 1e38) * (1 if self.training else 1e38)
            )

    return Exploding(int(np.prod(input_shape)), classes)


def test_logits_that_are_not_finite_stop_the_cell(digits):
    spec = TrainSpec(lr=0.01, epochs=2, warmup=1)
    with pytest.raises(DivergedError, match=r"train logits after epoch 2 are not finite for \d+ of 200 samples"):
        train_cell(digits, ModelSpec(f"{__name__}:exploding"), LossSpec("cross_entropy"), spec, 0, silent)


def test_a_probe_that_meets_logits_that_are_not_finite_says_where():
    def predict(batch):
        logits = batch.flatten(1)[:, :2].clone()
        logits[batch.flatten(1).norm(dim=1) > 3] = float("inf")
        return logits

    points = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    around, spec = TrainingPoints(points, np.array([0, 1])), ProbeSpec("sphere", radii=(0.0, 2.0, 5.0, 9.0))
    with pytest.raises(DivergedError, match="logits are not finite at a distance of 5 from a point"):
        probe.probe(predict, points[:1], np.array([0]), spec, around, rng=np.random.default_rng(0))
