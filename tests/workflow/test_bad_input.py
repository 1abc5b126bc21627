"""Bad configurations and bad files: each leads to a line that says what is wrong, and no results are lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import Workspace, one_cell
from halobench.cli import main
from halobench.storage import arrays_io, records, tables_io
from halobench.storage import files as store

pytestmark = pytest.mark.faults

CELL = "results/runs/noisy/mlp/mixup2/seed0"
SOURCE = "results/sources/digits"
LOG = "noisy/mlp/mixup2/seed0"


@pytest.fixture
def finished(finished_one, tmp_path, monkeypatch) -> Workspace:
    """A copy of the finished cell, to be damaged; commands run in it."""
    monkeypatch.chdir(finished_one.copy(tmp_path / "copy").folder)
    return Workspace.at(tmp_path / "copy")


def digest(folder: Path) -> dict[str, str]:
    """A digest of every file under ``results`` but its lock, or of ``results`` itself if it is a file."""
    files = [folder / "results", *sorted((folder / "results").rglob("*"))]
    names = {str(f.relative_to(folder)): f for f in files if f.is_file()}
    return {
        name: hashlib.sha256(f.read_bytes()).hexdigest() for name, f in names.items() if name != "results/.run/lock"
    }


# --- Configurations: tests/unit/experiment/test_bad_config.py has all that can be wrong with them -------------------


def assert_refused(workspace: Workspace, lines: list, *arguments: str, what: str = "configuration") -> None:
    """Snakemake ends before any job with exactly these lines (strings or patterns), and results stay as they are."""
    before = digest(workspace.folder)
    done = workspace.snakemake("--cores", "1", *arguments)
    assert done.returncode == 1
    verb = "has" if what in ("configuration", "command line") else "have"
    found = done.stderr.partition(f"The {what} {verb} problems:\n")[2].splitlines()
    assert len(found) == len(lines), done.stderr
    for line, expected in zip(found, lines, strict=True):
        assert expected.fullmatch(line) if isinstance(expected, re.Pattern) else line == expected
    assert_no_traceback(done.stdout + done.stderr)
    assert digest(workspace.folder) == before


def assert_no_traceback(text: str) -> None:
    """There is neither Python's heading nor a line of a stack, which Snakemake prints without the heading."""
    assert "Traceback" not in text
    assert not re.search(r'^\s*File ".*", line \d+', text, re.M), text


def test_without_earlier_results_a_refusal_makes_none(tmp_path):
    config = one_cell()
    config["train"]["lr"] = "fast"
    workspace = Workspace(tmp_path, config)
    small = "datasets={noisy: {train: -1, val: 60}}"  # in a mapping, Snakemake leaves numbers as text
    lines = ["datasets.noisy.train = -1: expected at least 2", "train.lr = 'fast': expected a number"]
    assert_refused(workspace, lines, "--config", small)
    assert not (tmp_path / "results").exists()


