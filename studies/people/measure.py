"""Score the trained networks of the study by people's labels, one row per network, loss, length, block and half.

    python -m studies.people.measure [RESULTS]

writes cells.csv from the cells in RESULTS/runs (by default, results), and oracle.csv from the labels alone. Lengths
are chosen, and calibrators are fitted, on the two halves of a block's 1,000 validation images in turn: on `half`, T is
fitted and scored to choose the length (`choosing`, the NLL after TS), and each calibrator is fitted on the other half.
All NLLs are in nats and expectations over people: the three labels of arm N, or all votes of arm H.
"""

from __future__ import annotations

import functools
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from halobench import fit_auto, fit_partner, fit_temperature, open_cell
from halobench.calibration.scores.sample_scores import softmax
from halobench.core.errors import refuse
from halobench.core.seeding import generator
from halobench.data import people
from halobench.data.written_sources import read_meta
from halobench.results.trained_cell import TrainedCell
from halobench.storage import tables_io
from halobench.training.train_cell import predict
from studies.people import blocks
from studies.people.blocks import label_columns
from studies.votes.compare import SCORES, item_scores, judge, permuted
from studies.votes.predictions import end_with

OUT, ORACLE = (Path(__file__).with_name(name) for name in ("cells.csv", "oracle.csv"))
CLASSES = len(blocks.NAMES)
SHIFTS = (1, 2, 4)  # pixels
NEIGHBOURS = ("flip", *(f"shift{pixels}" for pixels in SHIFTS))
MOVED = 1000  # training images that are moved
OTHER_WORLD = {blocks.PERSON: blocks.PERMUTED, blocks.PERMUTED: blocks.PERSON}  # whose labels score a network, too
FITS = {"TS": fit_temperature, "partner": fit_partner, "auto": fit_auto}
WORKERS = 2


def measured(folder: Path) -> list[dict[str, Any]]:
    """Return a cell's rows, one for each half of the validation images."""
    torch.set_num_threads(1)
    cell = open_cell(folder)
    options = {"arm": "N", "block": 0, "labels": blocks.PERSON} | dict(read_meta(cell.source)[0].options)
    arm, block = options["arm"], options["block"]
    columns, votes = label_columns(**options), people_votes(**options)
    val, test = cell.logits["val.logits"], cell.logits["test.logits"]
    labels, of_test = cell.logits["val.labels"], votes[cell.data.splits["test"].index]
    fitted_share = float((cell.logits["train.logits"].argmax(axis=1) == cell.logits["train.labels"]).mean())
    about = {"arm": arm, "labels": options["labels"], "block": block, **named(folder), "train_accuracy": fitted_share}
    official = official_labels(arm, block)[cell.data.splits["test"].index]
    halves = np.array_split(generator(block, "people", "halves").permutation(len(labels)), 2)
    rows = []
    for half, (choose, fit) in enumerate((halves, halves[::-1])):
        maps: dict[str, Any] = {name: fitter(val[fit], labels[fit]) for name, fitter in FITS.items()}
        shuffled = permuted(labels[fit][:, None], val[fit].argmax(axis=1), generator(block, "people", "shuffled"))
        maps["shuffled"] = fit_partner(val[fit], shuffled[:, 0])
        choosing = fit_temperature(val[choose], labels[choose]).nll
        row = {**about, "half": half, "choosing": choosing, "T": maps["TS"].T}
        for name, logits in {"none": test, **{name: each.logits(test) for name, each in maps.items()}}.items():
            scores = item_scores(logits, judge(of_test)).mean(axis=0)
            row |= {f"{score}_{name}": value for score, value in zip(SCORES, scores, strict=True)}
        if options["labels"] in OTHER_WORLD:
            judges = people_votes(arm, block, OTHER_WORLD[options["labels"]])[cell.data.splits["test"].index]
            row["nll_TS_other"] = float(item_scores(maps["TS"].logits(test), judge(judges))[:, 0].mean())
        row["nll_oracle"] = float((-np.log(by_class(arm, block)[official]) * of_test).sum() / of_test.sum())
        rows.append(row | (certainty(cell, columns, maps["TS"].beta) if arm == "N" else {}))
    return rows


def named(folder: Path) -> dict[str, Any]:
    """Return the network, its number of epochs as a share of its recipe's, and the loss, of a cell's folder."""
    network, _, percent = folder.parts[-3].partition("-")
    return {"network": network, "length": int(percent or 100), "loss": folder.parts[-2]}


def people_votes(arm: blocks.Arm, block: int, labels: str) -> np.ndarray:
    """Return how many people gave each of a block's images each label, int64 (n, k)."""
    if arm == "H":
        return people.test_votes()[blocks.rows(arm, block)]
    return np.stack([np.bincount(row, minlength=CLASSES) for row in blocks.label_columns(arm, block, labels)])


def official_labels(arm: blocks.Arm, block: int) -> np.ndarray:
    """Return the official label of each of a block's images, (n,)."""
    of = people.training_labels()["clean_label"] if arm == "N" else people.test_labels()
    return of[blocks.rows(arm, block)]


