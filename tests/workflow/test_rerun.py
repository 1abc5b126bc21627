"""Which jobs an edit reruns, from dry runs on copies of a finished grid, and what halobench says about it.

`make soak` makes more edits, and runs some to the end. Then, the jobs that ran are compared too, and the files of jobs
that the edit doesn't affect keep their bytes and times.
"""

from __future__ import annotations

import ast
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ROOT, SOAK, Seen, Workspace, tiny_config, tiny_figures, tiny_tables
from halobench.results.status import NOTHING
from halobench.storage.files import checksum

pytestmark = pytest.mark.rerun

FIGURES = {f"figure_{name}": 1 for name in tiny_figures()}
PRINTED = {f"table_{name}": 1 for name in tiny_tables()}
# What reruns after any change of a cell.
TABLES = dict.fromkeys(("manifest", "aggregate", "claims", "explorer", "overview"), 1) | PRINTED | FIGURES
EIGHT = {"train": 8, "probe": 8, "calibrate": 8, **TABLES}


@dataclass(frozen=True)
class Edit:
    """An edit of a workspace's files and configuration, the jobs that it reruns, and what must be said about it."""

    change: Callable[[Path, dict], None]
    jobs: dict[str, int]
    said: str = ""
    arguments: tuple[str, ...] = ()


def configured(change: Callable[[dict], None]) -> Callable[[Path, dict], None]:
    """An edit of the configuration alone."""
    return lambda folder, config: change(config)


def written(module: str, old: str, new: str) -> Callable[[Path, dict], None]:
    """An edit of one module, which must contain the old text exactly once."""

    def change(folder: Path, config: dict) -> None:
        path = folder / f"src/halobench/{module}.py"
        text = path.read_text()
        assert text.count(old) == 1, (module, old)
        path.write_text(text.replace(old, new))

    return change


def grid(config: dict) -> dict:
    """The tiny experiment's only block."""
    return config["experiments"]["tiny"]["grid"][0]


def add_loss(folder: Path, config: dict) -> None:
    losses = folder / "src/halobench/losses"
    text = (losses / "label_smoothing.py").read_text()
    (losses / "smoother.py").write_text(text.replace("LabelSmoothing", "Smoother"))
    config["losses"]["smoother"] = {"name": "smoother", "epsilon": 0.2}
    grid(config)["losses"].append("smoother")


def turn(value: object) -> object:
    """A configuration with the keys of each mapping in reverse order."""
    if isinstance(value, dict):
        return {key: turn(value[key]) for key in reversed(value)}
    return [turn(item) for item in value] if isinstance(value, list) else value


def write_defaults(config: dict) -> None:
    config["train"].update(batch=50, optimizer="adam")
    config["losses"]["mixup2"].update(alpha=1.0)
    config["probes"]["sphere"] = {**config["probes"]["sphere"], "kind": "sphere"}


def reformat(folder: Path, config: dict) -> None:
    """Change line breaks, quotes, comments and docstrings in a loss's module and in the one that all losses share."""
    for name in ("mixup", "base"):
        path = folder / f"src/halobench/losses/{name}.py"
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body[0].value.value = "Another docstring."
        path.write_text(f"# A comment.\n{ast.unparse(tree)}\n# Another.\n")


def touch(folder: Path, config: dict) -> None:
    for name in ("src", "workflow", "results/sources"):
        for path in (folder / name).rglob("*"):
            if path.is_file():
                path.touch()
    for name in ("Snakefile", "config.yaml"):
        (folder / name).touch()


def move_module(folder: Path, config: dict) -> None:
    """Move a module of the runner, which no stage imports, to another file."""
    runner = folder / "src/halobench/runner"
    (runner / "end_of_run.py").rename(runner / "results_of.py")
    plugins = folder.glob("src/snakemake_*/*.py")
    for path in (*runner.glob("*.py"), *plugins, folder / "workflow/rules/common.smk"):
        text = path.read_text().replace("runner.end_of_run", "runner.results_of")
        path.write_text(re.sub(r"(from halobench.runner import .*)\bend_of_run\b", r"\1results_of as end_of_run", text))


