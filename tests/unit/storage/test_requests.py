"""Requests: named after their content, without times, and used to recognise current results."""

from __future__ import annotations

import dataclasses
import os

import pytest

from halobench.core.errors import SpecError
from halobench.storage import files
from halobench.storage.requests import TIME, Request, differences, read_request, write_request

REQUEST = Request("train", {"model": {"name": "mlp"}, "train": {"lr": 0.1}}, {"training/loop": "0" * 16})


def test_a_request_is_named_after_its_content_and_nothing_else(tmp_path):
    path = write_request(tmp_path, REQUEST)
    assert path == tmp_path / "requests" / REQUEST.name
    turned = Request("train", dict(reversed(REQUEST.spec.items())), REQUEST.code)
    assert turned.name == REQUEST.name, "the order of keys says nothing"
    others = [{"stage": "probe"}, {"spec": {"model": {"name": "cnn"}}}, {"code": {"training/loop": "1" * 16}}]
    assert len({REQUEST.name, *(dataclasses.replace(REQUEST, **other).name for other in others)}) == 4
    assert read_request(path, "train") == REQUEST


def test_a_request_is_older_than_any_result_and_written_once(tmp_path):
    path = write_request(tmp_path, REQUEST)
    before = path.read_bytes()
    assert path.stat().st_mtime == TIME
    assert write_request(tmp_path, REQUEST) == path
    assert path.read_bytes() == before
    os.utime(path)
    assert write_request(tmp_path, REQUEST).stat().st_mtime == TIME, "as after a copy that doesn't keep times"
    path.unlink()
    assert write_request(tmp_path, REQUEST).read_bytes() == before, "lost and written again it is the same"


@pytest.mark.parametrize(
    "text", ["", '{"spec": 1', "[1]", '{"stage": "train", "spec": {"train": {"lr": 7}}, "code": {}}']
)
def test_a_damaged_or_edited_request_is_written_anew(tmp_path, text):
    path = write_request(tmp_path, REQUEST)
    before = path.read_bytes()
    path.write_text(text)
    assert write_request(tmp_path, REQUEST).read_bytes() == before
    assert path.stat().st_mtime == TIME, "so that its result is not made again"


def test_written_again_it_has_another_checksum_and_says_the_same(tmp_path):
    path = write_request(tmp_path, REQUEST)
    before = path.read_bytes()
    write_request(tmp_path, REQUEST, again=True)
    assert path.read_bytes() != before
    assert path.stat().st_mtime == TIME
    assert read_request(path, "train") == REQUEST
    again = path.read_bytes()
    assert write_request(tmp_path, REQUEST).read_bytes() == again, "it stays as it is"


def test_a_request_of_another_stage_is_refused(tmp_path):
    path = write_request(tmp_path, REQUEST)
    with pytest.raises(SpecError, match=r"stage = 'train': expected probe"):
        read_request(path, "probe")
    files.write_json(path, {"stage": "train"})
    with pytest.raises(SpecError, match="no key 'spec'"):
        read_request(path, "train")


def test_a_result_is_current_if_seed_spec_and_code_are_what_is_asked_for():
    record = {"seed": 3, "spec": dict(REQUEST.spec), "code": dict(REQUEST.code), "outputs": {}}
    assert differences(record, REQUEST, seed=3) == []
    assert differences(record, REQUEST, seed=4) == ["seed"]
    assert differences(record | {"spec": {}}, REQUEST, seed=3) == ["spec"]
    assert differences(record | {"code": {}}, REQUEST, seed=3) == ["code"]
    assert differences({}, REQUEST, seed=3) == ["seed", "spec", "code"]
    equal = {"model": {"name": "mlp"}, "train": {"lr": 1e-1}}
    assert differences(record | {"spec": equal}, REQUEST, seed=3) == []
