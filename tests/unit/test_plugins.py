"""The checks of `halobench.testing`, over every plug-in of the package and over ones that are wrong."""

from __future__ import annotations

import ast
import functools

import pytest

import halobench
import synthetic
from halobench import testing
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins.constants import without_words
from halobench.core.plugins.kinds import kinds
from halobench.core.specs.codec import parse
from halobench.experiment.sections import ExperimentSpec
from halobench.figures import calibrator_label

OPTIONS = {"gaussians": {"mu": 0.1}} | {name: {"classes": 4} for name in ("overlap", "image_overlap", "collage")}


@functools.cache
def tables():
    """The tables of one data set with two losses and two seeds."""
    tables = synthetic.tables([("digits-noise50", "mlp", loss) for loss in ("cross_entropy", "mixup2")], seeds=(0, 1))
    return tables | {"metrics": synthetic.with_ladders(tables["metrics"])}


CHECKS = {
    "losses": testing.check_loss,
    "models": testing.check_model,
    "data": testing.check_source,
    "calibrators": testing.check_calibrator,
    "metrics": testing.check_metric,
    "probes": testing.check_direction,
    "figures": lambda name: testing.check_display("figures", name, tables()),
    "tables": lambda name: testing.check_display("tables", name, tables()),
}

PLUGINS = [(kind, name) for kind in CHECKS for name in plugins.names(kind)]


@pytest.mark.parametrize(
    ("kind", "name"), [each for each in PLUGINS if not plugins.find(*each).constants.get("FROM_DISK")]
)
def test_a_plugin_passes_the_check_of_its_kind(kind, name):
    CHECKS[kind](name, **(OPTIONS.get(name, {}) if kind == "data" else {}))


def test_a_folder_of_plugins_holds_nothing_else():
    """Except for the base and the checks of losses."""
    for kind in kinds().values():
        files = {path.stem for path in kind.folder.glob("*.py")} - {"__init__"}
        assert files - {*plugins.names(kind.name)} <= ({"base", "checks"} if kind.name == "losses" else set()), (
            kind.name
        )


@pytest.mark.parametrize(
    ("function", "home"),
    [("fit_temperature", "exact"), ("fit_paper", "paper"), ("fit_partner", "partner"), ("fit_auto", "auto")],
)
def test_a_calibrator_is_in_its_own_file(function, home):
    assert getattr(halobench, function).__module__ == plugins.load("calibrators", home).__module__


WRONG = """
import torch
from halobench import Loss

TITLE = {title}


class Same(Loss):
    def mix(self, inputs, targets, rng):
        return inputs, targets

    def __call__(self, logits, targets):
        return -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


class Changes(Same):
    def mix(self, inputs, targets, rng):
        inputs *= 2
        return inputs, targets


class Random(Same):
    def mix(self, inputs, targets, rng):
        return inputs * torch.rand(len(inputs), 1, 1, 1), targets


class Infinite(Same):
    def __call__(self, logits, targets):
        return -(targets * torch.softmax(logits, dim=1).log()).sum(dim=1).mean()


class Doubles(Same):
    def mix(self, inputs, targets, rng):
        return torch.cat([inputs, inputs]), torch.cat([targets, targets])
"""


def test_a_check_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_losses.py").write_text(WRONG.format(title='"Wrong"'))
    testing.check_loss("wrong_losses:Same")
    for name, words in {
        "Changes": "changes the batch",
        "Random": "draw all from rng",
        "Infinite": "isn't finite for a model that is certain",
        "Doubles": r"makes 12 rows of 6, but its file says 6 \(ROWS\)",
        "Missing": "doesn't define 'Missing'",
    }.items():
        with pytest.raises(AssertionError, match=words):
            testing.check_loss(f"wrong_losses:{name}")
    (tmp_path / "untitled_losses.py").write_text(WRONG.format(title="5"))
    with pytest.raises(AssertionError, match=r"defines TITLE = 5: expected text"):
        testing.check_loss("untitled_losses:Same")


WRONG_CALIBRATORS = """
import numpy as np

from halobench import fit_temperature
from halobench.calibration.calibrator import Calibrator


def good(logits, labels):
    beta = fit_temperature(logits, labels).beta
    return lambda z: min(beta, 9.0) * z


def raises(logits, labels):
    errors = (logits.argmax(axis=1) != labels).mean()
    factor = np.log(1 / errors) if errors else 1 / 0
    return lambda z: factor * z


def infinite(logits, labels):
    beta = fit_temperature(logits, labels).beta
    return lambda z: beta * z


def silent(logits, labels):
    beta = fit_temperature(logits, labels).beta
    return Calibrator((lambda z: beta * z) if np.isfinite(beta) else None, 0.0)
"""


def test_a_calibrator_is_tried_on_separable_logits(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_calibrators.py").write_text(WRONG_CALIBRATORS)
    testing.check_calibrator("wrong_calibrators:good")
    for name, words in {
        "raises": r"raises fails on separable logits \(all predictions are right\): .* raised ZeroDivisionError",
        "infinite": r"infinite fails on separable logits \(all predictions are right\): .* finite",
        "silent": "has no map for separable logits .*, and no reason",
    }.items():
        with pytest.raises(AssertionError, match=words):
            testing.check_calibrator(f"wrong_calibrators:{name}")


def test_a_wrong_constant_is_told_when_a_configuration_is_read(tmp_path, monkeypatch):
    """``SHOWS = ("gaussians")`` is a string: such a figure would silently never be shown."""
    monkeypatch.syspath_prepend(tmp_path)
    for position, (constant, words) in enumerate(
        {
            'SHOWS = ("gaussians")': r"defines SHOWS = 'gaussians': expected a tuple of strings",
            "SHOWS = tuple(range(3))": r"defines SHOWS: found an expression, expected a tuple of strings",
            'STYLE = "red"': None,  # no constant of figures
            "TITLE = str(3)": None,  # the file's own
        }.items()
    ):
        (tmp_path / f"figures{position}.py").write_text(f"{constant}\n\n\ndef draw(runs): ...\n")
        name = f"figures{position}:draw"
        experiment = {"grid": [{"datasets": ["d"], "models": ["m"], "losses": ["l"], "seeds": [0]}], "figures": [name]}
        if words is None:
            assert parse(ExperimentSpec, experiment).figures == (name,)
            continue
        with pytest.raises(SpecError, match=f"figures.*{words}"):
            parse(ExperimentSpec, experiment)


def test_words_for_readers_change_no_code_version():
    """Unless the file itself uses them."""
    body = "\n\n\ndef load(*, size=3):\n    return {}\n"
    versions = {}
    for name, text in {
        "plain": body.format("size"),
        "titled": 'TITLE = "Mine"\nORDER = 4' + body.format("size"),
        "used": 'TITLE = "Mine"' + body.format("TITLE"),
        "retitled": 'TITLE = "Ours"' + body.format("TITLE"),
    }.items():
        versions[name] = ast.dump(without_words(ast.parse(text)))
    assert versions["plain"] == versions["titled"]
    assert versions["used"] != versions["retitled"]


def test_a_users_calibrator_has_its_own_title(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "titled_calibrators.py").write_text('TITLE = "TS with a bias"\n\n\ndef ts_bias(logits, labels): ...\n')
    (tmp_path / "plain_calibrators.py").write_text("def ts_bias(logits, labels): ...\n")
    labels = [calibrator_label(f"{name}:ts_bias") for name in ("titled_calibrators", "plain_calibrators", "absent")]
    assert labels == ["TS with a bias", "ts_bias", "ts_bias"]