def test_a_plugin_that_ends_the_process_is_refused_before_any_job(finished, monkeypatch):
    (finished.folder / "quits.py").write_text("import os\ndef build(input_shape, classes):\n    os._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(finished.folder), *sys.path]))
    config = one_cell()
    config["models"] = {"quits": {"name": "quits:build"}}
    config["experiments"]["tiny"]["grid"][0]["models"] = ["quits"]
    finished.write(config)
    line = r"the plug-ins .*quits:build.* can't be built: the check exited with code 3 \(.*\)"
    assert_refused(finished, [re.compile(line)])


# --- Files: what a stage reads ---------------------------------------------------------------------------------------

REMEDY = re.escape(f" {store.REMEDY}")
ARRAYS = "arrays as safetensors"
TABLES = "results/tables/tiny"


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(path: Path) -> None:
    """Change one digit or byte, so the file can still be read."""
    content = bytearray(path.read_bytes())
    digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
    at = digits[len(digits) // 2] if path.suffix in (".json", ".csv") else len(content) - 1
    content[at] = ord("1") + (content[at] + 1) % 8 if path.suffix in (".json", ".csv") else content[at] ^ 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def garbled(path: Path) -> None:
    path.write_bytes(b"\x89\xff\x00 not what it was\n" * 9)


def pickled(path: Path) -> None:
    """Write an array of objects, which would run code when read."""
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


missing = Path.unlink
DAMAGES = (truncated, edited, emptied, missing, a_folder)

# The stage's log (its first line is the command), a file that it reads, what that should have been, and damages: all
# of them for one file of each kind, and one for each other file. Lost arrays are loaded again.
IMAGES = "a .npy array of uint8 (1797, 1, 8, 8)"
READS = [
    (f"train/{LOG}", f"{SOURCE}/images.npy", IMAGES, (truncated, edited, emptied, a_folder, pickled)),
    (f"train/{LOG}", f"{SOURCE}/labels.npy", "a .npy array of int64 (1797,)", (truncated,)),
    ("reference/noisy/seed0", f"{SOURCE}/meta.json", "JSON", DAMAGES),
    (f"probe/{LOG}", f"{CELL}/model.safetensors", ARRAYS, DAMAGES),
    (f"probe/{LOG}", f"{CELL}/logits.safetensors", ARRAYS, (edited,)),
    (f"calibrate/{LOG}", f"{CELL}/logits.safetensors", ARRAYS, (missing,)),
    ("aggregate/tiny", f"{CELL}/neighbourhood.parquet", "", DAMAGES),
    *(
        ("aggregate/tiny", f"{CELL}/{name}", "", (edited,))
        for name in ("radii.parquet", "metrics.csv", "reliability.csv", "calibration.json")
    ),
    ("aggregate/tiny", f"{CELL}/train.json", "JSON", (truncated, missing)),
    ("aggregate/tiny", "results/references/noisy/seed0/metrics.csv", "", (missing,)),
    ("aggregate/tiny", "results/manifests/tiny.json", "JSON", (garbled,)),
    ("claims/tiny", f"{TABLES}/runs.parquet", "a table as parquet", (emptied, a_folder)),
    ("figure/tiny/summary", f"{TABLES}/metrics.parquet", "a table as parquet", (truncated,)),
]


def logged_command(log: str) -> list[str]:
    """The arguments of the command in the first line of a stage's log."""
    words = shlex.split(Path(f"results/logs/{log}.log").read_text().splitlines()[0])
    assert words[:2] == ["$", "halobench"]
    return words[2:]


def assert_stage_refuses(arguments: list[str], line: str, capsys: pytest.CaptureFixture) -> None:
    """The command ends with exactly this line (a pattern) on standard error, and results stay as they are."""
    before = digest(Path())
    capsys.readouterr()
    assert main.main(arguments) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"halobench: error: {line}\n", err), err
    assert_no_traceback(out + err)
    assert digest(Path()) == before


@pytest.mark.parametrize(
    ("log", "path", "expected", "damages"),
    [pytest.param(*case, id=f"{case[0].split('/')[0]}, {Path(case[1]).name}") for case in READS],
)
def test_a_damaged_file_ends_the_stage_in_a_line_that_names_it(finished, capsys, log, path, expected, damages):
    place, arguments = Path(path), logged_command(log)
    whole = place.read_bytes()
    for damage in damages:
        damage(place)
        wanted = re.escape(expected) if damage not in (edited, missing) else ""
        remedy = REMEDY if damage is not missing else "(?<!recreate it\\))"  # there is nothing to delete
        line = rf"{re.escape(path)}: .*{wanted}.*{remedy}"
        assert_stage_refuses(arguments, line, capsys)
        if place.is_dir():
            place.rmdir()
        place.write_bytes(whole)


def edit_json(path: str, change: Callable[[dict], object]) -> None:
    """Edit a JSON file and update its record, so only the file's content is wrong."""
    place = Path(path)
    content = json.loads(place.read_text())
    change(content)
    place.write_text(json.dumps(content))
    record_again(place)


def record_again(place: Path) -> None:
    """Write a file's checksum to the record next to it, as if its stage had written the file like this."""
    for record in place.parent.glob("*.json"):
        if record != place:
            content = json.loads(record.read_text())
            if "outputs" in content and place.name in content["outputs"]:
                content["outputs"][place.name] = store.checksum(place)
                record.write_text(json.dumps(records.seal(content)))


def npy(path: str, array: np.ndarray) -> None:
    np.save(path, array)
    record_again(Path(path))


RUNS = f"{CELL}/train.json"
MANIFEST = "results/manifests/tiny.json"
# The stage's log, what is written, and the line that must be printed (a pattern).
WRONG: dict[str, tuple[str, Callable[[], object], str]] = {
    "images of another type": (
        f"train/{LOG}",
        lambda: npy(f"{SOURCE}/images.npy", np.zeros((1797, 1, 8, 8), np.float32)),
        rf"{SOURCE}/images\.npy: found float32 \(1797, 1, 8, 8\), expected a \.npy array of uint8 \(1797, .*\){REMEDY}",
    ),
    "a list for a record": (
        "aggregate/tiny",
        lambda: Path(RUNS).write_text("[]"),
        rf"{RUNS} = \[\]: expected a mapping with the keys outputs, .*{REMEDY}",
    ),
    "a record without accuracy": (
        "aggregate/tiny",
        lambda: edit_json(RUNS, lambda record: record.pop("train_accuracy")),
        rf"{RUNS}: found no key 'train_accuracy', expected a mapping with the keys outputs, .*{REMEDY}",
    ),
    "a table of something else": (
        "claims/tiny",
        lambda: tables_io.write_parquet(f"{TABLES}/runs.parquet", pd.DataFrame({"a": [1]})),
        rf"{TABLES}/runs\.parquet: found no column 'dataset', expected at least one row with the columns .*{REMEDY}",
    ),
    "another model's weights": (
        f"probe/{LOG}",
        lambda: (
            arrays_io.write_arrays(f"{CELL}/model.safetensors", {"a": np.zeros(2)}),
            record_again(Path(f"{CELL}/model.safetensors")),
        ),
        rf"spec\.model: mlp isn't the model saved in {CELL}/model\.safetensors \(.*\)",
    ),
    "logits of one split": (
        f"calibrate/{LOG}",
        lambda: (
            arrays_io.write_arrays(f"{CELL}/logits.safetensors", {"val.logits": np.zeros((2, 2))}),
            record_again(Path(f"{CELL}/logits.safetensors")),
        ),
        r"train\.logits: no such array \(found: val\.logits\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_of_wrong_content_ends_the_stage_in_a_line(finished, capsys, wrong):
    log, write, line = WRONG[wrong]
    write()
    assert_stage_refuses(logged_command(log), line, capsys)


def test_bad_claims_are_told_before_any_job_and_end_the_stage_in_the_same_line(finished, capsys):
    """tests/unit/analysis/test_claims.py has everything that can be wrong with them."""
    place = Path("workflow/claims.yaml")
    place.write_text(place.read_text().replace("table: radii", "table: radi", 1))
    line = (
        r"workflow/claims\.yaml: claims\.certain_half_way_in_the_worst_direction\.table = 'radi': expected one of"
        r" .* \(did you mean 'radii'\?\)"
    )
    assert_stage_refuses(logged_command("claims/tiny"), line, capsys)
    assert_refused(finished, [re.compile(line)], what="claims")


def test_a_gpu_without_slots_is_told_before_any_job(finished):
    line = "set-resources: train:slots_per_gpu = 0: expected at least 1"
    assert_refused(finished, [line], "--set-resources", "train:slots_per_gpu=0", what="resources")


# --- Files: the workflow ---------------------------------------------------------------------------------------------


def edit_table(path: str) -> None:
    """Change numbers in a parquet file, which can still be read."""
    table = pd.read_parquet(path)
    table["value"] = 0.5
    table.to_parquet(path, index=False)


def test_results_that_were_edited_are_all_named_and_made_again(finished, capsys):
    """Each could still be read, and would have been trusted; afterwards, everything has the old bytes."""
    before = digest(finished.folder)
    edited(Path(f"{CELL}/logits.safetensors"))
    edit_json(f"{CELL}/probe.json", lambda record: record.update(seconds=0.5))
    edited(Path(f"{CELL}/metrics.csv"))
    edit_json(MANIFEST, lambda manifest: manifest["references"].clear())
    edit_table(f"{TABLES}/metrics.parquet")
    assert main.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line in (
        f"train {LOG}: logits.safetensors changed after the stage wrote it",
        f"probe {LOG}: its record can't be read",
        f"calibrate {LOG}: metrics.csv changed after the stage wrote it",
        "manifest tiny: its record can't be read",
        "aggregate tiny: metrics.parquet changed after the stage wrote it",
    ):
        assert line in lines
    done = finished.halobench("run", "--cores", "1")
    assert done.returncode == 0, done.stderr
    after = digest(finished.folder)
    same = [path for path in before if Path(path).suffix in (".safetensors", ".csv") and Path(path).stem != "runs"]
    assert {path: after[path] for path in same} == {path: before[path] for path in same}


@pytest.mark.parametrize(
    ("place", "linked"),
    [
        ("results/runs/noisy", False),
        *(pytest.param("results", linked, marks=pytest.mark.soak) for linked in (False, True)),
    ],
)
def test_a_file_where_a_folder_should_be_is_told_before_any_job(finished, place, linked):
    """Unlike permissions, it stops root as well."""
    shutil.rmtree(place)
    if linked:
        Path(place).symlink_to("/nowhere/at/all")
    else:
        Path(place).write_text("in the way\n")
    line = f"{place}: this is a file or a broken link, but results need a folder here; move it elsewhere"
    assert_refused(finished, [line], what="results")


def test_a_job_that_meets_a_damaged_file_says_so_in_its_log_and_loses_only_its_own_outputs(finished):
    """The file is damaged but its time stays the same, as on a failing disk."""
    path = Path(f"{CELL}/logits.safetensors")
    times = path.stat()
    truncated(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    Path(f"{CELL}/metrics.csv").unlink()
    before = digest(finished.folder)
    done = finished.snakemake("--cores", "1")
    assert done.returncode == 1
    assert_no_traceback(done.stdout + done.stderr)
    log = f"results/logs/calibrate/{LOG}.log"
    command, *said = Path(log).read_text().splitlines()
    assert command.startswith("$ halobench ")
    assert len(said) == 1
    assert re.fullmatch(rf"halobench: error: {CELL}/logits\.safetensors: .*{REMEDY}", said[0]), said
    after = digest(finished.folder)
    assert {name for name in after if after[name] != before.get(name)} == {log}
    assert {str(Path(name).parent) for name in before.keys() - after.keys()} == {CELL}
    assert {f"{CELL}/train.json", f"{CELL}/model.safetensors"} <= set(after)
