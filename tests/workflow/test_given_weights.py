"""Models with weights from elsewhere, in the real workflow: not trained, but probed and calibrated as they are."""

from __future__ import annotations

import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image

from conftest import Workspace, tiny_config
from halobench.results.trained_cell import open_cell
from halobench.storage import arrays_io, files, records

pytestmark = pytest.mark.paper
CELL = "results/runs/clean/{}/cross_entropy/seed0"
WEIGHTS = "mine.safetensors"


def config() -> dict:
    """One trained cell."""
    made = tiny_config()
    made["probes"] = {"sphere": made["probes"]["sphere"]}
    cell = {"datasets": ["clean"], "models": ["mlp"], "losses": ["cross_entropy"], "seeds": [0]}
    made["experiments"]["tiny"] = {"grid": [cell], "figures": ["summary"], "tables": []}
    return made


def with_given(**keys: object) -> dict:
    """The trained cell, and one whose weights are given."""
    made = config()
    made["models"]["given"] = {"name": "mlp", "width": 16, **keys}
    made["experiments"]["tiny"]["grid"][0]["models"] = ["mlp", "given"]
    return made


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Workspace:
    """A grid in which a copy of one cell's weights is given to another model."""
    made = Workspace(tmp_path_factory.mktemp("given"), config())
    first = made.snakemake("--cores", "2", f"{CELL.format('mlp')}/model.safetensors")
    assert first.returncode == 0, first.stderr[-3000:]
    shutil.copy(made.folder / CELL.format("mlp") / "model.safetensors", made.folder / WEIGHTS)
    made.write(with_given(weights=WEIGHTS))
    ran = made.snakemake("--cores", "2")
    assert ran.returncode == 0, ran.stderr[-3000:]
    return made


def assert_same_logits(workspace: Workspace, *models: str) -> None:
    """The cells of two models have the same logits."""
    first, second = (
        arrays_io.read_arrays(workspace.folder / CELL.format(model) / "logits.safetensors") for model in models
    )
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_given_weights_are_evaluated_as_they_are(grid):
    assert_same_logits(grid, "mlp", "given")
    made = records.read_record(grid.folder / CELL.format("given") / "train.json")
    assert made["steps"] == 0
    assert made["weights"] == files.checksum(grid.folder / WEIGHTS)
    runs = pd.read_parquet(grid.folder / "results/tables/tiny/runs.parquet").set_index("model")
    assert runs["fitted_here"].to_dict() == {"mlp": True, "given": False}
    assert not runs.loc["given", "interpolates"]
    curves = pd.read_parquet(grid.folder / "results/tables/tiny/neighbourhood.parquet")
    kinds = curves.groupby("model")["points"].agg(set).to_dict()
    assert kinds == {"mlp": {"train", "heldout"}, "given": {"evaluation", "heldout"}}


def test_other_weights_rerun_their_cells_alone_and_may_have_training_points(grid, tmp_path):
    workspace = grid.copy(tmp_path / "w")
    trained = files.checksum(workspace.folder / CELL.format("mlp") / "model.safetensors")
    other = dict(arrays_io.read_arrays(workspace.folder / WEIGHTS))
    arrays_io.write_arrays(workspace.folder / WEIGHTS, {name: array * 2 for name, array in other.items()})
    workspace.write(with_given(weights=WEIGHTS, trained_on="digits"))
    aims = [CELL.format(model) + "/probe.json" for model in ("mlp", "given")]
    ran = workspace.snakemake("--cores", "2", *aims)
    assert ran.returncode == 0, ran.stderr[-3000:]
    made = records.read_record(workspace.folder / CELL.format("given") / "train.json")
    assert made["weights"] == files.checksum(workspace.folder / WEIGHTS)
    assert files.checksum(workspace.folder / CELL.format("mlp") / "model.safetensors") == trained
    curves = pd.read_parquet(workspace.folder / CELL.format("given") / "neighbourhood.parquet")
    assert set(curves["points"]) == {"train", "heldout"}