OTHER = "cores: 1\nlatency-wait: 7\nset-resources:\n  train:\n    mem_mb: 3000\nset-threads:\n  probe: 1\n"
ASKED = ("--profile", "other", "--cores", "3", "--set-resources", "train:mem_mb=1234", "probe:runtime=7")
ASKED += ("--set-threads", "train=2")


def ask_otherwise(folder: Path, config: dict) -> None:
    """Write the same configuration in other words, and add another profile."""
    write_defaults(config)
    turned = turn(config)
    config.clear()
    config.update(turned)
    (folder / "other").mkdir()
    (folder / "other/profile.yaml").write_text(OTHER)


def write_otherwise(folder: Path, config: dict) -> None:
    """Write the same code in other words, move some of it, and make all of it newer."""
    reformat(folder, config)
    written("storage/layout", "STAGES: Mapping", "# Every stage.\nSTAGES: Mapping")(folder, config)
    move_module(folder, config)
    touch(folder, config)


MIXED = "mixed, soft = inputs * wide[0], targets * shares[0, :, None]"
EDITS = {
    "a loss's parameter": Edit(
        configured(lambda c: c["losses"]["mixup2"].update(alpha=0.5)),
        EIGHT,
        "loss.alpha was the default and is now 0.5",
    ),
    "a seed removed": Edit(
        configured(lambda c: grid(c)["seeds"].remove(1)),
        TABLES,
        "references/clean/seed1, references/noisy/seed1, runs/clean/cnn/cross_entropy/seed1 and 7 more were dropped",
    ),
    "a probe radius": Edit(
        configured(lambda c: c["probes"].update(sphere={**c["probes"]["sphere"], "radii": [0.0, 2.0, 3.0]})),
        {"probe": 16, **TABLES},
        "probes.sphere.radii was [0.0, 2.0] and is now [0.0, 2.0, 3.0]",
    ),
    "a loss module changed": Edit(
        written("losses/mixup", MIXED, f"{MIXED.replace('inputs * wide[0]', 'wide[0] * inputs')}"),
        EIGHT,
        "train, 8 jobs (clean/cnn/mixup2/seed0, ...): losses/mixup.py changed",
    ),
    "the metrics changed": Edit(
        written("calibration/metrics/brier", "values, 0, out=values", "values, 0.0, out=values"),
        {"calibrate": 16, "reference": 4, **TABLES},
        "calibrate, 16 jobs (clean/cnn/cross_entropy/seed0, ...): calibration/metrics/brier.py changed",
    ),
    "one figure changed": Edit(
        written("reporting/figures/radii", "How far from a point do", "How far do"),
        {"figure_radii": 1},
        "figure tiny/radii: reporting/figures/radii.py changed",
    ),
    "asked in other words, with other resources": Edit(ask_otherwise, {}, arguments=ASKED),
    "code in other words": Edit(write_otherwise, {}),
}
# These differ from the others in what is edited rather than in what reruns.
MORE = {
    "a learning rate in one model's recipe": Edit(
        configured(lambda c: c["models"]["cnn"].update(recipe={"lr": 0.01})),
        EIGHT,
        "train.lr was 0.003 and is now 0.01",
    ),
    "a seed added": Edit(
        configured(lambda c: grid(c)["seeds"].append(2)),
        EIGHT | {"reference": 2},
        "train, 8 jobs (clean/cnn/cross_entropy/seed2, ...): it has never run",
    ),
    "a loss module added": Edit(add_loss, EIGHT, "train, 8 jobs (clean/cnn/smoother/seed0, ...): it has never run"),
    "the theme changed": Edit(
        written("reporting/plotting/style", '"lines.linewidth": 1.3', '"lines.linewidth": 1.4'),
        FIGURES | {"explorer": 1},  # whose index page shows the figures that answer the questions
        f"figure, {len(FIGURES)} jobs (tiny/calibration, ...): reporting/plotting/style.py changed",
    ),
}
ALL = EDITS | MORE
NAMES = [*EDITS, *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)]


