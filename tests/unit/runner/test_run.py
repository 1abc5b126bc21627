"""What a run has Snakemake force, by its targets, and the values given with `--config`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
import yaml
from snakemake.cli import get_argument_parser

from conftest import ROOT, tiny_config
from halobench.core.errors import SpecError
from halobench.experiment.code_version import code_digest, code_key
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.jobs import jobs
from halobench.runner.arguments import check_arguments, configuration, read_arguments
from halobench.runner.rule_inputs import RuleInputs, _holds
from halobench.runner.run import INPUTS, _forcing, _needed, check_devices
from halobench.runner.run_plan import FROZEN, RunPlan, check
from halobench.storage.layout import STAGES

CELL = "clean/mlp/mixup2/seed0"


@pytest.mark.parametrize(
    ("targets", "stages"),
    [
        (["probes"], {"source", "train", "probe"}),
        (["trainings", "calibrations"], {"source", "train", "calibrate", "reference"}),
        ([f"./results/runs/{CELL}/metrics.csv"], {"source", "train", "calibrate"}),
        (["probes", "partial"], set()),
        (["results/figures/another/summary.png"], set()),
    ],
)
def test_targets_need_no_job_downstream(targets, stages):
    """None at all if a target isn't in the job list; Snakemake then decides."""
    needed = _needed(targets, jobs(load_config(tiny_config())), "results")
    assert {stage for stage, _ in needed} == stages


def test_a_target_needs_only_the_cells_that_it_is_made_from():
    needed = _needed([f"results/runs/{CELL}/metrics.csv"], jobs(load_config(tiny_config())), "results")
    assert {key for stage, key in needed if stage != "source"} == {CELL}
    assert len(_needed(["all"], jobs(load_config(tiny_config())), "results")) == len(jobs(load_config(tiny_config())))


@pytest.mark.parametrize(
    ("words", "asked"), [([], []), (["--forcerun", "reference", "calibrate"], ["calibrate", "reference"])]
)
def test_what_is_outdated_is_forced_along_with_what_was_asked_for(words, asked):
    """Snakemake would use only the last of two lists; inputs of rules without such a job count as ancient."""
    listed = jobs(load_config(tiny_config()))
    chosen = {job.name: job for job in listed if job.name == ("train", CELL)}
    found = _forcing(read_arguments(["--cores", "1", *words]), "results", listed, chosen)
    triggers = ["--rerun-triggers", "software-env", "--forcerun", *asked, f"results/runs/{CELL}/train.json"]
    assert found[: len(triggers)] == triggers
    ancient = dict(rule.split("=") for rule in found[len(triggers) + 1 :])
    assert ancient.get("train") == (None if asked else "source"), "no source runs that could be newer for a reason"
    assert all(ancient.get(rule) == (None if asked else INPUTS) for rule in ("probe", "figure_summary"))


def test_the_inputs_of_every_rule_can_be_declared_ancient():
    """They are named after stages, but for the first input of a manifest, which has no name."""
    inputs = RuleInputs(load_config(tiny_config()), "results", {})
    named = {name for stage in STAGES.values() for name in inputs.inputs(stage)}
    assert named | {"0", "claims"} <= set(INPUTS.split(","))


def test_a_job_is_given_the_code_version_of_the_start_of_its_run(tmp_path):
    """A Snakemake on a node reads the code anew, which may have been edited meanwhile; the stage then refuses."""
    config = load_config(tiny_config())
    listed = jobs(config)
    path = RunPlan(tiny_config(), config, tmp_path, "results", tmp_path).freeze(listed)
    codes = yaml.safe_load(path.read_text())[FROZEN]
    wildcards = dict(zip(("dataset", "model", "loss"), CELL.split("/"), strict=False))
    trained = next(job for job in listed if job.name == ("train", CELL))
    key = code_key("train", trained.plugins)
    assert codes[key] == code_digest(trained.request.code)
    assert RuleInputs(config, "results", {}).code("train")(wildcards) == codes[key]
    assert RuleInputs(config, "results", codes | {key: "earlier"}).code("train")(wildcards | {"seed": 0}) == "earlier"


def test_a_gpu_that_is_not_here_is_refused_before_any_job():
    here = jobs(load_config(tiny_config()))
    check_devices(here)
    elsewhere = jobs(load_config(tiny_config() | {"train": {"device": "cuda:99"}}))
    check_devices(job for job in elsewhere if job.stage == "source")
    with pytest.raises(SpecError, match=r"train\.device = 'cuda:99': expected a device that torch sees"):
        check_devices(elsewhere)


def test_a_configuration_holds_what_was_given_within_a_section():
    config = {"train": {"lr": "0.01", "epochs": 3}, "run": ["demo"]}
    assert _holds(config, {"train": {"lr": "0.01"}})
    assert _holds(config, {"run": ["demo"], "train": {}})
    assert not _holds(config, {"train": {"lr": "0.1"}})
    assert not _holds(config, {"losses": {}})