@functools.cache
def by_class(arm: blocks.Arm, block: int) -> np.ndarray:
    """Return P(a person's label | official label), (k, k), from images on which no network of the block is scored."""
    counts = np.full((CLASSES, CLASSES), 0.5)
    if arm == "H":
        stop = blocks.SPLITS["H"][0]
        np.add.at(counts, official_labels(arm, block)[:stop], people_votes(arm, block, blocks.PERSON)[:stop])
    else:
        for other in {*range(blocks.BLOCKS)} - {block}:
            np.add.at(counts, official_labels(arm, other), people_votes(arm, other, blocks.PERSON))
    return counts / counts.sum(axis=1, keepdims=True)


def certainty(cell: TrainedCell, columns: np.ndarray, beta: float) -> dict[str, float]:
    """Return how certain a network is beyond the agreement of people, after TS, at training and at new images.

    At a training image, `unwarranted_itself` is the mean of the confidence in the label trained on minus the share of
    two other people who gave that label; `unwarranted_flip` and so on are the same at images that a person would label
    alike, `unwarranted_new` at images that weren't trained on, and `unwarranted_0` to `unwarranted_2` at the training
    images on which so many of the two others agree with the label. `top_gap_train` and `top_gap_new` are the confidence
    in the predicted class minus the share of the two others who agree with it.
    """
    train = cell.data.splits["train"]
    of_train = columns[train.index]

    def unwarranted(logits: np.ndarray, labels: np.ndarray = of_train) -> np.ndarray:  # of the first images
        p = softmax(beta * logits.astype(float))[np.arange(len(logits)), labels[: len(logits), 0]]
        return p - (labels[: len(logits), 1:] == labels[: len(logits), :1]).mean(axis=1)

    test = cell.data.splits["test"]
    itself, agreeing = unwarranted(cell.logits["train.logits"]), (of_train[:, 1:] == of_train[:, :1]).sum(axis=1)
    found = {"unwarranted_itself": float(itself.mean())}
    found["unwarranted_new"] = float(unwarranted(cell.logits["test.logits"], columns[test.index]).mean())
    found |= {f"unwarranted_{n}": float(itself[agreeing == n].mean()) for n in range(3) if (agreeing == n).any()}
    images, rng = torch.from_numpy(cell.data.inputs("train")[:MOVED]), generator(cell.seed, "people", "shifts")
    for place in NEIGHBOURS:
        logits = predict(cell.model, moved(images, place, rng), cell.recipe)
        found[f"unwarranted_{place}"] = float(unwarranted(logits).mean())
    for part, split in (("train", "train"), ("new", "test")):
        others = columns[cell.data.splits[split].index, 1:]
        p = softmax(beta * cell.logits[f"{split}.logits"].astype(float))
        found[f"top_gap_{part}"] = float(p.max(axis=1).mean() - (others == p.argmax(axis=1)[:, None]).mean())
    return found


def of_oracle() -> pd.DataFrame:
    """Return what the oracle by class would have as unwarranted certainty at a block's images, by people's agreement.

    No other predictor that knows the official label alone is better, but it isn't 0 either: two people are a sample.
    """
    rows = []
    for block in range(blocks.BLOCKS):
        columns = label_columns("N", block, blocks.PERSON)
        shares = by_class("N", block)[official_labels("N", block)]
        p = shares[np.arange(len(shares)), columns[:, 0]]
        agreeing = (columns[:, 1:] == columns[:, :1]).sum(axis=1)
        means = {f"unwarranted_{n}": float((p - n / 2)[agreeing == n].mean()) for n in np.unique(agreeing)}
        means |= {"two_agree": agreeing.mean() / 2, "two_agree_by_class": (shares**2).sum(axis=1).mean()}
        rows.append({"block": block, "unwarranted_itself": float((p - agreeing / 2).mean())} | means)
    return pd.DataFrame(rows)


def moved(images: torch.Tensor, place: str, rng: np.random.Generator) -> torch.Tensor:
    """Return images (n, 3, 32, 32) mirrored, or moved by a number of pixels in one of four directions."""
    if place == "flip":
        return images.flip(3)
    pixels = int(place.removeprefix("shift"))
    padded = torch.nn.functional.pad(images, (pixels,) * 4, mode="replicate")
    corners = torch.tensor([(0, pixels), (2 * pixels, pixels), (pixels, 0), (pixels, 2 * pixels)])
    corner = corners[torch.from_numpy(rng.integers(4, size=len(images)))]
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
    return windows[torch.arange(len(images)), :, corner[:, 0], corner[:, 1]]


def main() -> int:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    folders = sorted(path.parent for path in results.glob("runs/*/*/*/*/train.json"))
    refuse(not folders, str(results), "has no trained networks; name the folder of a finished run's results")
    with ProcessPoolExecutor(WORKERS) as pool:
        rows = [row for cell in pool.map(measured, folders) for row in cell]
    tables_io.write_csv(OUT, pd.DataFrame(rows))
    tables_io.write_csv(ORACLE, of_oracle())
    print(f"{len(folders)} networks: {OUT}")
    return 0


if __name__ == "__main__":
    end_with(main)
