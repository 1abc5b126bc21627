"""The command line: help, errors in one line, and what each stage imports."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import synthetic
from conftest import ROOT
from halobench.cli import main
from halobench.core import plugins
from halobench.storage import arrays_io, tables_io
from halobench.storage.columns import TABLE_COLUMNS

COMMANDS = {"run", "status", "show", "compare", "verify", "diagnose", "apply", "doctor", "check", "stage"}


@pytest.mark.parametrize("command", [*sorted(COMMANDS), *(f"stage {name}" for name in plugins.names("stages"))])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert "usage: halobench " + command in capsys.readouterr().out


def test_help_lists_all_commands_and_comes_without_arguments_too(capsys):
    texts = []
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main.main(arguments)
        assert stop.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert set(re.findall(r"^    ([a-z]+)", texts[0].partition("  COMMAND\n")[2], re.M)) == COMMANDS


CALIBRATE = "stage calibrate --seed 0 --run x --spec"
PROBE = "stage probe --source x --seed 0 --run x --spec"
TRAIN = "stage train --source nowhere --seed 0 --out out --spec"
FIGURE = "stage figure --tables x --out y --spec"
SPEC = """'{"dataset": {"source": "digits", "train": 9, "val": 9, "test": 9}, "model": {"name": "mlp"}, "loss": %s}'"""
BRIER = SPEC % '{"name": "brier"}'
BAD = {
    f"{CALIBRATE} {{": "expected JSON",
    f"{CALIBRATE} {{}} --seed -1": "expected a whole number of at least 0",
    f"{CALIBRATE} '{{\"bin\": 3}}'": "bin = 3: expected one of the keys",
    f'{CALIBRATE} \'{{"calibrators": ["exat"]}}\'': "'exact'",
    f"{CALIBRATE} {{}} --run nowhere": "--run: no such folder: nowhere",
    f"{TRAIN} {BRIER}": "--source: no such folder: nowhere",
    f"{TRAIN} {{}} --slots-per-gpu 0": "--slots-per-gpu: expected a whole number of at least 1",
    f"{TRAIN} {BRIER} --every inf": "expected a number of seconds of at least 0, not 'inf'",
    f"{TRAIN} {BRIER} --source . --weights x": "--weights: this model is trained from the start",
    f"{TRAIN} {SPEC % '{}'}": "spec.loss.name: missing",
    f"{TRAIN} '{{\"datset\": 1}}'": "did you mean 'dataset'",
    """stage source --spec '{"loader": "digits", "a": 1}' --out x""": "a: digits has no options; leave this key out",
    f"{PROBE} []": "a mapping with the keys dataset",
    f"{PROBE} '{{\"probes\": {{}}}}'": "at least one probe",
    f"stage aggregate --manifest {__file__} --results x --out y": "test_cli.py: can't be read as JSON",
    """stage source --spec '{"loader": "digits"}' --out /dev/null""": "/dev/null: can't be written to",
    "stage reference --spec {} --source x --seed 0 --out y": "spec.dataset.source",
    f'{FIGURE} \'{{"figure": "sumary"}}\'': "did you mean 'summary'",
    f"{FIGURE} []": "spec = []: expected a mapping with the name of a figure under 'figure'",
    "verify --each": "--each",
    "stage source --spe {} --out x": "--spec",
    f"run --snakefile {ROOT}/Snakefile --cores 0": "--cores = 0: expected at least 1 core",
    "run --configfile a --configfile b": "--configfile occurs 2 times, and Snakemake uses only the last",
    "run --config a": "--config: 'a' isn't KEY=VALUE (targets come before options)",
    "show": "CELL",
    "shw": "(did you mean 'show'?)",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_arguments_end_in_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = main.main(shlex.split(arguments))
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert BAD[arguments] in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "rest"),
    [
        (["--cores", "2", "-n"], ["--cores", "2", "-n"]),
        (["--results", "there", "--cores", "2"], ["--cores", "2"]),
        (["-n", "--configfile", "a", "--", "c.csv", "-C"], ["-n", "--configfile", "a", "--", "c.csv", "-C"]),
        (["--res", "x", "-np", "-Ca=1"], ["--res", "x", "-np", "-Ca=1"]),
        ([], []),
    ],
)
def test_run_hands_on_all_but_its_own_option(arguments, rest):
    assert main.parse_arguments(["run", *arguments]).rest == rest


def test_a_stage_gets_its_options(monkeypatch):
    given = []
    monkeypatch.setattr("halobench.pipeline.stages.figure.run", lambda **arguments: given.append(arguments))
    words = ["stage", "figure", "--spec", '{"figure": "radii"}', "--tables", "x", "--out", "y/radii", "--code", "c"]
    assert main.main(words) == 0
    assert given == [{"spec": {"figure": "radii"}, "tables": Path("x"), "out": Path("y/radii"), "code": "c"}]


def test_a_plugin_that_ends_the_process_is_no_success(capsys, monkeypatch):
    def end(**arguments):
        raise SystemExit(0)

    monkeypatch.setattr("halobench.pipeline.stages.calibrate.run", end)
    assert main.main([*CALIBRATE.split(), "{}"]) == 1
    assert "halobench: error: ended by SystemExit(0), raised by a plug-in\n" in capsys.readouterr().err


@pytest.mark.process
def test_what_needs_no_torch_imports_none():
    modules = (
        *("calibration.calibrate_cell", "results.aggregate", "analysis.claims", "reporting.pages.overview"),
        *("reporting.plotting.panel_grid", "experiment.config_loader", "runner.validation", "pipeline.stage"),
        *("cli.main", "results.status", "runner.run", "runner.rule_inputs"),
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(f'halobench.{name}')\n"
    code += "    if 'torch' in sys.modules: sys.exit(f'{name} imports torch')"
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


HEAVY = ("torch", "torchvision", "sklearn", "snakemake", "timm", "probmetrics", "netcal")
LIGHT_STAGES = {
    "calibrate": "--seed 0 --run {folder} --spec {{}}",
    "claims": "--claims {root}/workflow/claims.yaml --tables {folder} --out {folder}",
    "figure": '--spec {{"figure":"calibration"}} --tables {folder} --out {folder}/calibration',
    "table": '--spec {{"table":"scores"}} --tables {folder} --out {folder}/scores',
}


@pytest.mark.process
def test_what_needs_no_torch_runs_without_it(root, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"transition": np.eye(3)}
    for split in ("train", "val", "test"):
        labels = rng.integers(3, size=40)
        arrays |= {f"{split}.logits": rng.standard_normal((40, 3)), f"{split}.labels": labels, f"{split}.clean": labels}
    arrays_io.write_arrays(tmp_path / "logits.safetensors", arrays)
    for name, table in synthetic.tables(seeds=(0, 1)).items():
        columns = dict.fromkeys([*table.columns, *TABLE_COLUMNS.get(name, ())])
        tables_io.write_parquet(tmp_path / f"{name}.parquet", table.reindex(columns=list(columns)))
    words = [f"stage {stage} {rest.format(folder=tmp_path, root=root)}" for stage, rest in LIGHT_STAGES.items()]
    code = "import sys; from halobench.cli.main import main\nfor words in sys.argv[1:]:\n"
    code += f"    print(words, main(words.split()), *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {f"{each} 0" for each in words} <= set(done.stdout.splitlines()), done.stdout


@pytest.mark.process
def test_a_shell_can_ask_how_to_complete_a_command(tmp_path):
    """As argcomplete's script for bash asks."""
    said = tmp_path / "said"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(said), "COMP_TYPE": "9"}
    cell = "digits/mlp/mixup2/seed0"
    (tmp_path / "results/runs" / cell).mkdir(parents=True)
    (tmp_path / "results/runs" / cell / "train.json").touch()
    for line, answer in (("halobench compare --f", "--format "), ("halobench show digits/m", f"{cell} ")):
        variables = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
        subprocess.run([sys.executable, "-m", "halobench.cli.main"], env=variables, check=False, cwd=tmp_path)
        assert said.read_text().split("\x0b") == [answer]


