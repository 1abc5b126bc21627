"""The shipped theory experiment, cell by cell without the workflow: what its figures and verdicts should show.

Only one seed of its overlap cells is trained; `make soak` trains all three, which the verdicts need.
"""

from __future__ import annotations

import pandas as pd
import pytest
import yaml
from scipy.stats import spearmanr

from conftest import ROOT, SOAK
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import list_cells
from halobench.pipeline import calibrate, train
from halobench.pipeline.source import run_source
from halobench.results.aggregate import aggregate
from halobench.results.claims import evaluate, load_claims
from halobench.results.manifest import list_files

pytestmark = [pytest.mark.theory, pytest.mark.xdist_group("theory_bench")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    """The tables and verdicts of the experiment's cells on overlap distributions."""
    config = load_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
    results = tmp_path_factory.mktemp("results")
    cells = [cell for cell in config.cells("theory") if cell.dataset.startswith("overlap")]
    cells = [cell for cell in cells if SOAK or cell.seed == 0]
    references = sorted({(cell.dataset, cell.seed) for cell in cells})
    for dataset in sorted({cell.dataset for cell in cells}):
        source = config.datasets[dataset].source
        run_source(config.source_spec(source), results / "sources" / source)
    for cell in cells:
        out, source = results / "runs" / cell.path, results / "sources" / config.datasets[cell.dataset].source
        train.run_train(config.train_spec(cell.dataset, cell.model, cell.loss), source, cell.seed, out)
        calibrate.run_calibrate(config.calibrate_spec() | {"draws": 20, "floor_draws": 2}, cell.seed, out)
    for dataset, seed in references:
        source, out = config.datasets[dataset].source, results / f"references/{dataset}/seed{seed}"
        calibrate.run_reference(config.reference_spec(dataset), results / "sources" / source, seed, out)
    listed = list_files(list_cells("theory", cells, references, ()), results)
    made = dict(aggregate(listed, results))
    return made | {"claims": evaluate(load_claims(ROOT / "workflow/claims.yaml"), made)}


def scores(tables: dict[str, pd.DataFrame], metric: str, calibrator: str = "exact") -> pd.Series:
    """A score of trained cells on test points, averaged over seeds, by model, loss and k."""
    table = tables["metrics"].merge(tables["runs"][["dataset", "model", "loss", "seed", "classes"]])
    rows = table[(table["split"] == "test") & (table["labels"] == "noisy") & (table["calibrator"] == calibrator)]
    return rows[rows["metric"] == metric].groupby(["model", "loss", "classes"])["value"].mean()


def test_attention_interpolates_and_grows_like_log_k(tables):
    """KL / log k at 16, 32 and 64 is within 15% of that at 8."""
    assert tables["runs"].set_index(["model", "loss"]).loc[("attention", "cross_entropy"), "interpolates"].all()
    share = scores(tables, "kl_per_log_k")["attention", "cross_entropy"]
    for k in (16, 32, 64):
        assert 0.85 < share[k] / share[8] < 1.15


def test_mixup_is_bounded(tables):
    kl = scores(tables, "kl")["attention"]
    assert (kl["mixup3"] < kl["cross_entropy"]).all()


def test_the_mlp_interpolates_and_knows_partners(tables):
    assert tables["runs"].set_index(["model", "loss"]).loc[("mlp", "cross_entropy"), "interpolates"].all()
    assert scores(tables, "partner_second", "none")["mlp", "cross_entropy"].min() > 0.9


@pytest.mark.soak
@pytest.mark.parametrize(
    ("claim", "model", "verdict"),
    [
        ("kl_grows_like_log_k", "attention", "holds"),
        ("kl_of_mixup3_bounded", "attention", "holds"),
        ("kl_grows_like_log_k", "mlp", "does_not"),
    ],
)
def test_verdicts(tables, claim, model, verdict):
    rows = tables["claims"][tables["claims"]["claim"] == claim]
    assert rows.loc[rows["scope"].str.endswith(f"/{model}"), "verdict"].item() == verdict


def test_the_formula_ranks_all_trained_cells(tables):
    """Spearman's correlation of predicted and measured KL is at least .95."""
    wide = tables["metrics"][tables["metrics"]["split"] == "test"]
    wide = wide[(wide["labels"] == "noisy") & ~wide["loss"].isin(["reference", "untrained"])]
    keys = ["dataset", "model", "loss", "seed"]
    predicted = wide[(wide["metric"] == "kl_two_level") & (wide["calibrator"] == "none")].set_index(keys)["value"]
    measured = wide[(wide["metric"] == "kl") & (wide["calibrator"] == "exact")].set_index(keys)["value"]
    assert len(predicted) == (60 if SOAK else 20)
    assert spearmanr(predicted, measured.loc[predicted.index])[0] >= 0.95


def test_oracle_and_exact_agree_and_nobody_beats_bayes(tables):
    exact, oracle, raw = (scores(tables, "kl", name) for name in ("exact", "oracle", "none"))
    assert (oracle >= 0).all()
    assert (oracle <= exact + 1e-12).all()
    assert (exact - oracle).max() < 0.02, "the fit on validation points is not what leaves the gap"
    assert (oracle <= raw + 1e-12).all()
