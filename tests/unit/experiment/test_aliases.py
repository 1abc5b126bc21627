"""Old words in configurations and specs keep working, each with a note of its current name."""

from __future__ import annotations

import copy
import json

import pytest
from test_config import put

from halobench.cli.main import parse_arguments
from halobench.core.aliases import ALIASES, current_words
from halobench.experiment import validation
from halobench.experiment.config_loader import ConfigError, load_config

OLD = {
    "train": {"shift": 1, "lr": 0.1},
    "models": {"mlp": {"name": "mlp", "recipe": {"shift": 0}}, "cnn": None},
    "datasets": {
        "a": {"noise": {"kind": "map", "p": 0.5}, "recipe": {"shift": 2}},
        "b": {"noise": {"kind": "cycle"}},
        "c": {"noise": {"kind": "uniform"}},
        "map": "cycle",
    },
    "losses": {"shift": {"name": "mixup", "kind": "cycle"}},
}
NEW = {
    "train": {"random_crop": 1, "lr": 0.1},
    "models": {"mlp": {"name": "mlp", "recipe": {"random_crop": 0}}, "cnn": None},
    "datasets": {
        "a": {"noise": {"kind": "asymmetric", "p": 0.5}, "recipe": {"random_crop": 2}},
        "b": {"noise": {"kind": "pair_flip"}},
        "c": {"noise": {"kind": "uniform"}},
        "map": "cycle",
    },
    "losses": {"shift": {"name": "mixup", "kind": "cycle"}},
}
NOTES = {
    "train: 'shift' is now called 'random_crop'",
    "models.mlp.recipe: 'shift' is now called 'random_crop'",
    "datasets.a.recipe: 'shift' is now called 'random_crop'",
    "datasets.a.noise.kind: 'map' is now called 'asymmetric'",
    "datasets.b.noise.kind: 'cycle' is now called 'pair_flip'",
}


def test_old_words_are_replaced_where_they_have_their_meaning_with_a_note_for_each():
    notes: list[str] = []
    before = copy.deepcopy(OLD)
    assert current_words(OLD, notes.append) == NEW
    assert before == OLD, "the configuration handed in stays as it is"
    assert len(notes) == len(NOTES)
    assert set(notes) == NOTES
    assert current_words(NEW, notes.append) == NEW
    assert len(notes) == len(NOTES), "no note on words of today"


@pytest.mark.parametrize(
    "plain", [None, 3, "shift", [], {}, {"train": 5}, {"train": ["shift"], "datasets": [1]}, {1: 2}]
)
def test_what_is_no_configuration_is_left_to_the_checks(plain):
    assert current_words(plain) == plain


def test_no_word_replaces_another_old_one():
    """So translating a translated configuration changes nothing."""
    for _, _, words in ALIASES:
        assert not set(words) & set(words.values())


def test_a_config_in_old_words_is_the_same_grid(config):
    old = put(config, "datasets.digits-noise50.noise", {"kind": "cycle", "p": 0.5})
    old = put(put(old, "train.shift", 2), "datasets.digits.recipe", {"shift": 1})
    new = put(config, "datasets.digits-noise50.noise", {"kind": "pair_flip", "p": 0.5})
    new = put(put(new, "train.random_crop", 2), "datasets.digits.recipe", {"random_crop": 1})
    assert load_config(old) == load_config(new)


def test_values_under_an_old_key_are_checked_and_a_key_in_both_words_is_refused(config):
    with pytest.raises(ConfigError, match=r"train\.random_crop = -1: expected at least 0"):
        load_config(put(config, "train.shift", -1))
    with pytest.raises(ConfigError, match=r"train\.shift = 1: expected one of the keys"):
        load_config(put(put(config, "train.shift", 1), "train.random_crop", 1))


def test_a_run_in_old_words_is_told_what_they_are_called_now(config, tmp_path, capsys):
    old = put(config, "datasets.digits-noise50.noise", {"kind": "map", "p": 0.5})
    old = put(old, "train.shift", 2) | {"run": ["nothing"]}
    with pytest.raises(ConfigError) as raised:
        validation.load_checked(old, tmp_path, tmp_path / "results")
    assert len(raised.value.problems) == 1, "only the experiment that isn't there"
    assert capsys.readouterr().err.splitlines() == [
        "halobench: note: datasets.digits-noise50.noise.kind: 'map' is now called 'asymmetric'",
        "halobench: note: train: 'shift' is now called 'random_crop'",
    ]


def test_a_stage_run_by_hand_takes_old_words(tmp_path):
    spec = {"dataset": {"source": "s", "noise": {"kind": "map"}}, "train": {"shift": 2}}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    for text in (json.dumps(spec), f"@{path}"):
        arguments = ["train", "--spec", text, "--source", "s", "--seed", "0", "--out", "o"]
        given = parse_arguments(arguments)
        assert given.spec == {"dataset": {"source": "s", "noise": {"kind": "asymmetric"}}, "train": {"random_crop": 2}}