OWN = """
import torch
from halobench import Loss
class Fine(Loss):
    def __call__(self, logits, targets):
        return -(targets * logits.log_softmax(1)).sum(1).mean()
class Rows(Loss):
    def __call__(self, logits, targets):
        return -(targets * logits.log_softmax(1)).sum(1)
def array(logits, labels):
    return logits
def breaks(logits, labels):
    raise KeyError("no such luck")
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["losses", "own_here:Fine"], 0, "losses own_here:Fine: all checks passed"),
        (["losses", "own_here:Rows"], 1, "own_here:Rows returned a tensor of shape (6,); a loss must return a scalar"),
        (["losses", "own_here:Gone"], 1, "own_here.py doesn't define 'Gone'"),
        (["calibrators", "own_here:array"], 1, "own_here:array"),
        (["calibrators", "own_here:breaks"], 1, "no such luck"),
        ([str(ROOT / "src/halobench/calibration/metrics/ece.py")], 0, "metrics ece: all checks passed"),
        (["metrics", "ece", "--options", '{"bin": 3}'], 1, "no such option; those of ece are bins"),
        (["own_here.py"], 2, "own_here.py: isn't a plug-in's file; pass a file in a folder of plug-ins, or a kind and"),
        (["loss", "own_here:Fine"], 2, "KIND = 'loss': expected one of calibrators"),
        (["figures", "summary"], 2, "--tables: pass an experiment's tables"),
    ],
)
def test_a_plug_in_is_checked_from_the_command_line(tmp_path, monkeypatch, capsys, words, code, said):
    """Each answer is one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_here", raising=False)
    Path("own_here.py").write_text(OWN)
    assert main.main(["check", *words]) == code
    told = capsys.readouterr()
    (line,) = (told.out + told.err).splitlines()
    assert said in line
