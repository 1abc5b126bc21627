"""The study of votes: closed forms of its scores, nulls and strata, and what its readers refuse."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from halobench.core.errors import RefusedError, SpecError
from halobench.data import data_root, published_files
from studies.votes import compare, draw, predictions
from studies.votes.predictions import Network

RNG = np.random.default_rng
POSTERIOR = np.array([0.5, 0.3, 0.2])


def test_excess_brier_is_the_squared_distance_from_the_posterior_in_the_mean_over_all_votes():
    """All 3^4 sequences of four votes, with their probabilities."""
    sequences = np.array(list(itertools.product(range(3), repeat=4)))
    chances = POSTERIOR[sequences].prod(axis=1)
    votes = np.eye(3)[sequences].sum(axis=1)
    p = np.array([0.2, 0.7, 0.1])
    nll, _, excess = chances @ compare.item_scores(np.tile(np.log(p), (len(votes), 1)), compare.judge(votes))
    assert nll == pytest.approx(-POSTERIOR @ np.log(p))
    assert excess == pytest.approx(((p - POSTERIOR) ** 2).sum())


def test_kl_is_nll_minus_the_entropy_with_miller_and_madows_correction():
    """One item's votes are split 3 : 1 (two classes of three), the other has a single vote, so neither KL nor Brier."""
    scores = compare.item_scores(np.zeros((2, 3)), compare.judge(np.array([[3, 1, 0], [0, 0, 1]])))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) + 1 / 8
    assert scores[0] == pytest.approx([np.log(3), np.log(3) - entropy, 1 / 3 - 2 / 3 + 0.5])
    assert scores[1, 0] == pytest.approx(np.log(3))
    assert np.isnan(scores[1, 1:]).all()


def test_permuting_within_groups_keeps_each_groups_votes():
    votes, groups = RNG(0).multinomial(100, POSTERIOR, size=300), RNG(1).integers(4, size=300)
    moved = compare.permuted(votes, groups, RNG(2))
    assert (moved != votes).any()
    for group in range(4):
        assert sorted(moved[groups == group].tolist()) == sorted(votes[groups == group].tolist())


def test_one_vote_has_the_frequencies_of_the_votes_and_ties_of_the_majority_are_drawn():
    votes = np.tile([4, 0, 4, 2], (20_000, 1))
    for labels, expected in (
        (compare.one_vote(votes, RNG(0)), [0.4, 0, 0.4, 0.2]),
        (compare.majority(votes, RNG(0)), [0.5, 0, 0.5, 0]),
    ):
        assert np.bincount(labels, minlength=4) / 20_000 == pytest.approx(expected, abs=0.015)


def test_half_of_the_votes_is_half_of_each_items():
    votes = RNG(0).multinomial(51, POSTERIOR, size=50)
    half = compare.half_of(votes, RNG(1))
    assert (half.sum(axis=1) == 25).all()
    assert (half >= 0).all()
    assert (half <= votes).all()


def test_strata_are_items_without_disagreement_and_halves_of_the_rest_or_thirds():
    split = np.array([[10 - i, i] for i in range(1, 6)] * 2)
    agreed = np.array([[10, 0]] * 10)
    assert np.bincount(compare.strata(np.concatenate([agreed, split]))).tolist() == [10, 6, 4]
    assert np.bincount(compare.strata(split[:3].repeat(2, axis=0))).tolist() == [2, 2, 2]


def test_shares_by_prediction_include_one_item_of_mean_shares():
    table = compare.shares_by_prediction(np.array([0, 0, 1]), np.array([[2, 0], [1, 1], [0, 2]]))
    assert table == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 4, 3 / 4]]))


def test_fewer_than_one_split_or_two_resamples_are_refused(capsys):
    for option, value, least in (("splits", "0", 1), ("resamples", "1", 2)):
        with pytest.raises(SystemExit, match="2"):
            compare.main([f"--{option}", value])
        assert f"--{option} is {value}; {least} or more would be right" in capsys.readouterr().err


