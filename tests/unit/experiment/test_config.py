"""The configuration: what it expands to. test_bad_config.py has all that can be wrong with it."""

from __future__ import annotations

import shutil

import pytest

from conftest import put, tiny_config
from halobench.core.specs.codec import to_json
from halobench.core.specs.training import TrainSpec
from halobench.experiment import code_version
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.figure_choice import QUESTIONS
from halobench.experiment.jobs import drawn_jobs, front_figures, jobs
from halobench.runner import validation


def test_a_name_given_null_is_taken_away(config):
    """As in a file that overrides another: Snakemake merges mappings but never removes anything."""
    for path in ("probes.manifold", "losses.unheard_of"):
        put(path, None)(config)
    loaded = load_config(config)
    assert set(loaded.probes) == set(config["probes"]) - {"manifold"}
    assert "unheard_of" not in loaded.losses


def test_figures_and_tables_from_outside_are_drawn_besides_all_or_none_at_all(config, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_display.py").write_text("def draw(runs): ...\n")
    demo = config["experiments"]["demo"]
    demo["figures"] = ["all"]
    every = load_config(config).figures("demo")
    assert {"summary", "log_k"} <= {*every}
    demo["figures"], demo["tables"] = ["all", "own_display:draw", "summary"], ["own_display:draw"]
    loaded = load_config(config)
    assert loaded.figures("demo") == (*every, "own_display:draw")
    assert loaded.tables("demo") == ("own_display:draw",)
    names = [path for job in drawn_jobs(loaded, "demo") for path in job.paths if "own_display" in path]
    assert set(names) == {
        *(f"figures/demo/own_display.draw.{kind}" for kind in ("png", "pdf", "svg", "json")),
        *(f"tables/demo/own_display.draw.{kind}" for kind in ("csv", "tex", "html", "json")),
    }
    demo["figures"] = demo["tables"] = []
    empty = load_config(config)
    assert (empty.tables("demo"), empty.figures("demo")) == ((), ())
    listed = jobs(empty, ["demo"])
    assert not {"table", "figure"} & {stage for job in listed for stage in (job.stage, *dict(job.needs))}


def test_the_committed_config_is_the_demo_grid(config):
    """Its images are probed; its distributions aren't. The tiny one calibrates by temperatures alone."""
    loaded, tiny = load_config(config), load_config(tiny_config())
    theory = {cell for cell in loaded.cells("demo") if cell.dataset.startswith("overlap")}
    assert loaded.probed("demo") == set(loaded.cells("demo")) - theory
    assert {"summary", *QUESTIONS} <= set(loaded.figures("demo"))
    assert loaded.figures("theory")[: len(QUESTIONS) - 1] == QUESTIONS[1:], "it has no probes"
    assert ["maps" in each.figures(each.run[0]) for each in (loaded, tiny)] == [True, False]
    assert loaded.tables("theory") == loaded.tables("demo") == ("scores",)
    assert not loaded.laddered("demo") | loaded.laddered("theory"), "only where an experiment names `repair`"


def test_figures_of_answers_are_drawn_where_there_is_something_to_answer():
    """With probes, two losses, and a calibrator beyond a temperature; how far certainty reaches needs probes alone."""

    def drawn(**changes: object) -> set[str]:
        config = tiny_config()
        config["experiments"]["tiny"].pop("figures", None)
        config["calibrators"] = changes.pop("calibrators", config["calibrators"])
        config["experiments"]["tiny"]["grid"][0] |= changes
        loaded = load_config(config)
        shown = {name for name in loaded.figures("tiny") if name in QUESTIONS}
        assert front_figures(loaded, "tiny") == [name for name in QUESTIONS if name in shown]
        return shown

    assert drawn() == {"reach", "temperature", "mixup"}
    assert drawn(calibrators=["exact", "top_rest"]) == {*QUESTIONS}
    assert drawn(losses=["mixup2"]) == {"reach", "temperature"}
    assert drawn(probe=False, calibrators=["exact", "top_rest"]) == {"temperature", "mixup", "maps"}


@pytest.mark.parametrize(
    ("figures", "front"),
    [
        (["radii", "maps", "reach", "mixup"], ["reach", "mixup", "maps"]),
        (["radii", "summary"], ["radii"]),
        (["own_display:draw"], ["own_display.draw"]),
        ([], []),
    ],
)
def test_the_entrance_shows_the_figures_of_answers_or_else_the_first(figures, front, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_display.py").write_text("def draw(runs): ...\n")
    config = tiny_config()
    config["experiments"]["tiny"]["figures"] = figures
    loaded = load_config(config)
    assert front_figures(loaded, "tiny") == front
    (explorer,) = [job for job in jobs(loaded) if job.stage == "explorer"]
    assert explorer.spec["figures"] == {"tiny": front}
    assert {key for stage, key in explorer.needs if stage == "figure"} == {f"tiny/{name}" for name in front}


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
    config["losses"]["mixup2"]["alpha"] = 0.5
    changed = load_config(config)
    assert to_json(changed.train_spec("digits-noise50", "mlp", "mixup2")) != spec
    assert changed.train_spec("digits", "mlp", "mixup5") == base.train_spec("digits", "mlp", "mixup5")


def test_probes_do_not_see_what_only_training_needs(config):
    spec = load_config(config).probe_spec("digits", "cnn")
    assert spec["train"] == {"channels_last": True}


def test_checks_that_passed_run_again_once_their_own_code_or_a_plugin_has_changed(tmp_path, monkeypatch):
    """Any module of the package may take part in them, such as the limits of a key, which change no result."""
    raw, built = tiny_config(), []
    raw["losses"] = {"mine": {"name": "own_loss:Mine"}}
    raw["experiments"]["tiny"]["grid"][0]["losses"] = ["mine"]
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
    for number, path in enumerate((package / "runner/build_checks.py", package / "core/specs/model.py", loss), 2):
        path.touch()
        assert builds() == number - 1, path
        path.write_text(f"{path.read_text()}\nMORE = 1\n")
        assert [builds(), builds()] == [number, number], path


def test_a_dotted_key_sets_one_value_wherever_it_is():
    """Its last part may be new, names may have dots, numbers count items from 0, and mappings are merged."""
    config = tiny_config()
    config["losses"]["mixup2.5"] = {"name": "mixup", "points": 2}
    config["experiments"]["tiny"]["grid"][0]["losses"].append("mixup2.5")
    dotted = {
        "train.lr": 0.25,
        "losses.mixup2.5.alpha": 0.5,
        "experiments.tiny.grid.0.seeds": [7],
        "models.mlp": {"width": 9},
    }
    loaded = load_config(config | dotted)
    assert loaded.train["lr"] == 0.25
    assert loaded.losses["mixup2.5"].options["alpha"] == 0.5
    assert {cell.seed for cell in loaded.cells("tiny")} == {7}
    assert loaded.models["mlp"].name == "mlp"
    assert loaded.models["mlp"].options["width"] == 9
    assert config["train"]["lr"] != 0.25


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (
            "experiments.tiny.grid.4.seeds",
            "experiments.tiny.grid.4.seeds: 4 isn't the position of an item, from 0 to 0",
        ),
        ("train.lr.big", "train.lr.big: what is there, 0.003, has no part big"),
        ("train.rate", "train.rate = 1: expected one of the keys"),
        ("nothing.rate", "nothing = {'rate': 1}: expected one of the keys"),
    ],
)
def test_a_dotted_key_that_leads_nowhere_is_refused(key, line):
    with pytest.raises(ConfigError) as raised:
        load_config(tiny_config() | {key: 1})
    assert any(problem.startswith(line) for problem in raised.value.problems), raised.value.problems
