"""Made-up tables in the form that aggregation writes, for drawing figures and judging claims without a run."""

from __future__ import annotations

import functools
import itertools
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text

from halobench.analysis.claims import load_claims
from halobench.calibration.overlap_theory import two_level_kl
from halobench.core import plugins
from halobench.core.plugins.facts import facts
from halobench.reporting.print_tables.layout import Part, Table, Value, grid
from halobench.results.aggregate import JOINED, REPEATED
from halobench.storage.columns import CLAIM_COLUMNS, SURVIVAL, SURVIVAL_COLUMNS

MIXUP = facts("losses", "mixup").family
THEORY = ("gaussians", "log_k")
FIGURES = tuple(name for name in plugins.names("figures") if name not in THEORY)
STUDIES = (  # their figures
    "studies.architectures.mixup_families:draw",
    "studies.architectures.reach_families:draw",
    "studies.architectures.repair_families:draw",
    "studies.architectures.same_fit:draw",
    "studies.controls.growth:draw",
)
DEMO = [  # the demo's pairs, and more
    *itertools.product(
        ("digits", "digits-noise50", "mnist5k-noise50"), ("mlp", "cnn"), ("cross_entropy", "mixup2", "mixup5")
    ),
    *itertools.product(("digits-noise50",), ("mlp", "cnn"), ("focal",)),
    *itertools.product(("digits-noise50",), ("efficientnet",), ("cross_entropy", "mixup2", "mixup5")),
]
LARGE = list(
    itertools.product(
        ("cifar10", "cifar10-noise25", "cifar10-noise50", "cifar100", "svhn", "a-source-with-a-long-name-noise25"),
        ("resnet18", "resnext50", "densenet121", "convnext_tiny", "mixer", "an_own_model_of_mine"),
        ("cross_entropy", "mixup2", "mixup3", "mixup5", "label_smoothing", "own_loss"),
    )
)
PROBES = ("sphere", "nearest_other", "mixup_line", "manifold")
REACH = {"cross_entropy": 0.8, "focal": 0.6, "mixup2": 0.45, "mixup5": 0.3}
ALONG = {"sphere": 2.5, "manifold": 1.1, "nearest_other": 0.6, "mixup_line": 0.7}
FITS = {"temperature_exact": 2.5, "temperature_paper": 1.1, "paper_near_exact": 0.0}
TRAINED = {"steps": 2000, "fitted_here": True}
SCALE = {"none": 1.0, "paper": 0.75, "exact": 0.4, "oracle": 0.39}


@functools.cache
def made(*cells, seeds=(0, 1, 2)) -> dict[str, pd.DataFrame]:
    """Tables of these cells, made once per process and never to be modified."""
    return tables(cells or DEMO, seeds)


@functools.cache
def made_theory(*ks) -> dict[str, pd.DataFrame]:
    """Tables of the theory bench, made once per process and never to be modified; of one cell if there is one k."""
    if len(ks) == 1:
        return theory_tables(ks, ("mlp",), ("cross_entropy",), (0,))
    return theory_tables(*((ks, ("mlp",), ("cross_entropy", "mixup3"), (0, 1)) if ks else ()))


