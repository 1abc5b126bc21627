"""Requests: how a record's differs from one, by key, value and module."""

from __future__ import annotations

import pytest

from halobench.storage.request_diff import Request, changes, outside_plugins, spec_changes

OLD, NEW = "0" * 16, "f" * 16
LOSS = {"name": "mixup", "options": {"points": 3}}


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        ({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}}, ["train.lr was 0.1 and is now 0.2"]),
        ({"loss": LOSS}, {"loss": {"name": "mixup"}}, ["loss.points was 3 and is now the default"]),
        ({"loss": {"name": "mixup"}}, {"loss": LOSS}, ["loss.points was the default and is now 3"]),
        (
            {"loss": LOSS},
            {"loss": {"name": "focal", "options": {"gamma": 2}}},
            [
                "loss.gamma was absent and is now 2",
                'loss.name was "mixup" and is now "focal"',
                "loss.points was 3 and is now absent",
            ],
        ),
        (
            {"probes": {"a": {"kind": "a", "n": 1}, "b": {"kind": "b", "n": 1}}},
            {"probes": {"a": {"kind": "a", "n": 2}, "b": {"kind": "b", "n": 2}}},
            ["probes.a.n and probes.b.n were 1 and are now 2"],
        ),
        (
            {"train": {}},
            {"train": {"bf16": True, "amp": True}},
            ["train.amp and train.bf16 were the default and are now true"],
        ),
        (
            {"x": list(range(40))},
            {"x": []},
            ["x was [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1 ... 36, 37, 38, 39] and is now []"],
        ),
        ({"x": 1}, {"x": 1}, []),
    ],
)
def test_specs_are_compared_by_key(before, now, clauses):
    assert spec_changes(before, now) == clauses


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        ({"losses/mixup": OLD, "x": OLD}, {"losses/mixup": NEW, "x": OLD}, ["losses/mixup.py changed"]),
        ({"mine:Loss": OLD}, {"mine:Loss": NEW}, ["mine:Loss changed"]),
        ({"a": OLD, "c": OLD}, {"b": OLD, "c": OLD}, ["b.py is now used", "a.py is no longer used"]),
        ({"a": OLD}, {"a": OLD}, []),
    ],
)
def test_code_is_compared_by_module(before, now, clauses):
    assert changes({"spec": {}, "seed": 0, "code": before}, Request("train", {}, now), 0) == clauses


def test_another_plug_in_explains_its_other_code_and_another_seed_everything():
    record = {"spec": {"loss": {"name": "a"}}, "seed": 0, "code": {"a": OLD}}
    request = Request("train", {"loss": {"name": "b"}}, {"b": OLD})
    assert changes(record, request, 0) == ['loss.name was "a" and is now "b"']
    assert changes(record, request, 1) == ["seed was 0 and is now 1"]


def test_plug_ins_outside_the_package_are_recognised():
    assert outside_plugins({"loss": {"name": "my_losses:Halved"}})
    assert not outside_plugins({"loss": {"name": "mixup"}, "note": "a: b"})
