"""The command line: help, errors in one line, and what each stage imports."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import numpy as np
import pytest

import synthetic
from halobench.cli import main
from halobench.runner.arguments import read_arguments
from halobench.storage import arrays_io, tables_io
from halobench.storage.columns import TABLE_COLUMNS

STAGES = ["source", "train", "probe", "calibrate", "repair", "reference", "aggregate", "claims", "table"]
STAGES += ["figure", "overview", "explorer"]
COMMANDS = [*STAGES, "check", "compare", "logs", "run", "show", "status", "verify", "weights convert"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert "usage: halobench " + command in capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"halobench {importlib.metadata.version('halobench')}\n"


def test_help_lists_commands_in_groups_and_comes_without_arguments_too(capsys):
    """Each command appears once, except those only the workflow calls; within 80 columns."""
    told = []
    for arguments in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main.main(arguments)
        assert stop.value.code == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    listed = [name for names in main.GROUPS.values() for name in names]
    assert sorted(listed) == sorted({*main.COMMANDS} - {"check"})
    for name in listed:
        assert len(re.findall(rf"^  {name} +{re.escape(main.COMMANDS[name].summary)}$", told[0], re.M)) == 1
    assert max(map(len, told[0].split("options:")[0].splitlines()[2:])) <= 84


TRAIN = ["train", "--source", "nowhere", "--seed", "0", "--out", "out"]
SPEC = '{"dataset": {"source": "digits", "train": 9, "val": 9, "test": 9}, "model": {"name": "mlp"}, "loss": %s}'


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["calibrate", "--spec", "{", "--seed", "0", "--run", "x"], 2, "expected JSON"),
        (["calibrate", "--spec", "{}", "--seed", "-1", "--run", "x"], 2, "expected a whole number of at least 0"),
        (["calibrate", "--spec", '{"bin": 3}', "--seed", "0", "--run", "x"], 2, "bin = 3: expected one of the keys"),
        (["calibrate", "--spec", '{"calibrators": ["exat"]}', "--seed", "0", "--run", "x"], 2, "'exact'"),
        (["calibrate", "--spec", "{}", "--seed", "0", "--run", "nowhere"], 2, "--run = 'nowhere': expected"),
        ([*TRAIN, "--spec", SPEC % '{"name": "cross_entropy"}'], 2, "--source = 'nowhere': expected an existing"),
        ([*TRAIN, "--spec", "{}", "--checkpoint", __file__], 2, "expected a file whose name ends in .safetensors"),
        ([*TRAIN, "--spec", "{}", "--slots-per-gpu", "0"], 2, "--slots-per-gpu: expected a whole number of at least 1"),
        (
            [*TRAIN, "--source", ".", "--weights", "x", "--spec", SPEC % '{"name": "brier"}'],
            2,
            "'x': expected none, since this",
        ),
        ([*TRAIN, "--spec", SPEC % "{}"], 2, "spec.loss.name = None: expected a value"),
        ([*TRAIN, "--spec", '{"datset": 1}'], 2, "did you mean 'dataset'"),
        (
            ["source", "--spec", '{"loader": "digits", "a": 1}', "--out", "x"],
            2,
            "a = 1: expected this key to be left",
        ),
        (["probe", "--spec", "[]", "--source", "x", "--seed", "0", "--run", "x"], 2, "a mapping with the keys dataset"),
        (["probe", "--spec", '{"probes": {}}', "--source", "x", "--seed", "0", "--run", "x"], 2, "at least one probe"),
        (["aggregate", "--manifest", __file__, "--results", "x", "--out", "y"], 2, "expected JSON"),
        (
            ["source", "--spec", '{"loader": "digits"}', "--out", __file__],
            2,
            "expected a writable folder (Not a directory)",
        ),
        (["reference", "--spec", "{}", "--source", "x", "--seed", "0", "--out", "y"], 2, "spec.dataset.source"),
        (["figure", "sumary", "--tables", "x", "--out", "y"], 2, "did you mean 'summary'"),
        (["table", "paper_image", "--tables", "x", "--out", "y"], 2, "did you mean 'paper_images'"),
        (["check", "--each"], 2, "unrecognized arguments: --each"),
        (
            ["run", "--configfile", "a", "--configfile", "b"],
            2,
            "--configfile a and b: expected one --configfile, which",
        ),
        (["run", "--config", "a"], 2, "--config: expected KEY=VALUE, but got 'a' (targets come before options)"),
        (["run", "--orphans", "keep"], 2, "argument --orphans: invalid choice: 'keep' (choose from"),
        (["run", "--orphans"], 2, "argument --orphans: expected one argument"),
        (["logs"], 2, "the following arguments are required: CELL"),
        (["shw"], 2, "no such command: 'shw' (did you mean 'show'?); `halobench --help` lists all commands"),
        (["chek"], 2, "no such command: 'chek'; `halobench --help` lists all commands"),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = main.main(arguments)
    except SystemExit as stop:
        found = stop.code
    error = capsys.readouterr().err
    assert found == code
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "orphans", "rest"),
    [
        (["--cores", "2", "-n"], "wait", ["--cores", "2", "-n"]),
        (["--orphans", "cancel", "--cores", "2"], "cancel", ["--cores", "2"]),
        (["--config", "run=[demo]", "--orphans=cancel"], "cancel", ["--config", "run=[demo]"]),
        ([], "wait", []),
    ],
)
def test_run_hands_on_all_but_its_own_option(arguments, orphans, rest):
    given = main.parse_arguments(["run", *arguments])
    assert (given.orphans, given.rest) == (orphans, rest)


@pytest.mark.parametrize(
    ("arguments", "rest", "files", "entries"),
    [
        ([], [], [], []),
        (["partial", "-n"], ["partial", "-n"], [], []),
        (["--config", "run=[demo]", "-n"], ["-n"], [], ["run=[demo]"]),
        (["-n", "--configfile", "a", "b", "--", "c.csv", "-C"], ["-n", "--", "c.csv", "-C"], ["a", "b"], []),
        (["-Ca=1", "--config=b=2", "x.csv"], ["x.csv"], [], ["a=1", "b=2"]),
    ],
)
def test_what_sets_the_configuration_is_told_apart_and_put_before_the_targets(arguments, rest, files, entries):
    asked = read_arguments(arguments)
    assert [list(asked.rest), list(asked.files), list(asked.entries)] == [rest, files, entries]
    whole = asked.with_options("--x")
    assert read_arguments([each for each in whole if each != "--x"]) == asked
    assert whole.index("--x") < [*whole, "--"].index("--")


def test_a_plugin_that_ends_the_process_is_no_success(capsys, monkeypatch):
    def end(*arguments):
        raise SystemExit(0)

    monkeypatch.setattr("halobench.pipeline.calibrate.run_calibrate", end)
    assert main.main(["calibrate", "--spec", "{}", "--seed", "0", "--run", "x"]) == 1
    assert "halobench: error: ended by SystemExit(0), raised by a plug-in\n" in capsys.readouterr().err


def test_what_needs_no_torch_imports_none():
    modules = (
        *("calibration.evaluate", "results.aggregate", "results.claims", "reporting.pages.overview"),
        *("reporting.plotting.panel_grid", "experiment.config_loader", "experiment.validation", "pipeline.stage"),
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
    "figure": "calibration --tables {folder} --out {folder}/calibration",
    "table": "paper_images --tables {folder} --out {folder}/paper_images",
}


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
    words = [f"{stage} {rest.format(folder=tmp_path, root=root)}" for stage, rest in LIGHT_STAGES.items()]
    code = "import sys; from halobench.cli.main import main\nfor words in sys.argv[1:]:\n"
    code += f"    print(words, main(words.split()), *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {f"{each} 0" for each in words} <= set(done.stdout.splitlines()), done.stdout


def test_the_cluster_page_tells_the_truth(root):
    """Its links, commands, make targets and settings all exist."""
    text = (root / "docs/cluster.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (root / "docs" / link).exists(), link
    for target in re.findall(r"`make ([\w-]+)", text):
        assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.M), target
    assert set(re.findall(r"(?:`|^    )halobench ([a-z]+)", text, re.M)) <= set(COMMANDS)
    profile = (root / "profiles/slurm/profile.yaml").read_text()
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|$", text[: text.index("## Watch it")], re.M)
    keys = {key for row in rows for key in re.findall(r"`([a-z][a-z_-]+)[`:]", row)}
    assert {"default-resources", "slurm_partition", "retries", "local-cores", "set-resources"} <= keys
    for key in keys - {"squeue", "sacct"}:
        assert re.search(rf"\b{key}:", profile), key


def test_the_readme_tells_the_truth(root):
    """Its links exist, and so do its and the docs' commands and targets; test_docs.py runs its library lines."""
    text = (root / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (root / link).exists(), link
    text += "".join(page.read_text() for page in (root / "docs").glob("*.md"))
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"(?:`|^    )make ([\w-]+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    told = {
        command
        for words in re.findall(r"(?:`|^    )(?:\S+=\S+ |\S*/)?halobench ([a-z|]+)", text, re.M)
        for command in words.split("|")
    }
    assert {*STAGES, "run", "status", "verify"} <= told <= {command.split()[0] for command in COMMANDS}
