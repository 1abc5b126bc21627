"""Batches have the same numbers wherever points are stored, and their memory doesn't grow with a mapped file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from halobench.data.mapped_rows import normalise
from halobench.training.batches import FLOATS, Batches, form_that_fits

MEAN, STD = np.array([33.3, 120.0, 90.1]), np.array([77.7, 60.0, 1.5])


@pytest.fixture(scope="module")
def images():
    """50 images of 3x6x5 pixels."""
    return np.random.default_rng(0).integers(0, 256, size=(50, 3, 6, 5), dtype=np.uint8)


class Counted:
    """Rows that are read only on request, and the most read at a time."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        self.most = max(self.most, len(rows))
        return self.array[rows]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("keep", ["floats", "bytes", "nothing"])
def test_points_are_the_normalised_images_to_the_last_bit(images, keep, channels, layout):
    images, mean, std = images[:, :channels], MEAN[:channels], STD[:channels]
    whole, rows = normalise(images, mean, std), np.array([3, 49, 0, 3])
    for batches in (Batches(images, mean, std, "cpu", layout, keep), Batches(whole, None, None, "cpu", layout, keep)):
        found = batches.take(rows)
        np.testing.assert_array_equal(found.numpy(), whole[rows])
        assert found.is_contiguous(memory_format=layout)
        assert found.dtype == torch.float32
        assert len(batches) == 50


@pytest.mark.parametrize("first", [0, 2, 9])
@pytest.mark.parametrize("keep", ["floats", "bytes", "nothing"])
def test_batches_follow_the_order_and_drop_what_fills_none(images, keep, first):
    order = np.random.default_rng(1).permutation(50)
    batches, whole = Batches(images, MEAN, STD, "cpu", torch.channels_last, keep), normalise(images, MEAN, STD)
    found = list(batches.in_order(order, 7, first))
    assert len(found) == max(0, 7 - first)
    for step, (rows, points) in enumerate(found, start=first):
        expected = order[step * 7 : (step + 1) * 7]
        np.testing.assert_array_equal(rows.numpy(), expected)
        np.testing.assert_array_equal(points.numpy(), whole[expected])
        assert points.is_contiguous(memory_format=torch.channels_last)


def test_what_is_read_ahead_is_read_batch_by_batch(images):
    counted = Counted(images)
    batches = Batches(counted, MEAN, STD, keep="nothing")
    for _ in batches.in_order(np.arange(50), 7):
        pass
    assert counted.most == 7
    early = batches.in_order(np.arange(50), 5)  # abandoned, as after an error in a step; the reader must end too
    next(early)
    early.close()


def test_an_error_while_reading_ahead_is_raised():
    class Broken(Counted):
        def __getitem__(self, rows):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(Batches(Broken(np.zeros((9, 1, 2, 2), np.uint8)), keep="nothing").in_order(np.arange(9), 3))


def test_what_is_kept_depends_on_size_and_place(tmp_path):
    small = np.zeros((4, 1, 8, 8), np.uint8)
    large = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", dtype=np.uint8, shape=(FLOATS // 4 // 64 + 1, 1, 8, 8))
    assert form_that_fits(small, torch.device("cpu")) == "floats"
    assert form_that_fits(large, torch.device("cpu")) == "nothing"
    assert form_that_fits(np.asarray(large).view(np.ndarray)[:], torch.device("cpu")) == "bytes"
