"""Models of which no job has run are tried on random samples of the shapes that they will see."""

from __future__ import annotations

from conftest import one_cell
from halobench.core.specs.codec import canonical
from halobench.experiment.config_loader import load_config
from halobench.results.time_estimate import pace_key
from halobench.runner import model_trials, validation
from halobench.storage import files


def test_each_model_is_tried_once_and_its_pace_is_noted(tmp_path, monkeypatch):
    raw = one_cell()
    config = load_config(raw)
    (cell,) = {(cell.dataset, cell.model) for cell in config.cells(config.run[0])}
    key = pace_key(canonical(config.models[cell[1]]), config.datasets[cell[0]].source)

    def here(module, request, **variables):
        assert (module, variables) == ("model_trials", {"CUDA_VISIBLE_DEVICES": ""})
        paces = model_trials.run(load_config(request[0]), tmp_path, request[2])
        text = "a plug-in printed this\n" + files.json.dumps(paces)
        return validation.subprocess.CompletedProcess([], 0, stdout=text)

    monkeypatch.setattr(model_trials, "run_apart", here)
    found = model_trials.measure([key], raw, tmp_path, tmp_path)
    assert set(found) == {key}
    assert all(0 < seconds < 1 for seconds in found[key])
    monkeypatch.setattr(model_trials, "run_apart", None)  # isn't called
    assert model_trials.measure([key], raw, tmp_path, tmp_path) == {key: list(found[key])}
    assert model_trials.measure([], raw, tmp_path, tmp_path) == {}


def test_a_trial_that_fails_costs_only_the_estimate(tmp_path, monkeypatch):
    ended = validation.subprocess.CompletedProcess([], 1, stdout="", stderr="killed")
    monkeypatch.setattr(model_trials, "run_apart", lambda *_, **__: ended)
    assert model_trials.measure(["any"], one_cell(), tmp_path, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