def test_values_of_the_command_line_are_merged_into_those_of_files(tmp_path, monkeypatch):
    """The results folder is the last of them, also before targets, and a frozen file takes the place of all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"train": {"lr": 0.1, "epochs": 3}, "run": ["a"]}))
    (tmp_path / "over.yaml").write_text(yaml.safe_dump({"train": {"epochs": 5}}))
    given = ["--configfile", "over.yaml", "--config", 'train={"lr": 0.01}', 'train={"batch": 7}', "run=[b]"]
    asked = read_arguments([*given, "--", "c.csv", "-C"], Path("there"))
    expected = {"train": {"lr": 0.01, "epochs": 5, "batch": 7}, "run": ["b"], "results": "there"}
    assert configuration(asked.options) == expected
    assert asked.options.targets == ["c.csv", "-C"]
    (tmp_path / "frozen.yaml").write_text("run: [c]\n")
    frozen = get_argument_parser().parse_args(asked.with_options("--config", "--configfile", "frozen.yaml"))
    assert (frozen.configfile, frozen.config, frozen.targets) == ([Path("frozen.yaml")], [], ["c.csv", "-C"])


@pytest.mark.parametrize(
    "words", [["--configfile", "a", "--configfiles=b"], ["-Ca=1", "--config", "b=1"], ["--config=a=1", "--config=b=1"]]
)
def test_of_two_options_for_the_configuration_snakemake_would_use_the_last(words):
    with pytest.raises(OSError, match=r"^-.* occurs 2 times, and Snakemake uses only the last"):
        read_arguments(words)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["train.lr=0.1", "train={lr: 0.2}"], "--config train.lr: is set 2 times; keep one of the values"),
        (["run=[a]", "run=[b]"], "--config run: is set 2 times; keep one of the values"),
        (["train={lr: 1, lr: 2}"], "--config train: the key 'lr' is already defined on line 1; keep one of the two"),
    ],
)
def test_a_value_given_twice_is_refused_rather_than_the_last_one_taken(entries, said):
    with pytest.raises(SpecError) as told:
        read_arguments(["--config", *entries])
    assert str(told.value) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resources", "gpu=x"], "Resource 'gpu' was given value 'x', which is not an integer"),
        (
            ["--set-resources", "train:checkpoint_seconds=-5"],
            "Resource 'checkpoint_seconds' was given value '-5', which",
        ),
    ],
)
def test_a_resource_that_is_no_number_is_refused_in_a_line(words, said):
    with pytest.raises(OSError, match=f"^{re.escape(said)}"):
        read_arguments(words)


@pytest.mark.parametrize("setting", ["config: [a=1]", "configfile: mine.yaml", "directory: there"])
@pytest.mark.parametrize("option", ["--profile", "--workflow-profile"])
def test_a_profile_that_sets_what_must_be_known_before_it_is_read_is_refused(tmp_path, monkeypatch, setting, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").touch()
    (tmp_path / "p").mkdir()
    (tmp_path / "p/profile.yaml").write_text(f"cores: 1\n{setting}\n")
    key = setting.partition(":")[0]
    with pytest.raises(OSError, match=f"p/profile.yaml: {key} is read too late in a profile; set it in config.yaml"):
        check_arguments(read_arguments([option, "p"]))


def test_what_is_asked_and_whose_workflow_it_is(tmp_path):
    for words in (["--lint"], ["--summary"], ["--dag=dot"], ["--list-untracked"]):
        assert read_arguments(words).asks, words
    assert not read_arguments(["--cores", "2", "-nR", "train"]).asks
    for snakefile in ("Snakefile", "workflow/Snakefile"):
        assert read_arguments(["-s", str(ROOT / snakefile)]).is_ours
    (tmp_path / "Snakefile").write_text(f"module hb:\n    snakefile: {str(ROOT / 'Snakefile')!r}\n")
    assert not read_arguments(["-s", str(tmp_path / "Snakefile")]).is_ours


@pytest.mark.parametrize(
    ("place", "said"), [("file", "file is no folder"), ("circle", r"circle can't be used \(OSError: .*symbolic links")]
)
def test_results_that_can_be_no_folder_are_a_problem_of_the_configuration(tmp_path, monkeypatch, place, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("back")
    (tmp_path / "back").symlink_to("circle")
    with pytest.raises(ConfigError, match=f"^results: {said}.*; name "):
        check(tiny_config() | {"results": place})


def test_snakemake_gets_dotted_keys_in_a_file(tmp_path, monkeypatch):
    """It refuses them on its command line; they count after the other files, and the rest of --config as before."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "over.yaml").write_text("train: {lr: 0.5, epochs: 3}\n")
    given = ["--configfile", str(tmp_path / "over.yaml"), "--directory", str(tmp_path), "--config", "train.lr=0.25"]
    parsed = read_arguments([*given, "run=[b]", "-n"], Path("elsewhere"))
    assert parsed.options.config == ["run=[b]", "results=elsewhere"]
    config = configuration(parsed.options)
    assert config == {"train": {"lr": 0.5, "epochs": 3}, "train.lr": 0.25, "run": ["b"], "results": "elsewhere"}
    assert parsed.words[: len(given)] == tuple(given)
