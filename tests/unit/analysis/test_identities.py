"""What a configuration's names of models and losses stand for, and how figures and claims know it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml

import synthetic
from halobench.analysis.claims import evaluate, load_claims
from halobench.analysis.identities import architectures, identities, plugin_text
from halobench.core.errors import SpecError
from halobench.core.plugins.facts import named
from halobench.reporting import labels, styles
from halobench.reporting.figures import training


def runs(**losses: dict) -> pd.DataFrame:
    """A table with a run per loss, by name, and what it stands for."""
    rows = [{"model": "m", "model_plugin": '{"name":"mlp"}', "loss": name} for name in losses]
    return pd.DataFrame(rows).assign(loss_plugin=list(map(json.dumps, losses.values())))


def test_a_name_goes_by_the_title_and_style_of_what_it_stands_for(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(
        'TITLE = "Poly-1"\nSTYLE = ("#0072B2", "s")\nclass Poly:\n    def __init__(self, eps=1.0):\n        pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    table = runs(
        **{"poly": {"name": "own_loss:Poly"}, "strong": {"name": "own_loss:Poly", "eps": 2.5}},
        **{"pairs": {"name": "mixup", "points": 2}, "four": {"name": "mixup", "points": 4}},
        **{"plain": {"name": "focal"}, "gone": {"name": "not.there:Loss"}},
    )
    known = named("losses")
    titles = ["Poly-1", "Poly-1 (eps = 2.5)", known["mixup2"].title, f"{known['mixup'].title} (points = 4)"]
    titles += [known["focal"].title, "gone"]
    assert labels.loss_label("poly") == "poly", "nothing is known yet"
    with labels.naming(table):
        assert list(map(labels.loss_label, table["loss"])) == titles
        assert labels.model_label("m") == named("models")["mlp"].title
        found = styles.loss_styles(table["loss"])
    assert labels.loss_label("poly") == "poly"
    assert (found["poly"].color, found["poly"].marker) == ("#0072B2", "s")
    assert (found["pairs"].color, found["plain"].marker) == (known["mixup2"].style[0], known["focal"].style[1])
    assert len({(style.color, style.marker) for style in found.values()}) == len(found)


def test_a_librarys_model_goes_by_its_own_name_and_by_a_title_of_the_package_only_under_the_name_that_has_it():
    """Nor has it the title or the kind of the network whose name its own begins with."""
    models = {
        **{"tiny": {"name": "timm/test_resnet"}, "mine": {"name": "timm/resnet50"}},
        **{
            "tv": {"name": "torchvision/resnet18", "zero_init_residual": True},
            "mlp-like": {"name": "timm/mixer_s16_224"},
        },
        **{"resnet-deep": {"name": "timm/resnet50"}, "mlp-wide": {"name": "mlp", "width": 512}},
    }
    table = pd.DataFrame(
        {"model": list(models), "model_plugin": list(map(json.dumps, models.values())), "loss": "focal"}
    )
    with labels.naming(table.assign(loss_plugin=plugin_text({"name": "focal"}))):
        found = [labels.model_label(name) for name in models]
    assert found == ["tiny", "mine", "tv", "mlp-like", "ResNet, deep", "MLP, wide"]
    assert architectures(table) == dict(zip(models, ["", "", "", "", "convolutional", "MLP"], strict=True))


def test_names_of_the_same_plug_in_are_told_apart_and_those_of_several_are_shown_as_they_are():
    table = runs(a={"name": "focal"}, b={"name": "focal"}, c={"name": "brier"})
    found = identities(table)["losses"]
    title = named("losses")["focal"].title
    assert [found[name].title for name in "ab"] == [f"{title} (a)", f"{title} (b)"]
    both = pd.concat([table, runs(c={"name": "focal"})])
    assert set(identities(both)["losses"]) == {"a", "b"}, "one configuration has one meaning, but tables may be joined"
    assert identities(table.drop(columns=["model_plugin", "loss_plugin"])) == {"models": {}, "losses": {}}


def test_a_figure_shows_what_a_name_stands_for():
    tables = synthetic.tables(seeds=(0,))
    new = tables["runs"]["loss"].replace("focal", "mine")
    table = tables["runs"].assign(
        loss=new, loss_plugin=new.map(lambda name: '{"name":"focal"}' if name == "mine" else None)
    )
    history = tables["history"].assign(loss=tables["history"]["loss"].replace("focal", "mine"))
    shown = {}
    for name, read in (("known", tables["history"]), ("own", history)):
        with labels.naming(table):
            figure = training.draw(read, tables["runs"] if name == "known" else table)
        texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        shown[name] = sorted(texts)
    assert shown["own"] == shown["known"]
    assert named("losses")["focal"].title in shown["own"]


CLAIM = {"name": "less", "statement": "Mixup leaves less NLL", "value": "nll", "margin": -0.05,
         "a": {"loss": {"name": "mixup", "points": 2}}, "b": {"loss": {"name": "cross_entropy"}}}  # fmt: skip


def claims(tmp_path, **changes):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [CLAIM | changes]}))
    return load_claims(path)


def test_a_claim_names_a_plug_in_whatever_a_grid_calls_it(tmp_path):
    tables = synthetic.tables(seeds=(0, 1, 2))
    texts = {name: plugin_text({"name": name.replace("mixup2", "mixup")}) for name in tables["runs"]["loss"].unique()}
    tables["runs"]["loss_plugin"] = tables["runs"]["loss"].map(texts)
    by_name = claims(tmp_path, a={"loss": "mixup2"}, b={"loss": "cross_entropy"})
    expected = evaluate(by_name, tables)
    renamed = {
        name: table.assign(loss=table["loss"].replace("mixup2", "two"))
        for name, table in tables.items()
        if "loss" in table
    }
    found = evaluate(claims(tmp_path), renamed)
    numbers = ["scope", "estimate", "low", "high", "n", "verdict"]
    pd.testing.assert_frame_equal(found[numbers], expected[numbers])
    assert set(found["loss"]) == {"two"}
    old = {name: table.drop(columns="loss_plugin", errors="ignore") for name, table in renamed.items()}
    assert "no loss of the grid is" in evaluate(claims(tmp_path), old)["note"].iloc[0]


def test_a_plug_in_of_a_claim_that_no_grid_can_have_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"claims\.less\.a\.loss\.name = 'mixp': .*did you mean 'mixup'"):
        claims(tmp_path, a={"loss": {"name": "mixp"}})
    with pytest.raises(SpecError, match=r"claims\.less\.a\.loss\.point: no such option; those of mixup are points"):
        claims(tmp_path, a={"loss": {"name": "mixup", "point": 2}})
