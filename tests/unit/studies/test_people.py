"""The study of people's labels: blocks, permuted labels, neighbours, and the registered tests on made-up tables."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from halobench.core.errors import RefusedError
from halobench.data import people
from studies.people import blocks, draw, judge, measure


def test_blocks_are_stratified_and_keep_groups_together():
    rng = np.random.default_rng(0)
    official = rng.permutation(np.repeat(np.arange(4), 60))
    groups = np.concatenate([np.repeat(np.arange(20), 3), 20 + np.arange(180)])
    rows = blocks.dealt(official, groups, (8, 4, 36), 5, rng)
    assert sorted(rows.ravel()) == list(range(240))
    split = np.empty(240, dtype=int)
    for block, part in itertools.product(range(5), range(3)):
        chosen = rows[block][[0, 8, 12][part] : [8, 12, 48][part]]
        assert np.bincount(official[chosen], minlength=4).tolist() == [len(chosen) // 4] * 4
        split[chosen] = 3 * block + part
    assert all(len(set(split[groups == group])) == 1 for group in range(20))


def test_lookalikes_are_found_across_small_changes():
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(40, 3, 8, 8)).astype(np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    near = np.clip(images[:5].astype(int) + rng.integers(-3, 4, size=(5, 3, 32, 32)), 0, 255).astype(np.uint8)
    groups = blocks.lookalikes(blocks.difference_hash(np.concatenate([images, near])))
    assert (groups[40:] == groups[:5]).all()
    assert len(set(groups)) == 40


@pytest.fixture
def answers(monkeypatch):
    """Made-up labels of 50 images by three people, and one block of them all."""
    rng = np.random.default_rng(1)
    official = rng.integers(10, size=50_000)
    found = {"clean_label": official}
    hard = rng.random(50_000) < 0.4  # images on which people agree on another class
    for person in (1, 2, 3):
        found[f"random_label{person}"] = np.where(hard, (official + 1) % 10, official)
    monkeypatch.setattr(people, "training_labels", lambda: found)
    order = rng.permutation(50_000)
    monkeypatch.setattr(blocks, "rows", lambda arm, block: order[10_000 * block : 10_000 * (block + 1)])
    return official[order[:10_000]]


def test_permuted_labels_keep_confusions_and_lose_the_image(answers):
    true, permuted = (blocks.label_columns("N", 0, kind) for kind in (blocks.PERSON, blocks.PERMUTED))
    for column in range(3):
        assert np.array_equal(
            np.bincount(10 * answers + true[:, column], minlength=100),
            np.bincount(10 * answers + permuted[:, column], minlength=100),
        )
    agreement = [(labels[:, 0] == labels[:, 1]).mean() for labels in (true, permuted)]
    assert agreement[0] == 1
    assert agreement[1] == pytest.approx(0.4**2 + 0.6**2, abs=0.02)
    uniform = blocks.label_columns("N", 0, blocks.UNIFORM)
    assert (uniform != answers[:, None]).mean() == pytest.approx(blocks.FLIPS, abs=0.01)
    assert (blocks.label_columns("N", 0, blocks.OFFICIAL) == answers[:, None]).all()


@pytest.mark.parametrize(("option", "named"), [({"block": 5}, "block: 5"), ({"labels": "worse"}, "labels: worse")])
def test_an_unknown_block_or_kind_of_labels_is_refused_before_any_file_is_read(option, named):
    with pytest.raises(RefusedError, match=named):
        blocks.describe(**option)


def test_shares_by_class_dispute_every_image_alike(answers, monkeypatch):
    """All three people agree on every image, so the oracle by class has a confidence of .4 or .6 too little."""
    found = measure.of_oracle().iloc[0]
    assert found["unwarranted_2"] == pytest.approx(0.6**2 + 0.4**2 - 1, abs=0.01)
    assert found["unwarranted_itself"] == found["unwarranted_2"]
    assert "unwarranted_0" not in found
    assert (found["two_agree"], found["two_agree_by_class"]) == (1.0, pytest.approx(0.6**2 + 0.4**2, abs=0.01))


def test_neighbours_are_moved_by_so_many_pixels():
    images = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    for pixels in measure.SHIFTS:
        for moved, image in zip(measure.moved(images, f"shift{pixels}", np.random.default_rng(3)), images, strict=True):
            directions = [(pixels, 1), (-pixels, 1), (pixels, 2), (-pixels, 2)]
            inner = (slice(None), slice(8, 9), slice(8, 9))
            assert any(torch.equal(moved[inner], image.roll(by, axis)[inner]) for by, axis in directions)


def cells() -> pd.DataFrame:
    """Rows in which each test's difference is known: CE's best length is 25%, Mixup's 50%."""
    rows = []
    rng = np.random.default_rng(0)
    for arm, labels in (("N", "person"), ("N", "permuted"), ("H", "person")):
        for block, network, loss, length, half in itertools.product(
            range(5), ("mlp", "cnn"), ("cross_entropy", "mixup2"), (25, 50, 100), (0, 1)
        ):
            best = length == (25 if loss == "cross_entropy" else 50)
            nll = 1 + (0 if best else 0.3) + (0.1 if loss == "mixup2" else 0) + rng.normal(0, 0.001)
            rows.append(
                {"arm": arm, "labels": labels, "block": block, "network": network, "loss": loss, "length": length}
                | {"half": half, "choosing": 0.5 if best else 0.9, "nll_TS": nll, "nll_auto": nll - 0.05}
                | {"nll_partner": nll - 0.03 * (arm == "N"), "nll_oracle": 0.8 if labels == "person" else 0.75}
                | {"unwarranted_itself": 0.2}
            )
    return pd.DataFrame(rows)