def drawn(n: int, k: int, m: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are half as large as the posterior's, plus noise, a label and m votes."""
    rng = RNG(seed)
    u = 4 * rng.normal(size=(n, k))
    p = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    labels, votes = (u + rng.gumbel(size=u.shape)).argmax(axis=1), rng.multinomial(m, p)
    return u / 2 + noise * rng.normal(size=u.shape), labels, votes


def test_each_item_is_scored_by_calibrators_of_the_other_half_as_often_as_it_counts():
    """TS finds the posterior, which the uncalibrated logits aren't; a uniform guess has an NLL of log k everywhere."""
    logits, labels, votes = drawn(600, 3, 40, 0)
    network = Network("a", "a", "a", logits, labels, votes)
    rows = ("TS, votes", "TS, one vote", "matrix, votes")
    own = compare.item_scores(logits, compare.judge(votes))
    for times in (compare.once(network), compare.resampled(network, 0)):
        means, again = (
            compare.scored(network, 1, rows, lambda rng: (votes, [compare.judge(votes)]), times)[0] for _ in range(2)
        )
        assert means[compare.UNIFORM][0] == pytest.approx(np.log(3))
        assert means[compare.UNCALIBRATED] == pytest.approx(np.average(own, axis=0, weights=times.items))
        for row in rows:
            assert means[row][0] < means[compare.UNCALIBRATED][0] - 0.05
            assert abs(means[row][2]) < 0.01
        assert all((again[row] == value).all() for row, value in means.items())


def test_intervals_are_as_wide_as_results_of_new_items_spread_and_would_be_too_short_with_fixed_fits():
    """Labels come from a sharper distribution than votes, so the cost of a fit to them depends on the items' labels."""
    splits, rows, values, halves, fixed = 4, ("TS, labels", "TS, one vote", "TS, votes"), [], [], []

    def measured(network: Network, split: int, times: compare.Times) -> compare.Means:
        world = network.votes, [compare.judge(network.votes)]
        return compare.scored(network, split, rows, lambda rng: world, times)[0]

    for seed in range(100):
        rng = RNG(seed)
        logits = rng.normal(size=(200, 3))
        votes = rng.multinomial(20, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        labels = (2 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        network = Network("a", "a", f"items {seed}", logits, labels, votes)
        own = [measured(network, split, compare.once(network)) for split in range(splits)]
        refits = [
            tuple(measured(network, split, compare.resampled(network, b)) for split in compare.two_splits(b, splits))
            for b in range(40 if seed < 10 else 2)
        ]
        found = compare.summary(own, refits).set_index(["row", "minus", "score"])
        found = found.loc[[("TS, labels", "TS, votes", "nll"), ("TS, one vote", "TS, votes", "nll")]]
        values.append(found["value"])
        halves.append((found["high"] - found["low"]) / 2)
        two = [compare.fitted("TS", logits, targets).logits(logits) for targets in (labels, votes)]
        items = np.subtract(*(compare.item_scores(each, compare.judge(votes))[:, 0] for each in two))
        fixed.append(items.std() / np.sqrt(len(items)))
    spread, width = np.std(values, axis=0), np.mean(halves[:10], axis=0) / 1.96
    assert width[0] == pytest.approx(spread[0], rel=0.25)
    assert np.mean(fixed) < 0.5 * spread[0]
    assert spread[1] < width[1] < 3 * spread[1]  # of second order, so too wide


def test_a_summary_has_differences_and_no_interval_for_what_is_not_refitted():
    means = {"TS, votes": np.arange(3.0), compare.UNIFORM: np.ones(3), "auto, votes": np.zeros(3)}
    refit = {"TS, votes": np.arange(3.0) + 0.1, compare.UNIFORM: np.ones(3)}
    table = compare.summary([means], [(refit, refit), (means, means)]).set_index(["row", "minus", "score"])
    difference = table.loc[("TS, votes", compare.UNIFORM, "nll")]
    assert difference.to_numpy(float) == pytest.approx([-1, -1 - 1.96 * 0.05, -1 + 1.96 * 0.05])
    assert ("TS, votes", compare.UNIFORM, "kl") not in table.index
    assert table.loc[("auto, votes", "", "nll")].isna().tolist() == [False, True, True]


def test_a_network_refuses_votes_labels_or_columns_in_another_order():
    logits, labels, votes = drawn(500, 4, 50, 0)
    assert Network("a", "a", "a", logits, labels, votes).name == "a"
    with pytest.raises(RefusedError, match=r"a: only \d+% of the labels are the majority's, so votes seem to be"):
        Network("a", "a", "a", logits, labels, np.roll(votes, 1, axis=0))
    with pytest.raises(RefusedError, match="a: its columns seem to be classes in another order"):
        Network("a", "a", "a", logits[:, [1, 0, 3, 2]], labels, votes)
    with pytest.raises(SpecError, match=r"a: found votes \(499, 4\), expected one row per item"):
        Network("a", "a", "a", logits, labels, votes[1:])
    with pytest.raises(SpecError, match="a: found 499 labels, expected one per item"):
        Network("a", "a", "a", logits, labels[1:], votes)


def nli(n: int, voted: int, seed: int, noise: float = 0.0) -> tuple[list[dict], list[dict]]:
    """Rows of predictions and of votes, as in their files; the votes are of the last items, in reverse."""
    logits, labels, votes = drawn(n, 3, 100, seed, noise)
    rows = [
        {"uid": f"u{i}", "true": int(label), "logits": z.tolist()}
        for i, (z, label) in enumerate(zip(logits, labels, strict=True))
    ]
    counts = [dict(zip("ecn", map(int, row), strict=True)) for row in votes]
    voted_rows = [
        {
            "uid": f"u{i}",
            "label_counter": {name: count for name, count in counts[i].items() if count},
            "label_count": [counts[i][name] for name in "enc"],
            "old_label": "ecn"[labels[i]],
        }
        for i in range(n - 1, n - voted - 1, -1)
    ]
    return rows, voted_rows


def lines(rows: list[dict]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


@pytest.fixture
def read(tmp_path):
    """Join rows of predictions to rows of votes."""

    def join(rows: list[dict], voted: list[dict], items: str = "SNLI") -> Network:
        path = tmp_path / "votes.jsonl"
        path.write_bytes(lines(voted))
        return predictions.chaosnli_network("net", "net", items, rows, predictions.chaosnli_votes(path, items))

    return join


def test_votes_are_joined_by_name_and_their_classes_sorted(read):
    rows, voted = nli(300, 60, 0)
    network = read(rows, voted)
    logits, labels, votes = drawn(300, 3, 100, 0)
    assert (network.logits == logits[:-61:-1]).all()
    assert (network.labels == labels[:-61:-1]).all()
    assert (network.votes == votes[:-61:-1]).all()
    assert network.others is not None
    assert (network.others[0] == logits[:240]).all()
    assert (network.others[1] == labels[:240]).all()


def test_readers_refuse_votes_of_other_items_classes_or_labels(read):
    rows, voted = nli(300, 60, 0)
    with pytest.raises(RefusedError, match="net: has no prediction of 1 items with votes, not of 0"):
        read(rows, [*voted, voted[0] | {"uid": "nobody's"}])
    with pytest.raises(RefusedError, match="u299: has votes in another order of classes"):
        read(rows, [voted[0] | {"label_count": voted[0]["label_count"][::-1]}, *voted[1:]])
    with pytest.raises(RefusedError, match=r"u298: is twice in votes\.jsonl"):
        read(rows, [*voted, voted[1]])
    with pytest.raises(RefusedError, match="net: has items twice"):
        read([*rows, rows[0]], voted)
    other = [row | {"old_label": voted[place - 1]["old_label"]} for place, row in enumerate(voted)]
    with pytest.raises(RefusedError, match=r"net: \d+ labels aren't those of the same items with votes"):
        read(rows, other)


def test_probabilities_of_0_and_rows_that_are_none_are_refused():
    assert predictions.log(np.full((2, 4), 0.25), "net") == pytest.approx(np.full((2, 4), np.log(0.25)))
    for p in ([[1.0, 0.0]], [[0.6, 0.6]]):
        with pytest.raises(RefusedError, match="net: has rows that aren't probabilities above 0"):
            predictions.log(np.array(p), "net")


def test_each_file_has_an_address_at_a_commit_a_licence_and_a_sum():
    for path, digest in predictions.SUMS.items():
        file = predictions.published(path)
        assert file.url.endswith(path.rpartition("/")[2])
        assert file.licence
        assert len(digest) == 64


def array_file(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays) if len(arrays) > 1 else np.save(buffer, next(iter(arrays.values())))
    return buffer.getvalue()


def made_up_files() -> Iterator[tuple[str, bytes]]:
    """Small files in place of the published ones, by path under the data root."""
    for (items, model), networks in predictions.SEEDS.items():
        rows, voted = nli(400, 120, len(predictions.VOTES[items]), noise=1.0)
        voted += [voted[0] | {"uid": f"lost {i}"} for i in range(predictions.WITHOUT_PREDICTION[items])]
        yield f"predictions/chaosnli/chaosNLI_v1.0/{predictions.VOTES[items]}", lines(voted)
        for network, (part, some) in itertools.product(range(networks), (("dev", rows[:200]), ("test", rows[200:]))):
            yield f"predictions/chaosnli/predictions/{items}_{part}_{model}_{network}.json", lines(some)
    for k, names in ((10, ["lenet-5", "wideresnet-16-4"]), (100, ["densenet-bc-100", "lenet-5", "wideresnet-16-4"])):
        logits, labels, votes = drawn(40 * k, k, 50, k, noise=1.0)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for name in names:
            content = array_file(predictions=p.astype(np.float32), ground_truth=labels)
            yield f"predictions/netcal/cifar{k}/{name}-cifar-{k}.npz", content
        path = f"predictions/cleanlab/original_test_labels/cifar{k}_test_set_original_labels.npy"
        yield path, array_file(labels=labels.astype(np.uint16))
        if k == 10:
            folder = "predictions/cleanlab/cross_validated_predicted_probabilities"
            yield f"{folder}/cifar10_test_set_pyx.npy", array_file(p=p)
            yield "cifar10/cifar10h-counts.npy", array_file(votes=votes)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.mark.process
def test_from_an_empty_folder_files_are_fetched_and_checked_and_tables_written(tmp_path, monkeypatch, capsys):
    contents = dict(made_up_files())
    assert set(contents) == set(predictions.SUMS)
    monkeypatch.setattr(
        predictions, "SUMS", {path: hashlib.sha256(contents[path]).hexdigest() for path in predictions.SUMS}
    )
    served = tmp_path / "served"
    for path, content in contents.items():
        place = served / predictions.published(path).url.removeprefix(f"{predictions.GITHUB}/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    monkeypatch.setenv(data_root.ROOT, str(tmp_path / "data"))
    monkeypatch.setenv(data_root.FETCH, "1")
    monkeypatch.setattr(compare, "ROWS", tuple(row for row in compare.ROWS if row not in compare.NOT_REFITTED))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as server:
        monkeypatch.setenv(published_files.MIRROR, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert compare.main(["--splits", "1", "--resamples", "2", "--out", str(tmp_path / "tables")]) == 0
        finally:
            server.shutdown()
            thread.join()
    said = capsys.readouterr().out
    assert said.count("fetching ") == len(contents)
    assert "CC BY-NC 4.0: not for commercial use" in said
    tables = {path.stem: pd.read_csv(path) for path in (tmp_path / "tables").iterdir()}
    assert set(tables) == {"networks", "strata", "nulls", "ece"}
    assert tables["networks"]["network"].nunique() == 14 + 3  # and three means over seeds
    assert set(tables["strata"]["population"]) == set(compare.STRATA)
    assert tables["nulls"]["network"].nunique() == 11 + 3
    assert (tables["networks"][["low", "value", "high"]].diff(axis=1).iloc[:, 1:] >= -1e-9).all(axis=None)
    Path(tmp_path / "data/cifar10/cifar10h-counts.npy").write_bytes(b"other")
    with pytest.raises(RefusedError, match=r"cifar10h-counts\.npy: isn't the published file"):
        list(predictions.networks())


def test_a_stratum_is_averaged_over_draws_of_halves_each_item_as_often_as_it_falls_into_it():
    """Agreed items always fall into the first stratum; each of the others falls into both of the rest."""
    logits, labels, _ = drawn(60, 3, 20, 1)
    votes = np.where(np.arange(60)[:, None] < 30, 20 * np.eye(3, dtype=int)[labels], [9, 8, 3])
    network = Network("net", "net", "items", logits, labels, votes)
    found = compare.measurer(network)(0, compare.once(network), compare.NOT_REFITTED)
    nll = compare.item_scores(logits, compare.judge(votes))[:, 0]
    first, *rest = (found["strata", name][compare.UNCALIBRATED][0] for name in compare.STRATA)
    assert first == pytest.approx(nll[:30].mean())
    assert np.mean(rest) == pytest.approx(nll[30:].mean(), rel=0.05)


def test_ece_is_by_votes():
    """A uniform guess predicts the first class, all in one bin; TS on votes finds the posterior."""
    logits, labels, votes = drawn(600, 3, 40, 0)
    found = compare.true_label_ece(Network("a", "a", "a", logits, labels, votes), votes, 2)
    assert found[compare.UNIFORM] == pytest.approx(abs(1 / 3 - (votes[:, 0] / 40).mean()))
    assert found["TS, votes"] < 0.03 < found[compare.UNCALIBRATED]


def test_networks_of_a_group_are_also_averaged():
    logits, labels, votes = drawn(200, 3, 20, 0)
    one = Network("net 0", "net", "items", logits, labels, votes)
    table = compare.tables([one, dataclasses.replace(one, name="net 1", logits=2 * logits)], 1, 2)["networks"]
    rows = table[(table["row"] == compare.UNCALIBRATED) & (table["score"] == "nll")].set_index("network")["value"]
    assert rows["net, mean"] == pytest.approx((rows["net 0"] + rows["net 1"]) / 2)


def test_the_figure_has_a_panel_for_each_set_of_items_and_a_title_of_at_most_15_words():
    figure = draw.draw()
    try:
        assert [axes.get_title().split(",")[0] for axes in figure.axes] == ["MNLI", "SNLI", "CIFAR-10H"]
        assert len(figure.get_suptitle().split()) <= 15
        for axes, networks in zip(figure.axes, (3, 5, 3), strict=True):
            assert sum(len(line.get_xdata()) == len(draw.ROWS) for line in axes.lines) == networks
    finally:
        plt.close(figure)
