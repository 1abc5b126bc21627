"""Where data lie: the configuration sets the root, and moving or removing it reruns nothing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from conftest import Workspace, one_cell
from halobench.data import data_root
from halobench.storage import files as store


@pytest.fixture
def config() -> dict:
    """A reference on a folder of 36 images, which lies below the data root."""
    config = one_cell()
    config["sources"] = {"zoo": {"loader": "image_folder", "folder": "zoo", "size": 9}}
    config["datasets"] = {"zoo": {"source": "zoo", "train": 20, "val": 6, "test": 10}}
    config["experiments"]["tiny"]["grid"][0]["datasets"] = ["zoo"]
    return config


def test_where_data_lie_reruns_nothing_and_reaches_the_jobs(config, tmp_path):
    workspace = Workspace(tmp_path, config | {"data_root": "one"})
    images = np.random.default_rng(0).integers(256, size=(36, 9, 9, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        path = tmp_path / f"one/zoo/{'abc'[i % 3]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    target = "results/references/zoo/seed0/reference.json"
    quiet = {data_root.ROOT: "/nowhere"}
    done = workspace.snakemake("--cores", "1", target, environment=quiet)
    assert done.returncode == 0, done.stderr[-3000:]
    assert store.read_json(tmp_path / "results/sources/zoo/meta.json")["size"] == 36
    (tmp_path / "one").rename(tmp_path / "two")
    workspace.write(config)
    assert workspace.jobs("-n", target, environment=quiet) == []
    # A job that needs lost arrays again finds the images in their new place.
    workspace.write(config | {"data_root": "two"})
    (tmp_path / "results/sources/zoo/images.npy").unlink()
    (tmp_path / target).unlink()
    done = workspace.snakemake("--cores", "1", target, environment=quiet)
    assert done.returncode == 0, done.stderr[-3000:]