def test_published_weights_are_fetched_beside_the_master(workspace):
    """This tests which jobs run, not the download, because there may be no network."""
    made = config()
    made["models"]["published"] = {"name": "timm/test_resnet", "pretrained": True}
    made["sources"]["many"] = {"loader": "gaussians", "classes": 1000, "shape": [3, 20, 20], "separation": 9}
    made["datasets"]["many"] = {"source": "many", "train": 2000, "val": 100, "test": 100}
    made["experiments"]["tiny"]["grid"] = [
        {"datasets": ["many"], "models": ["published"], "losses": ["cross_entropy"], "seeds": [0, 1]}
    ]
    workspace.write(made)
    planned = workspace.snakemake("-n", "--quiet", "rules")
    assert planned.returncode == 0, planned.stderr[-3000:]
    counts = dict(
        line.split() for line in planned.stdout.splitlines() if line.split()[1:2] and line.split()[1].isdecimal()
    )
    assert (counts["weights"], counts["train"]) == ("1", "2")


def test_weights_that_an_earlier_grid_left_are_no_output_of_this_one(grid, tmp_path):
    """Their path is that of a cell that is no longer configured; a configured cell makes its weights first."""
    workspace = grid.copy(tmp_path / "w")
    shutil.copytree(workspace.folder / "results/runs/clean", workspace.folder / "results/runs/gone")
    made = with_given(weights=f"{CELL.format('mlp')}/model.safetensors")
    left = f"{CELL.format('mlp').replace('clean', 'gone')}/model.safetensors"
    made["models"]["left"] = made["models"]["given"] | {"weights": left}
    made["experiments"]["tiny"]["grid"][0]["models"].append("left")
    workspace.write(made)
    planned = workspace.snakemake("-n")
    assert planned.returncode == 0, planned.stderr[-3000:]
    read = [line for line in planned.stdout.splitlines() if left in line and "input:" in line]
    assert read
    assert all(str(workspace.folder / left) in line for line in read)
    own = made["models"]["given"]["weights"]
    read = [line for line in planned.stdout.splitlines() if own in line and "input:" in line]
    assert read
    assert all(str(workspace.folder / own) not in line for line in read)


def lite0(path) -> torch.nn.Module:
    """Return plain timm's model, and write its weights to a file with another project's names and strides."""
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0").eval()
    names = (("blocks", "_blocks"), ("classifier", "_fc"), ("conv_", "_conv_"), ("bn", "_bn"))
    tensors = {}
    for name, tensor in model.state_dict().items():
        for old, new in names:
            name = name.replace(old, new)
        tensors[name] = tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor
    torch.save(tensors, path)
    return model


def test_the_worked_example_of_a_foreign_checkpoint_runs(root, tmp_path):
    """Its logits are those of plain timm on the same pixels."""
    section = (
        (root / "docs/models.md").read_text().partition("## A checkpoint of another project")[2].partition("\n## ")[0]
    )
    (config,) = re.findall(r'^```yaml title="pets.yaml"\n(.*?)^```$', section, re.M | re.S)
    commands = re.findall(r"^    halobench (.*)$", section, re.M)
    for part in ("Snakefile", "config.yaml", "workflow", "profiles"):
        (tmp_path / part).symlink_to(root / part)
    (tmp_path / "pets.yaml").write_text(config)
    rng = np.random.default_rng(0)
    for name in ("beagle", "golden_retriever", "tabby"):
        (tmp_path / "data/pets" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((240, 224)).save(tmp_path / f"data/pets/{name}/{number}.png")
    model = lite0(tmp_path / "lite0.pth")
    (command,) = commands
    done = Workspace.at(tmp_path).halobench(*shlex.split(command))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    cell = open_cell(tmp_path / "results/runs/pets/lite0/untrained/seed0")
    pixels = torch.from_numpy(np.array(cell.data.splits["test"].images)).float() / 255
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model((pixels - mean) / std)[:, [162, 207, 281]].numpy()
    np.testing.assert_allclose(cell.logits["test.logits"], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_array_equal(cell.logits["test.clean"], cell.data.splits["test"].clean)