class Copy:
    """A copy of a finished workspace, with its own copy of the package to edit."""

    def __init__(self, finished: Workspace, folder: Path):
        self.workspace = finished.copy(folder)
        self.original, self.folder = finished.folder, folder
        shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info"))
        self.environment = {"PYTHONPATH": str(folder / "src")}

    def edit(self, edit: Edit) -> None:
        """Change files and the configuration, whose file isn't touched if it stays the same."""
        config = tiny_config()
        edit.change(self.folder, config)
        if list(config) != list(tiny_config()) or config != tiny_config():
            self.workspace.write(config)

    def jobs(self, *arguments: str) -> dict[str, int]:
        """The number of jobs per rule that Snakemake shows when it runs with the copied package."""
        return dict(Counter(job.rule for job in self.seen(*arguments)))

    def seen(self, *arguments: str) -> list[Seen]:
        """The jobs that Snakemake shows when it runs with the copied package."""
        return self.workspace.jobs(*arguments, environment=self.environment)

    def dry_run(self, *arguments: str) -> tuple[str, dict[str, int]]:
        """What `halobench run -n` says with the copied package, and the number of jobs per rule."""
        return self.workspace.dry_run(*arguments, environment=self.environment)

    def status(self, *arguments: str) -> list[str]:
        """The lines of `halobench status` with the copied package."""
        done = self.workspace.halobench("status", *arguments, environment=self.environment)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.splitlines()

    def refused(self, line: str) -> None:
        """A dry run ends with a line that begins like this."""
        done = self.workspace.snakemake("-n", environment=self.environment)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(line)
        assert "Traceback" not in done.stderr

    def files(self) -> dict[str, tuple[str, int]]:
        """The digest and time of every result except logs."""
        kinds = ("sources", "runs", "references", "manifests", "tables", "figures")
        paths = [path for kind in kinds for path in (self.folder / "results" / kind).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): (checksum(path), path.stat().st_mtime_ns) for path in sorted(paths)}


@pytest.fixture
def copied(finished, tmp_path) -> Copy:
    """A copy of the finished grid."""
    return Copy(finished, tmp_path / "copy")


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_reruns_its_slice_only_and_is_named(copied, name):
    """Snakemake finds the same jobs by its own memory as halobench does by the records alone, as in a copied folder."""
    edit = ALL[name]
    copied.edit(edit)
    assert copied.jobs("-n", *edit.arguments) == edit.jobs
    if edit.change is write_otherwise:
        return  # without its memory, Snakemake goes by the times of files
    shutil.rmtree(copied.folder / ".snakemake")
    said, counts = copied.dry_run(*edit.arguments)
    assert counts == edit.jobs
    assert edit.said in said
    if edit.jobs:
        assert re.search(rf"^{sum(edit.jobs.values())} jobs? would run: ", said, re.M)


DATABASE = ("--persistence-backend", "db")


@pytest.fixture(scope="module")
def in_database(finished, tmp_path_factory) -> Workspace:
    """The finished grid, with Snakemake's metadata in a database instead of files."""
    workspace = finished.copy(tmp_path_factory.mktemp("database") / "copy")
    shutil.rmtree(workspace.folder / ".snakemake/metadata")
    done = workspace.snakemake("--touch", "--forceall", "--cores", "1", *DATABASE)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not (workspace.folder / ".snakemake/metadata").exists()
    return workspace


