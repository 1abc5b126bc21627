"""The configuration: what it expands to, and one clear line for each thing wrong."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

import conftest
from halobench.core import specs
from halobench.core.spec_codec import to_json
from halobench.core.specs import TrainSpec
from halobench.experiment import build_checks, code_version, validation
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.jobs import drawn_jobs, jobs


def put(config: dict, path: str, value: object) -> dict:
    """A copy of `config` with the value at a dotted path replaced (a digit indexes a list)."""
    edited = copy.deepcopy(config)
    *parents, last = path.split(".")
    at = edited
    for key in parents:
        at = at[int(key) if key.isdigit() else key]
    at[int(last) if last.isdigit() else last] = value
    return edited


def problems(config: dict) -> list[str]:
    """A configuration's problems, from both the cheap checks and those that build models."""
    try:
        loaded = load_config(config)
    except ConfigError as error:
        return error.problems
    return build_checks.run(loaded, Path("nowhere"))


def test_a_calibrator_that_is_not_installed_is_refused_before_any_job(config, monkeypatch):
    """The error names its extra, comes with all other problems, and doesn't need to import the library."""
    name = "probmetrics/SMSCalibrator"
    edited = put(config, "calibrators", ["none", name]) | {"train": config["train"] | {"lr": -1}}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert problems(edited) == [
        "train.lr = -1.0: expected a number above 0",
        f"calibrators = {name!r}: expected its packages to be installed (probmetrics and numba):"
        ' pip install "halobench[posthoc]"',
    ]
    assert load_config(put(config, "calibrators", ["none", "gap"])).calibrate.calibrators == ("none", "gap")


def test_a_name_given_null_is_taken_away(config):
    """As in a file that overrides another: Snakemake merges mappings but never removes anything."""
    edited = put(put(config, "probes.manifold", None), "losses.unheard_of", None)
    assert set(load_config(edited).probes) == set(config["probes"]) - {"manifold"}
    assert "unheard_of" not in load_config(edited).losses
    with pytest.raises(ConfigError, match="models that a probe visits, or probe: false"):
        load_config(config | {"probes": dict.fromkeys(config["probes"])})
    with pytest.raises(ConfigError, match=r"models = 'mlp': expected one of"):
        load_config(put(config, "models.mlp", None))


def test_figures_and_tables_from_outside_are_chosen_beside_all_or_refused(config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_display.py").write_text(
        "import nowhere\n\ndef draw(runs): ...\n\ndef odd(rnus): ...\n\ndef bare(): ...\n"
    )
    demo = config["experiments"]["demo"]
    every = load_config(config).figures("demo")
    demo["figures"], demo["tables"] = ["all", "own_display:draw", "summary"], ["own_display:draw"]
    loaded = load_config(config)
    assert loaded.figures("demo") == (*every, "own_display:draw")
    assert loaded.tables("demo") == ("own_display:draw",)
    empty = load_config(put(put(config, "experiments.demo.tables", []), "experiments.demo.figures", []))
    assert (empty.tables("demo"), empty.figures("demo")) == ((), ())
    assert not [job for job in jobs(empty, ["demo"]) if job.stage in ("table", "figure")]
    assert all(stage != "figure" for job in jobs(empty, ["demo"]) for stage, _ in job.needs)
    names = [path for job in drawn_jobs(loaded, "demo") for path in job.paths if "own_display" in path]
    assert set(names) == {
        *(f"figures/demo/own_display.draw.{kind}" for kind in ("png", "pdf", "svg", "json")),
        *(f"tables/demo/own_display.draw.{kind}" for kind in ("csv", "tex", "html", "json")),
    }
    problem, _ = build_checks.run(loaded, tmp_path)
    assert problem.startswith("figures.name = 'own_display:draw': expected a module that can be imported")
    for name, why in [
        ("odd", "did you mean 'runs'"),
        ("bare", "be names of tables"),
        ("gone", "doesn't define 'gone'"),
    ]:
        demo["figures"] = [f"own_display:{name}"]
        with pytest.raises(ConfigError, match=rf"experiments.demo.figures\[0\] = 'own_display:{name}'.*{why}"):
            load_config(config)


def test_the_committed_config_is_the_demo_grid(config):
    """Its images are probed; its distributions aren't. The tiny one calibrates by temperatures alone."""
    loaded, tiny = load_config(config), load_config(conftest.tiny_config())
    theory = {cell for cell in loaded.cells("demo") if cell.dataset.startswith("overlap")}
    assert loaded.probed("demo") == set(loaded.cells("demo")) - theory
    assert {"log_k", "phase", "summary"} <= set(loaded.figures("demo"))
    assert "gaussians" not in loaded.figures("demo")
    assert ["reliability_posthoc" in each.figures(each.run[0]) for each in (loaded, tiny)] == [True, False]
    assert loaded.tables("theory") == ("paper_gaussians", "paper_gaussians_posterior")
    assert not loaded.laddered("demo") | loaded.laddered("theory"), "only where an experiment names `repair`"