def beside_theory(given: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables of cells on images, joined with those of the theory bench."""
    theory = made_theory()
    return given | {name: pd.concat([given[name], theory[name]], ignore_index=True) for name in theory}


def beside_posthoc(reliability: pd.DataFrame) -> pd.DataFrame:
    """These bins, and those of two calibrators other than temperature scaling."""
    exact = reliability[reliability["calibrator"] == "exact"]
    others = [exact.assign(calibrator=c, accuracy=x * exact["accuracy"]) for c, x in (("matrix", 0.9), ("zz_own", 0.8))]
    return pd.concat([reliability, *others], ignore_index=True)


def beside_maps(metrics: pd.DataFrame) -> pd.DataFrame:
    """These scores, and those of two maps of the logits other than a temperature."""
    exact = metrics[(metrics["calibrator"] == "exact") & (metrics["loss"] != "reference")]
    others = [exact.assign(calibrator=c, value=x * exact["value"]) for c, x in (("partner", 0.9), ("zz_own", 0.8))]
    return pd.concat([metrics, *others], ignore_index=True)


def plain(name: str, given: dict[str, pd.DataFrame]) -> Figure:
    """A figure of these tables alone."""
    return plugins.load("figures", name)(*(given[table] for table in plugins.find("figures", name).arguments))


def drawn(name: str, given: dict[str, pd.DataFrame]) -> Figure:
    """A figure of these tables, with what it needs and `tables` doesn't make."""
    if name in ("halo", "reach", "summary") and len(given["radii"]):
        given = given | {"radii": beside_searches(given["radii"])}
    if name in ("maps", "summary"):
        given = given | {"metrics": beside_maps(given["metrics"])}
    if name == "repair":
        given = given | {"metrics": with_ladders(given["metrics"])}
    return plain(name, given)


def texts(figure: Figure) -> list[str]:
    """All non-empty texts on a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def words(figure: Figure) -> str:
    return " ".join(" ".join(texts(figure)).split())


def tables(cells=DEMO, seeds=(0, 1, 2)) -> dict[str, pd.DataFrame]:
    """All tables for these (dataset, model, loss) cells and seeds; the same arguments give the same numbers."""
    names = ("neighbourhood", "radii", "metrics", "reliability", "history", "runs")
    out: dict[str, list] = {name: [] for name in names}
    for (dataset, model, loss), seed in itertools.product(cells, seeds):
        rng = np.random.default_rng(zlib.crc32(f"{dataset}/{model}/{loss}/{seed}".encode()))
        lead = {"dataset": dataset, "model": model, "loss": loss, "seed": seed}
        noise = int(dataset.rpartition("-noise")[2]) / 100 if "-noise" in dataset else 0.0
        distance = 23.0 if "mnist" in dataset else 5.0
        reach = REACH.get(loss, 0.5) * rng.uniform(0.9, 1.1)
        top = {"cross_entropy": 0.999, "focal": 0.96}.get(loss, 0.93 - 0.25 * noise)
        out["neighbourhood"] += _neighbourhood(lead, rng, top, reach, distance, noise)
        out["radii"] += _radii(lead, rng, top, reach, distance)
        out["metrics"] += _metrics(lead, rng, loss, noise)
        out["reliability"] += _reliability(lead, rng, top, noise)
        epochs = 100 if model == "mlp" else 30
        for epoch in range(1, epochs + 1):
            floor = 1e-3 if loss in ("cross_entropy", "focal") else 0.6
            value = floor + 2.3 * np.exp(-8 * epoch / epochs) * rng.uniform(0.9, 1.1)
            out["history"].append(lead | {"epoch": epoch, "step": 20 * epoch, "lr": 3e-3, "train_loss": value})
        accuracy = 1.0 if loss in ("cross_entropy", "focal") else 0.985 + 0.01 * rng.random()
        out["runs"].append(
            lead
            | {"noise": noise, "classes": 10, "train_points": 1000, "train_accuracy": accuracy}
            | {"interpolates": accuracy >= 0.99, "temperature_oracle": 2.52}
            | FITS
            | {"seconds": 5.0, "device": "cpu", "parameters": 90000}
            | TRAINED
            | {"distribution": "", "beta": np.nan, "group": np.nan, "separation": np.nan}
            | {"seed_correction": 0.45, "loss_family": MIXUP if loss.startswith("mixup") else ""}
        )
    for dataset, seed in itertools.product(dict.fromkeys(d for d, _, _ in cells), seeds):
        out["metrics"] += _references(dataset, seed)
    frames = {name: pd.DataFrame(rows) for name, rows in out.items()}
    datasets = frames["runs"].drop_duplicates("dataset").set_index("dataset")
    for name, column in itertools.product([name for name, table in JOINED.items() if table.repeats], REPEATED):
        frames[name][column] = frames[name]["dataset"].map(datasets[column])
    for name in ("neighbourhood", "radii"):
        frames[name]["kind"] = frames[name]["probe"]
    frames["claims"] = claims(list(dict.fromkeys((d, m) for d, m, _ in cells)))
    return frames


def with_ladders(metrics: pd.DataFrame) -> pd.DataFrame:
    """Add the rows of a repair ladder for each trained cell to metrics."""
    cells = metrics.loc[metrics["loss"] != "reference", ["dataset", "model", "loss", "seed"]].drop_duplicates()
    rows = []
    for cell in cells.to_dict("records"):
        rng = np.random.default_rng(zlib.crc32(f"ladder{cell}".encode()))
        parts = dict(zip(("noise", "training", "richer_map", "temperature"), rng.uniform(0.1, 0.4, 4), strict=True))
        parts["temperature"] += 1
        values = parts | {"nll": sum(parts.values()), "best_map": parts["noise"] + parts["training"]}
        lead = cell | {"split": "test", "labels": "noisy", "calibrator": "none"}
        rows += [
            lead | {"metric": f"repair_{name}", "value": value, "low": value - 0.02, "high": value + 0.02}
            for name, value in values.items()
        ]
    return pd.concat([metrics, pd.DataFrame(rows)], ignore_index=True) if rows else metrics


def theory_tables(
    ks=(4, 8, 16, 32, 64), models=("attention", "mlp"), losses=("cross_entropy", "mixup3"), seeds=(0, 1, 2)
) -> dict[str, pd.DataFrame]:
    """Metrics and runs of cells on overlap distributions and Gaussians; two-level logits make KL follow its formula."""
    metrics, runs = [], []
    rho = {("attention", "cross_entropy"): 0.25, ("attention", "mixup3"): 0.65}

    def add(lead, split, labels, calibrator, values):
        row = {"split": split, "labels": labels, "calibrator": calibrator, "low": np.nan, "high": np.nan}
        metrics.extend(lead | row | {"metric": metric, "value": value} for metric, value in values.items())

    families = [("overlap", 2)] + ([("overlap-m4", 4), ("overlap-image", 2)] if len(ks) > 2 else [])
    trained = (*itertools.product(models, losses), ("nearest", "untrained"))
    for (family, m), k, seed in itertools.product(families, ks, seeds):
        dataset = f"{family}-k{k}"
        leads = [{"dataset": dataset, "model": model, "loss": loss, "seed": seed} for model, loss in trained]
        off = [np.random.default_rng(zlib.crc32(str(lead).encode())).normal(0, 0.01) for lead in leads]
        levels = [0.0 if cell[0] == "nearest" else rho.get(cell, 0.8) + x for cell, x in zip(trained, off, strict=True)]
        kls = two_level_kl(k, 0.5, m, 1.0, 1.0, np.array(levels))
        for lead, level, kl in zip(leads, levels, kls, strict=True):
            loss = lead["loss"]
            share = {"kl_two_level": kl, "rho": level if k > m else np.nan}
            add(lead, "test", "noisy", "none", share | {"kl": 2 * kl, "nll": 2 * kl + 0.35})
            for calibrator in ("paper", "exact", "oracle"):
                values = {"kl": 1.15 * kl, "kl_per_log_k": 1.15 * kl / np.log(k), "nll": 1.15 * kl + 0.35}
                add(lead, "test", "noisy", calibrator, values)
            image = "image_overlap" if family == "overlap-image" else "overlap"
            facts = {"distribution": image, "beta": 0.5, "group": m, "separation": np.nan, "classes": k}
            runs.append(
                lead | facts | {"interpolates": not (loss == "mixup3" and k > 32), "noise": 0.0} | FITS | TRAINED
            )
        reference = {"dataset": dataset, "model": "uniform", "loss": "reference", "seed": seed}
        add(reference, "test", "noisy", "none", {"kl": 1})
    for (mu, loss), seed in itertools.product(itertools.product((0.01, 0.05, 0.1), losses), seeds):
        lead = {"dataset": f"gaussians-mu{mu:g}", "model": "mlp", "loss": loss, "seed": seed}
        for calibrator, scale in SCALE.items():
            add(lead, "test", "noisy", calibrator, {"kl": scale * (2 - 8 * mu) * (1 + 0.1 * seed), "nll": 1.0})
            off = scale * (0.5 - 2 * mu) * (1 + 0.1 * seed)
            add(lead, "test", "noisy", calibrator, {"ece": off, "ace_average": 1.2 * off})
            add(lead, "test", "clean", calibrator, {"nll": 1.1, "ece": 1.1 * off, "ace_average": 1.3 * off})
        facts = {"distribution": "gaussians", "beta": np.nan, "group": np.nan, "separation": mu * np.sqrt(300)}
        runs.append(lead | facts | {"classes": 2, "interpolates": True, "noise": 0.0} | FITS | TRAINED)
    return {"metrics": pd.DataFrame(metrics), "runs": pd.DataFrame(runs)}


def _confidence(relative, along, top, reach, noise):
    low = 0.1 + 0.2 * noise
    return low + (top - low) / (1 + np.exp((relative / along - reach) * 9)) * (1 + np.exp(-9 * reach))


def _neighbourhood(lead, rng, top, reach, distance, noise):
    rows = []
    for probe, points in itertools.product(PROBES, ("train", "heldout")):
        held = points == "heldout"
        level = (1 - 0.45 * (noise > 0) - 0.04) * top if held else top
        relatives = [0.0, *(r / distance for r in (0.5, 1, 2, 3, 4, 5, 7, 10, 14, 20))]
        grids = [(r * distance, np.nan, r) for r in relatives]
        grids += [(np.nan, r, r) for r in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0)]
        for radius, relative, r in grids:
            confidence = np.clip(_confidence(r, ALONG[probe], level, reach, noise) + rng.normal(0, 0.008), 0, 1)
            rows.append(
                lead
                | {"points": points, "probe": probe, "kind": probe, "radius": radius, "relative_radius": relative}
                | {"confidence": confidence, "confidence_se": 0.01}
                | {"logit_gap": 12 * (confidence - 0.4) * (1.0 if "mixup" not in lead["loss"] else 0.3)}
                | {"logit_gap_se": 0.2}
            )
    return rows


def _radii(lead, rng, top, reach, distance):
    rows = []
    for points, probe in itertools.product(("train", "heldout"), PROBES):
        for quantity, calibrator in (
            ("certainty", "none"),
            ("certainty", "exact"),
            ("half_level", "none"),
            ("half_level", "exact"),
            ("decision", "none"),
        ):
            middle = {"certainty": 0.6, "half_level": 1.0, "decision": 1.1}[quantity] * reach * ALONG[probe]
            if quantity == "certainty" and (calibrator == "exact" or top < 0.9):
                middle = 0.0
            middle *= rng.uniform(0.85, 1.15) * (0.8 if points == "heldout" else 1.0)
            censored = float(np.clip(middle - 1.0, 0, 0.95)) if probe in ("sphere", "manifold") else 0.05
            middle = 2.0 if censored >= 0.5 else middle
            line = probe in ("nearest_other", "mixup_line")
            rows.append(
                lead
                | {"points": points, "probe": probe, "kind": probe, "quantity": quantity, "calibrator": calibrator}
                | {"threshold": 0.9 if quantity == "certainty" else np.nan, "n": 150, "censored": censored}
                | {f"radius_{q}": middle * distance * f for q, f in (("q25", 0.7), ("median", 1.0), ("q75", 1.3))}
                | {f"relative_{q}": middle * f for q, f in (("q25", 0.7), ("median", 1.0), ("q75", 1.3))}
                | {"fraction_median": middle if line else np.nan}
                | dict(zip(SURVIVAL_COLUMNS, np.exp(-np.array(SURVIVAL) / max(middle, 1e-9)), strict=True))
            )
    return rows


def beside_searches(radii: pd.DataFrame) -> pd.DataFrame:
    """Add radii of an attack, smaller than those of random directions, certified ones, even smaller, and two nulls."""
    random, parts = radii[(radii["probe"] == "sphere") & (radii["quantity"] == "certainty")], [radii]
    for probe, power in (("adversarial", 4), ("certified", 6)):
        shares = {name: random[name] ** power for name in SURVIVAL_COLUMNS}
        shares |= {"relative_median": random["relative_median"] / power, "censored": 0.0}
        parts.append(random.assign(probe=probe, kind=probe, **shares))
    for quantity, power in (("half_space", 0.5), ("half_spaces", 1.5)):
        shares = {name: random[name] ** power for name in SURVIVAL_COLUMNS}
        shares |= {"relative_median": random["relative_median"] / power}
        parts.append(random.assign(probe="adversarial", kind="adversarial", quantity=quantity, **shares))
    return pd.concat(parts, ignore_index=True)


def _metrics(lead, rng, loss, noise):
    rows = []
    best = 0.1 + 0.6931 * (noise > 0)
    excess = {"cross_entropy": 1.8, "focal": 0.4, "mixup2": 0.6, "mixup5": 0.45}.get(loss, 0.7) * (0.2 + noise)
    for calibrator, labels in itertools.product(SCALE, ("drawn", "noisy", "clean")):
        nll = best + excess * (SCALE[calibrator] if "mixup" not in loss else 0.8 + 0.2 * SCALE[calibrator])
        values = {
            "nll": nll * rng.uniform(0.95, 1.05),
            "ece": 0.03 + 0.4 * SCALE[calibrator] * excess / 2 * rng.uniform(0.8, 1.2),
            "ece_floor": 0.05 * rng.uniform(0.95, 1.05),
            "brier": 0.3,
            "error": 0.5 * (noise > 0) + 0.03,
        }
        values["ace_average"] = 1.3 * values["ece"]
        for metric, value in values.items():
            row = {"split": "test", "labels": labels, "calibrator": calibrator, "metric": metric, "value": value}
            boot = metric in ("nll", "brier", "error")
            rows.append(
                lead | row | {"low": value * 0.97 if boot else np.nan, "high": value * 1.03 if boot else np.nan}
            )
    return rows


def _references(dataset, seed):
    """NLL and KL differ by the posterior's entropy; trained cells have no KL here."""
    noisy = "-noise" in dataset
    rows = []
    for model, calibrator, nll, ece in (
        ("bayes", "none", 0.6931 * noisy, 0.0),
        ("uniform", "none", 2.3026, 0.1),
        ("nearest", "none", 18.0, 0.5),
        ("nearest", "exact", 1.6 if noisy else 0.35, 0.04),
    ):
        scores = (("nll", nll), ("ece", ece), ("kl", nll - 0.6931 * noisy))
        for labels, (metric, value) in itertools.product(("noisy", "clean"), scores):
            if (labels, metric) == ("clean", "kl"):
                continue
            lead = {"dataset": dataset, "model": model, "loss": "reference", "seed": seed, "split": "test"}
            row = {"labels": labels, "calibrator": calibrator, "metric": metric, "value": value}
            rows.append(lead | row | {"low": np.nan, "high": np.nan})
    return rows


def _reliability(lead, rng, top, noise):
    rows = []
    edges = np.linspace(0, 1, 16)
    for calibrator, labels in itertools.product(SCALE, ("drawn", "noisy", "clean")):
        concentration = {"none": 30, "paper": 20, "exact": 5, "oracle": 5}[calibrator]
        confidences = rng.beta(concentration * top, concentration * (1.001 - top) + 0.6, 450)
        if calibrator in ("exact", "oracle"):
            confidences = 0.2 + 0.6 * confidences
        where = np.clip(np.ceil(confidences * 15).astype(int) - 1, 0, 14)
        for b in range(15):
            inside = confidences[where == b]
            shape = {"bin": b, "lower": edges[b], "upper": edges[b + 1], "count": len(inside)}
            mean = inside.mean() if len(inside) else np.nan
            wrong = 0.45 * (noise > 0) * (calibrator in ("none", "paper"))
            accuracy = mean * (1 - wrong) if len(inside) else np.nan
            row = {"split": "test", "labels": labels, "calibrator": calibrator}
            rows.append(lead | row | shape | {"confidence": mean, "accuracy": accuracy})
    return rows


# Some of the claims, each with the size of a typical difference from its margin.
CLAIMED = {"certain_half_way_at_random": 0.2, "decision_reaches_farther_than_mixup2": 0.5}
CLAIMED |= {f"{loss}_raw_beats_ts_{fit}": 2.0 for loss in ("mixup2", "mixup5") for fit in ("paper", "exact")}
CLAIMED |= {"exact_improves_paper": 0.6, "more_points_help": 0.6}
CLAIMED |= {"kl_grows_like_log_k": 0.3, "kl_of_mixup3_bounded": 0.3}


# A row of the table of claims, of a test that holds.
CLAIM_ROW = {
    **{"claim": "a", "statement": "A [Section 4]", "theme": "mixup", "scope": "all"},
    **{"label": "A", "kind": "paper", "loss": "cross_entropy", "table": "metrics", "measure": "nll"},
    **{"formula": "level of metrics.value: loss cross_entropy"},
    **{"fit": "exact", "statistic": "level", "estimate": 0.3, "low": 0.2, "high": 0.4, "margin": 0.1},
    **{"direction": "above", "n": 3, "excluded": 0, "seed_correction": 0.0, "verdict": "holds", "pairs": 1},
    **{"hold": 1, "fail": 0, "left_out": 0, "least": 0.3, "most": 0.3, "p": 0.01, "holm": 0.02, "adjusted": "holds"},
    **{"registered": "before any run (abc1234, 2026-01-01)", "note": ""},
}
UNTESTED = dict.fromkeys(("estimate", "low", "high", "p", "holm", "least", "most"), np.nan)
UNTESTED |= {"n": 0, "pairs": 0, "hold": 0, "adjusted": "not_tested", "note": "no data sets with 5 numbers of classes"}


def claims(cells) -> pd.DataFrame:
    """Verdicts on made-up claims, over all cells and for each one; every verdict occurs."""
    rows, rng = [], np.random.default_rng(7)
    listed = {claim.name: claim for claim in load_claims(Path(__file__).parents[1] / "workflow/claims.yaml")}
    for name, scale in CLAIMED.items():
        claim = listed[name]
        sign = 1 if claim.direction == "above" else -1
        said = ("label", "statement", "theme", "kind", "fit", "table", "measure", "statistic", "formula")
        facts = {key: getattr(claim, key) for key in (*said, "margin", "direction")}
        for scope in ("all", *(f"{d}/{m}" for d, m in cells)):
            untested = name.startswith("kl") or ("mixup" in name and scope.startswith("digits/"))
            half = rng.uniform(0.05, 0.35) * scale
            drawn = -0.6 if name == "mixup5_raw_beats_ts_paper" else rng.normal(0.3, 0.5)
            estimate = claim.margin + sign * drawn * scale
            beyond = sign * (estimate - claim.margin)
            verdict = "undecided" if abs(beyond) < half else "holds" if beyond > 0 else "does_not"
            if scope == "all" and name.endswith("exact"):
                verdict = "mixed"
            adjusted = verdict if abs(beyond) > 1.5 * half or verdict == "mixed" else "undecided"
            rows.append(
                CLAIM_ROW
                | facts
                | {"claim": name, "scope": scope, "loss": claim.sides[0]["loss"], "estimate": estimate}
                | {"low": estimate - half, "high": estimate + half}
                | {"verdict": "not_tested" if untested else verdict, "adjusted": adjusted if scope == "all" else ""}
                | (UNTESTED if untested else {})
            )
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def awkward_table() -> Table:
    """A table of names and numbers that need special care in LaTeX and HTML."""
    values = (
        Value(np.nan, n=0, seeds=2),
        Value(np.inf, n=2, seeds=2),
        Value(0.5, 0.01, 2, 3),
        Value(0.25, best=True),
    )
    columns = {i: pair for i, pair in enumerate((("G_1", "a"), ("G_1", "b_2"), ("H", "c"), ("H", "d")))}
    rows = {"odd": ("x_y", r"own_loss & 50% #1 $x$ {y} ~z ^w \v <a> \"q\" 漢†"), "empty": ("x_y", "empty")}
    cells = {("odd", i): value for i, value in enumerate(values)} | {("empty", i): None for i in columns}
    part = Part("a_b", "Caption with 50% & under_score", grid(cells, rows, columns))
    return Table("Title & 100%", pd.DataFrame({"a": [1]}), (part,))