@pytest.mark.soak
@pytest.mark.parametrize("name", ALL)
def test_an_edit_reruns_the_same_where_snakemake_remembers_in_a_database(in_database, tmp_path, name):
    copied, edit = Copy(in_database, tmp_path / "copy"), ALL[name]
    memory = copied.folder / ".snakemake"
    with sqlite3.connect(memory / "metadata.db") as database:  # which holds the folder that it remembers
        moved = database.execute("update snakemake_metadata set namespace = ?", (str(memory.resolve()),))
    assert moved.rowcount > 200
    copied.edit(edit)
    assert copied.jobs("-n", *DATABASE, *edit.arguments) == edit.jobs


@pytest.mark.soak
def test_touching_after_an_edit_is_no_dead_end(copied):
    """Plain Snakemake then considers old results current, but a run knows better; nothing has to be deleted."""
    edit = EDITS["a loss's parameter"]
    copied.edit(edit)
    copied.seen("--touch", "--cores", "1")
    said, counts = copied.dry_run()
    assert counts == edit.jobs
    assert edit.said in said


def test_plain_snakemake_without_its_memory_mixes_no_settings(copied):
    """A new seed is trained with the new value, and the other seeds still have the old one."""
    config = tiny_config()
    config["train"]["lr"] = 0.01
    grid(config)["seeds"].append(2)
    copied.workspace.write(config)
    shutil.rmtree(copied.folder / ".snakemake")
    before = {path: facts for path, facts in copied.files().items() if "/manifests/" not in path}
    done = copied.workspace.snakemake("--cores", "2", environment=copied.environment)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "16 results are outdated (train clean/cnn/cross_entropy/seed0: train.lr was 0.003 and is now 0.01)" in said
    assert " and would mix with others; `halobench run` computes them again" in said
    assert "Traceback" not in said
    after = copied.files()
    assert {path: after[path] for path in before} == before
    assert copied.dry_run()[1]["train"] == 16


LOST = {
    "results/figures/tiny/summary.pdf": ("figure_summary", "figure tiny/summary: summary.pdf is missing"),
    "results/runs/noisy/mlp/mixup2/seed1/radii.parquet": (
        "probe",
        "probe noisy/mlp/mixup2/seed1: radii.parquet is missing",
    ),
    "results/runs/noisy/mlp/mixup2/seed0/calibrate.json": (  # which a stage writes last
        "calibrate",
        "calibrate noisy/mlp/mixup2/seed0: calibrate.json is missing",
    ),
    "results/references/noisy/seed0/metrics.csv": ("reference", "reference noisy/seed0: metrics.csv is missing"),
}


def test_what_was_lost_is_made_again_but_for_arrays_that_can_be_loaded_again(copied):
    """Claims are judged again if they were edited. The arrays of a source may be deleted to make room."""
    with (copied.folder / "workflow/claims.yaml").open("a") as file:
        file.write("# Looked at again.\n")
    assert copied.status()[0] == "claims tiny: its input claims changed"
    for path in LOST:
        (copied.folder / path).unlink()
    for name in ("images", "labels"):
        (copied.folder / f"results/sources/digits/{name}.npy").unlink()
    (_, counts), lines = copied.dry_run(), copied.status()
    assert not {"source", "train"} & set(counts)
    for rule, line in LOST.values():
        assert counts[rule] == 1
        assert line in lines
    probed = "results/runs/noisy/mlp/mixup2/seed1/radii.parquet"
    assert copied.jobs("--cores", "1", probed) == {"probe": 1}
    assert checksum(copied.folder / probed) == checksum(copied.original / probed)
    assert (copied.folder / "results/sources/digits/images.npy").exists()


def test_a_plugin_that_is_no_python_matters_to_those_who_name_it(copied):
    """An unfinished loss breaks no other run; an unfinished figure does if all figures are drawn."""
    package = copied.folder / "src/halobench"
    (package / "losses/unfinished.py").write_text("class Unfinished(\n")
    (package / "losses/latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe9'\n")
    assert copied.status() == [NOTHING]
    config = tiny_config()
    config["losses"]["unfinished"] = {"name": "unfinished"}
    copied.workspace.write(config)
    line = "losses.unfinished.name: the plug-in 'unfinished' can't be read: "
    copied.refused(line)
    copied.workspace.write(tiny_config())
    (package / "reporting/figures/odd.py").write_text("def draw(metric): ...\n")
    copied.refused("figures.odd: draw has the parameter 'metric'; each must name a table: one of claims, history, ")


