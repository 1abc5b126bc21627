"""Several labels per sample: the same as single labels if there is one each, and as plain code says otherwise."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime

from halobench import (
    SpecError,
    calibrate_file,
    diagnose,
    diagnose_file,
    fit_auto,
    fit_partner,
    fit_temperature,
    repair_ladder,
)
from halobench.calibration import calibrator
from halobench.calibration.calibrators.partner import _count, _whether_nll, _which_nll
from halobench.calibration.calibrators.partner import fit_checked as fit_partner_checked
from halobench.calibration.calibrators.shrunk import fit_shrunk
from halobench.calibration.ladder import ladder
from halobench.calibration.scores.sample_scores import softmax
from unit.calibration.builders import drawn
from unit.calibration.builders import without_ladder as without_ladder  # a fixture

OWN = ("top_rest", "partner")
TAKE_VOTES = ("exact", "shrunk", "paper", "top_rest", "partner", "matrix", "dirichlet")


def voted(n: int = 300, k: int = 4, each: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and votes from their softmax, a third of them moved to the next class."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, k))
    p = 2 / 3 * softmax(z) + np.roll(softmax(z), 1, axis=1) / 3
    return 3 * z, rng.multinomial(each, p)


@pytest.mark.usefixtures("without_ladder")
def test_one_vote_each_gives_the_same_bytes_as_labels():
    z, y = drawn(300, flips=0.35)
    votes = np.eye(4, dtype=int)[y]
    assert fit_temperature(z, votes=votes) == fit_temperature(z, y)
    for fit in (fit_partner, partial(fit_auto, candidates=OWN)):
        np.testing.assert_array_equal(fit(z, votes=votes).predict_proba(z), fit(z, y).predict_proba(z))
    by_votes, by_labels = diagnose(z, votes=votes, candidates=OWN), diagnose(z, y, candidates=OWN)
    assert by_votes.as_json() == by_labels.as_json()
    assert str(by_votes) == str(by_labels)


@pytest.mark.parametrize("name", TAKE_VOTES)
@pytest.mark.parametrize("k", [2, 4, 12])
def test_one_hot_shares_through_the_general_kernels_agree_with_labels(name, k):
    z, y = drawn(300, k, flips=0.3)
    by_labels, by_shares = (calibrator.fit_checked(name, z, each, {}) for each in (y, np.eye(k)[y]))
    np.testing.assert_allclose(by_shares.predict_proba(z), by_labels.predict_proba(z), rtol=0, atol=1e-10)
    assert by_shares.nll == pytest.approx(by_labels.nll, abs=1e-10)


def test_the_ladder_of_one_hot_shares_is_that_of_labels():
    z, y = drawn(120, 3, flips=0.3)
    a, b = ladder(z, y), ladder(z, np.eye(3)[y], votes=True)
    assert b.noise is None
    by_search = {"network": 1e-4}  # its search, in single precision, amplifies the last digit
    for family, nll in a.families.items():
        assert b.families[family] == pytest.approx(nll, abs=by_search.get(family, 1e-6)), family
    assert b.training_range == pytest.approx(a.training_range, abs=1e-6)
    assert repair_ladder(z, votes=np.eye(3)[y]) == repair_ladder(z, y)
    twice = repair_ladder(z, votes=2 * np.eye(3)[y])
    assert twice.noise is None
    assert twice.nll.value == pytest.approx(a.nll.value, abs=1e-12)


def test_the_temperature_is_that_of_a_row_per_vote():
    z, votes = voted()
    rows, labels = np.repeat(z, 7, axis=0), np.concatenate([np.repeat(np.arange(4), row) for row in votes])
    assert fit_temperature(z, votes=votes).beta == pytest.approx(fit_temperature(rows, labels).beta, rel=1e-9)
    assert fit_temperature(z, votes=3 * votes).beta == pytest.approx(fit_temperature(z, votes=votes).beta, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_partner_scaling_leaves_all_votes_of_a_sample_out_at_once(weighted):
    """Its objective at given weights is that of plain code, and its gradient that of finite differences."""
    z, votes = voted(60, 5)
    of = np.random.default_rng(1).lognormal(size=60) if weighted else np.ones(60)
    shares = of[:, None] * votes / votes.sum(axis=1, keepdims=True)
    fit = fit_partner_checked(z, shares)
    top = z.argmax(axis=1)
    wrong = shares[np.arange(60), top] < of
    w, plain = np.array([0.8, 0.3, -0.1]), 0.0
    counts = sum(np.outer(np.eye(5)[top[i]], np.where(np.arange(5) == top[i], 0, shares[i])) for i in range(60))
    np.testing.assert_allclose(_count(top, shares, 5), counts, atol=1e-12)
    counts = counts + counts.T if fit.symmetric else counts
    gaps = np.sort(z, axis=1)[:, -1] - np.sort(z, axis=1)[:, -2]
    for i in np.flatnonzero(wrong):
        a, others = top[i], [j for j in range(5) if j != top[i]]
        own = {j: max(counts[a, j] - shares[i, j], 0.0) for j in others}
        h = 2 * gaps[i] / (gaps[i] + fit.mean_gap)
        score = [
            w[0] * fit.beta * (z[i, j] - z[i, a]) + (w[1] + w[2] * h) * np.log1p(4 * own[j] / fit.prior) for j in others
        ]
        log_p = score - np.log(np.exp(score).sum())
        plain -= sum(shares[i, j] * value for j, value in zip(others, log_p, strict=True))
    objective = partial(_which_nll, fit=fit, logits=z, targets=shares, wrong=np.flatnonzero(wrong))
    value, gradient, hessian = objective(w)
    assert value == pytest.approx(plain, rel=1e-10)
    np.testing.assert_allclose(gradient, approx_fprime(w, lambda each: objective(each)[0], 1e-6), rtol=1e-3, atol=1e-4)
    slopes = [approx_fprime(w, lambda each, i=i: objective(each)[1][i], 1e-6) for i in range(3)]
    np.testing.assert_allclose(hessian, slopes, rtol=1e-3, atol=1e-3)
    right = shares[np.arange(60), top]
    features = np.random.default_rng(0).normal(size=(60, 4))
    whether = partial(_whether_nll, features=features, top=top, right=right, of=of)
    v = 0.1 * np.arange(9.0)
    np.testing.assert_allclose(
        whether(v)[1], approx_fprime(v, lambda each: whether(each)[0], 1e-7), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["top_rest", "partner", "matrix", "dirichlet"])
def test_many_votes_say_more_than_one(name):
    """Fitted to 30 votes per sample, each map is better on new samples than if fitted to the first of them."""
    z, votes = voted(200, 6, 30)
    new, _ = voted(4000, 6, 1, seed=1)
    p = 2 / 3 * softmax(new / 3) + np.roll(softmax(new / 3), 1, axis=1) / 3
    first = np.array([np.random.default_rng(i).choice(6, p=row / 30) for i, row in enumerate(votes)])
    many, one = (calibrator.fit_checked(name, z, each, {}).logits(new) for each in (votes / 30, first))
    nll = [-(p * np.log(softmax(each))).sum(axis=1).mean() for each in (many, one)]
    assert nll[0] < nll[1]


def test_evidence_grows_with_votes():
    """Thirty votes per sample settle T where one leaves it open, and the same votes again settle nothing."""
    z = 2 * np.random.default_rng(0).normal(size=(40, 5))
    shares = np.random.default_rng(1).multinomial(30, softmax(z)) / 30
    z = 1.4 * z
    one, many = (fit_shrunk(z, shares, votes=np.full(40, m)) for m in (1, 30))
    assert abs(one.z) < abs(many.z)
    assert one.weight > many.weight


@pytest.mark.usefixtures("without_ladder")
def test_every_kind_of_input_gives_the_same(tmp_path):
    (z, votes), (new, new_votes) = voted(), voted(seed=1)
    found = diagnose(z, votes=votes, test_logits=new, test_votes=new_votes, names=list("abcd"), candidates=OWN)
    table = pd.DataFrame(np.concatenate([z, new]), columns=[f"logit_{name}" for name in "abcd"])
    for j, name in enumerate("dcba"):
        table[f"vote_{name}"] = np.concatenate([votes, new_votes])[:, 3 - j]
    table["split"] = np.repeat(["val", "test"], 300)
    table.to_csv(tmp_path / "mine.csv", index=False)
    np.savez(
        tmp_path / "mine.npz",
        val_logits=z, val_votes=votes, test_logits=new, test_votes=new_votes, names=list("abcd"),
    )  # fmt: skip
    others = [diagnose_file(tmp_path / name, candidates=OWN) for name in ("mine.csv", "mine.npz")]
    for each in (*others, diagnose(table, candidates=OWN)):
        assert each.as_json() == found.as_json()
    text = " ".join(str(found).split())
    assert "300 validation samples with 7 votes each on average" in text
    assert "Fitted to majority labels, T would be" in text
    majority = fit_temperature(z, votes.argmax(axis=1))
    assert pytest.approx(majority.T) == found.temperature.others["majority"].T
    with pytest.raises(SpecError, match=r"mine.npz: votes: only `halobench diagnose` uses votes"):
        calibrate_file(tmp_path / "mine.npz")
    unlabelled = table.assign(
        **{f"vote_{name}": table[f"vote_{name}"].where(table["split"] == "val") for name in "abcd"}
    )
    assert diagnose(unlabelled, candidates=OWN).scores == {}


@pytest.mark.usefixtures("without_ladder")
def test_data_frames_are_aligned_by_their_columns():
    z, votes = voted()
    names = ["b", "d", "a", "c"]
    frame, counts = pd.DataFrame(z, columns=names), pd.DataFrame(votes, columns=names)[sorted(names)]
    for fit in (fit_temperature, fit_partner, partial(fit_auto, candidates=OWN), partial(diagnose, candidates=OWN)):
        np.testing.assert_array_equal(
            fit(frame, votes=counts).predict_proba(z), fit(z, votes=votes).predict_proba(z), strict=True
        )
    labels = np.array(names)[votes.argmax(axis=1)]
    by_name = diagnose(frame, labels, candidates=OWN)
    assert by_name.names == tuple(names)
    np.testing.assert_array_equal(
        by_name.predict_proba(z), diagnose(z, votes.argmax(axis=1), candidates=OWN).predict_proba(z)
    )
    assert fit_auto(frame, labels, candidates=OWN).calibrator.names == tuple(names)


@pytest.mark.usefixtures("without_ladder")
def test_calibrators_of_single_labels_are_left_out_by_name():
    z, votes = voted()
    found = diagnose(z, votes=votes, candidates=("partner", "confusion_mix"))
    assert (
        next(each for each in found.auto.candidates if each.name == "confusion_mix").reason
        == "it takes labels only, without votes or weights"
    )
    with pytest.raises(SpecError, match=r"calibrators\.confusion_mix: takes labels only, without votes or weights"):
        diagnose(z, votes=votes, candidates=("partner",), calibrator="confusion_mix")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda votes: -votes, r"votes\[0\] = -\d+.0: expected whole numbers of at least 0"),
        (lambda votes: votes + 0.5, r"votes\[0\] = \d.5: expected whole numbers of at least 0"),
        (lambda votes: votes / 7, r"votes\[0\] = 0.\d+: .*pass the numbers of votes, not their shares"),
        (lambda votes: votes * (np.arange(300) != 5)[:, None], r"votes\[5\]: found no vote"),
        (lambda votes: votes[:, :3], r"votes: found shape \(300, 3\), expected one count per sample and class"),
        (lambda votes: np.where(votes > 0, np.nan, 0), r"votes\[0\] = nan"),
        (lambda votes: votes.astype(str), "votes: found dtype"),
    ],
)
def test_bad_votes_are_named(change, told):
    z, votes = voted()
    for fit in (fit_temperature, fit_partner, fit_auto, diagnose):
        with pytest.raises(SpecError, match=told):
            fit(z, votes=change(votes))
        with pytest.raises(SpecError, match="votes: passed next to labels"):
            fit(z, votes.argmax(axis=1), votes=votes)


def test_columns_of_votes_and_labels_exclude_each_other():
    z, votes = voted(40)
    table = pd.DataFrame(z).add_prefix("logit_").join(pd.DataFrame(votes).add_prefix("vote_"))
    with pytest.raises(SpecError, match="columns: there are both label and vote_NAME"):
        diagnose(table.assign(label=0))
    with pytest.raises(SpecError, match="votes: found dtype"):
        diagnose(table.assign(vote_0="two"))
    with pytest.raises(SpecError, match="votes: found rows of different lengths"):
        fit_temperature(z, votes=[[1, 2], [3]])
    with pytest.raises(SpecError, match="votes: found the classes 0, 1, 2, expected the classes 0, 1, 2, 3"):
        diagnose(table.drop(columns="vote_3"))