def test_registered_tests_compare_what_they_say():
    table = judge.judged(judge.TESTS, cells()).query("network == 'all'").set_index("test")
    means = [0.1, 0.1, 0.3, -0.05, -0.03, 0.0, 0.2]
    np.testing.assert_allclose(table["mean"], means, atol=0.004)
    assert table["verdict"].tolist() == ["above", "above", "above", "below", "below", "below", "above"]
    assert (table["holm"] >= table["p"]).all()


def test_gaps_are_of_ce_at_its_best_length_scored_by_true_labels():
    rows = cells().assign(nll_TS_other=lambda each: each["nll_TS"] + 0.07)
    found = judge.gaps(judge.at_best(rows).reset_index()).groupby("network").mean()
    np.testing.assert_allclose(found["above_oracle"], 0.2, atol=0.004)
    np.testing.assert_allclose(found["cost_of_permuting"], 0.07, atol=0.004)


def test_the_figure_has_a_line_per_network_and_loss_and_a_dot_per_network_and_agreement():
    rows = pd.read_csv(measure.OUT)
    certainty, lengths = draw.draw(rows).axes
    assert len(lengths.lines) == len(draw.NETWORKS) * 2
    chosen = rows[(rows["arm"] == "N") & (rows["labels"] == "person") & (rows["network"] == "resnet")]
    chosen = chosen[(chosen["loss"] == judge.BASE) & (chosen["length"] == judge.FULL)]
    dots = [float(line.get_ydata()[0]) for line in certainty.lines if line.get_marker() == draw.NETWORKS["resnet"]]
    np.testing.assert_allclose(dots, [n / 2 + chosen[f"unwarranted_{n}"].mean() for n in range(3)])


def test_verdicts_within_two_margins_need_both_excluded():
    values = {"tight": [0.001, -0.001, 0.002, 0.0, 0.001], "wide": [0.03, -0.03, 0.02, -0.02, 0.0]}
    for name, expected in (("tight", "within"), ("wide", "undecided")):
        series = pd.Series(
            values[name], index=pd.MultiIndex.from_product([range(5), ["mlp"]], names=["block", "network"])
        )
        test = judge.Test("made up", (-0.02, 0.02), lambda cells, series=series: series)
        assert judge.judged((test,), cells())["verdict"].tolist() == [expected, expected]