def test_the_status_is_a_command_and_part_of_a_dry_run(copied):
    """For the configuration that the arguments specify; a dry run then shows Snakemake's jobs for its targets."""
    config = tiny_config()
    config["train"]["lr"] = 0.01
    copied.workspace.write(config)
    lines = copied.status()
    assert lines[0] == "train, 16 jobs (clean/cnn/cross_entropy/seed0, ...): train.lr was 0.003 and is now 0.01"
    assert " jobs would run: 16 train, 16 probe, 16 calibrate, " in lines[-1]
    assert copied.status("--config", 'train={"epochs": 3, "lr": 0.003}') == [NOTHING]
    target = "results/runs/noisy/mlp/mixup2/seed1/metrics.csv"
    said, counts = copied.dry_run("--forcerun", "calibrate", "--", target)
    assert said.splitlines()[0] == lines[0]
    assert counts == {"train": 1, "calibrate": 1}


OUTSIDE = """from halobench.losses.cross_entropy import CrossEntropy
from my_helpers import divisor


class Halved(CrossEntropy):
    \"\"\"Half of the cross entropy.\"\"\"

    def __call__(self, logits, targets):
        return super().__call__(logits, targets) / divisor
"""


def test_an_outside_loss_reruns_its_cells_only(copied):
    """The cell of a loss next to the Snakefile (module:object) runs, and reruns when the loss or its helper changes."""
    module, helper = (copied.folder / f"my_{name}.py" for name in ("losses", "helpers"))
    helper.write_text("divisor = 2\n")
    module.write_text(OUTSIDE)
    config = tiny_config()
    config["losses"]["halved"] = {"name": "my_losses:Halved"}
    cells = {"datasets": ["clean"], "models": ["mlp"], "losses": ["halved"], "seeds": [0]}
    config["experiments"]["own"] = {"grid": [cells], "figures": ["training"], "tables": []}
    config["run"].append("own")
    copied.workspace.write(config)
    rules = ("train", "probe", "calibrate", "manifest", "aggregate", "claims", "overview", "figure_training")
    expected = dict.fromkeys((*rules, "explorer"), 1)
    before = copied.files()
    assert copied.jobs("--cores", "1") == expected
    edits = (
        (module, f"# A comment.\n{OUTSIDE}\n", None),
        (module, OUTSIDE.replace("/ divisor", "/ (1 * divisor)"), "my_losses.py"),
        (helper, "divisor = 2\nmore = 1\n", "my_helpers.py"),
    )
    for path, edited, name in edits:
        before_edit = path.read_text()
        path.write_text(edited)
        said, counts = copied.dry_run()
        assert counts == (expected if name else {})
        assert said.startswith(f"train clean/mlp/halved/seed0: {name} changed\n" if name else NOTHING)
        path.write_text(before_edit)
    if SOAK:
        helper.write_text("divisor = 3\n")
        assert copied.jobs("--cores", "1") == expected
    after = copied.files()
    assert {path: after[path] for path in before} == before


@pytest.mark.soak
@pytest.mark.parametrize("name", ["one figure changed", "a learning rate in one model's recipe", "a seed added"])
def test_a_real_rerun_leaves_the_rest_alone(copied, name):
    edit = ALL[name]
    copied.edit(edit)
    plan = copied.seen("-n")
    before = copied.files()
    assert copied.jobs("--cores", "1") == edit.jobs
    after = copied.files()
    made = {path for job in plan for path in job.outputs if path.count("/") > 1}  # without the page of all experiments
    assert all(after[path] == before[path] for path in before if path not in made)
    assert all(after[path] != before.get(path) for path in made)
    assert copied.seen("-n") == []