def test_all_problems_of_an_entry_are_told_and_what_is_right_beside_them_is_built(config):
    config["datasets"]["digits"] |= {"train": 1, "noise": {"kind": "pair_flop", "p": "half"}, "tset": 3}
    config["losses"]["focal"]["gamma"] = -1
    config["experiments"]["demo"]["grid"][0]["models"].append("mpl")
    with pytest.raises(ConfigError) as raised:
        load_config(config)
    assert [line.partition(" = ")[0] for line in raised.value.problems] == [
        "datasets.digits.train",
        "datasets.digits.noise.kind",
        "datasets.digits.noise.p",
        "datasets.digits.tset",
        "experiments.demo.grid[0].models",
    ]
    assert "digits" not in raised.value.sound.datasets
    assert any(line.startswith("losses.focal.gamma") for line in build_checks.run(raised.value.sound, Path("nowhere")))


def test_editors_find_what_the_loader_finds(config, root):
    """The schema generated from the classes, checked with an independent validator that comes with Snakemake."""
    schema = yaml.safe_load((root / "workflow/schemas/config.schema.yaml").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(config)) == []
    config.setdefault("metrics", {})
    levels = ("train", "datasets.digits", "models.mlp.recipe", "probes.sphere", "metrics", "experiments.demo")
    for path in ("x", *(f"{level}.x" for level in (*levels, "experiments.demo.grid.0"))):
        (error,) = validator.iter_errors(put(config, path, 1))
        assert "'x' was unexpected" in error.message
    for path, value in (
        ("train.epochs", 0),
        ("train.lr", "1e-3"),
        ("train.optimizer", "adamm"),
        ("models.mlp.resize", 0),
        ("losses", {}),
        ("datasets.no/name", config["datasets"]["digits"]),
        ("experiments.demo.grid.0.seeds", [-1]),
    ):
        assert not validator.is_valid(put(config, path, value)), path
    assert not validator.is_valid(put(config, "models.mlp", None)), "so Snakemake's validate() is not for us"
    load_config(put(config, "probes.manifold", None))
    options = {"name": "mlp", "width": 3, "anything": [1]}
    assert validator.is_valid(put(config, "models.mlp", options)), "a plug-in's options are its own"
    assert specs.CalibrateSpec().calibrators == specs.CALIBRATORS  # new calibrators are opt-in, so nothing reruns


def test_recipes_overlay_train_by_model_then_data_set(config):
    config["train"] = {"lr": 0.1, "batch": 10, "epochs": 9}
    config["models"]["mlp"]["recipe"] = {"batch": 20, "epochs": 8}
    config["datasets"]["digits"]["recipe"] = {"epochs": 7}
    recipes = load_config(config).recipe
    assert recipes("digits", "mlp") == TrainSpec(lr=0.1, batch=20, epochs=7)
    assert recipes("digits-noise50", "mlp") == TrainSpec(lr=0.1, batch=20, epochs=8)


def test_specs_leave_out_defaults_and_do_not_depend_on_the_order_of_keys(config):
    base = load_config(config)
    spec = to_json(base.train_spec("digits-noise50", "mlp", "mixup2"))
    assert '"batch"' not in spec
    config["train"] |= {"batch": 50, "weight_decay": 0.0}
    config["losses"]["mixup2"] |= {"alpha": 1.0}
    config["datasets"]["digits-noise50"]["noise"] = {"p": 0.5, "kind": "pair_flip"}
    config["train"] = dict(reversed(config["train"].items()))
    assert to_json(load_config(config).train_spec("digits-noise50", "mlp", "mixup2")) == spec
    config["losses"]["mixup2"]["points"] = 3
    changed = load_config(config)
    assert to_json(changed.train_spec("digits-noise50", "mlp", "mixup2")) != spec
    assert changed.train_spec("digits", "mlp", "mixup5") == base.train_spec("digits", "mlp", "mixup5")


def test_probes_do_not_see_what_only_training_needs(config):
    spec = load_config(config).probe_spec("digits", "cnn")
    assert spec["train"] == {"channels_last": True}


def test_checks_that_passed_run_again_once_their_own_code_or_a_plugin_has_changed(tmp_path, monkeypatch):
    """Any module of the package may take part in them, such as the limits of a key, which change no result."""
    raw, built = conftest.tiny_config(), []
    raw["losses"]["mixup2"] = {"name": "own_loss:Mine"}
    monkeypatch.syspath_prepend(tmp_path)
    loss = tmp_path / "own_loss.py"
    loss.write_text("from halobench.losses.cross_entropy import CrossEntropy as Base\nclass Mine(Base): ...\n")
    package = shutil.copytree(validation.PACKAGE, tmp_path / "halobench", ignore=shutil.ignore_patterns("templates"))
    monkeypatch.setattr(validation, "PACKAGE", package)
    monkeypatch.setattr(validation, "_build", lambda *arguments: built.append(arguments) or [])

    def builds() -> int:
        code_version._code_map.cache_clear()
        validation.load_checked(raw, tmp_path / "cache", tmp_path / "results")
        return len(built)

    assert [builds(), builds()] == [1, 1]
    for number, path in enumerate((package / "experiment/build_checks.py", package / "core/specs.py", loss), 2):
        path.touch()
        assert builds() == number - 1, path
        path.write_text(f"{path.read_text()}\nMORE = 1\n")
        assert [builds(), builds()] == [number, number], path
