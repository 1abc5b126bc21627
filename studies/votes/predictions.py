"""Read saved predictions of published networks, and people's votes on the same items, each checked against the other.

The files lie under the data root; missing ones are downloaded from GitHub, at the commits named here. Some may not be
passed on, as their licences say, but numbers computed from them may be published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from halobench.calibration.repair.columns import find_mismatch
from halobench.core.errors import Found, SpecError, refuse, require
from halobench.data.published_files import PublishedFile, obtain

GITHUB = "https://raw.githubusercontent.com"
NETCAL, CLEANLAB, APACHE = "EFS-OpenSource/calibration-framework", "cleanlab/label-errors", "Apache-2.0"
SOURCES = (  # the beginning of a path under the data root, what replaces it at GitHub, and the licence
    (
        "predictions/chaosnli",
        "jsbaan/calibration-on-disagreement-data/990e81cacadac5d0268160d1c02bad19d4ddb9a3/data",
        "none stated for predictions; votes CC BY-NC 4.0: not for commercial use, and don't pass them on",
    ),
    (
        "cifar10",
        "jcpeterson/cifar-10h/597cbc5f07266c9405b830ee4a53463539124c4f/data",
        "CC BY-NC-SA 4.0: not for commercial use, and don't pass it on",
    ),
    (
        "predictions/netcal/cifar100/wide",
        f"{NETCAL}/d16fc717ad7611927547f6ad13ebc1331b7c877b/examples/classification/records/cifar100/wide",
        APACHE,
    ),
    (
        "predictions/netcal/cifar100/dense",
        f"{NETCAL}/ba3b3c5afa9f21496a6b23d2bbf8e32618d16f7e/examples/cifar100/dense",
        APACHE,
    ),
    (
        "predictions/netcal",
        f"{NETCAL}/bf0262e6e0a4c66f5d5480d73de7a1c6e108a5d6/examples/classification/records",
        APACHE,
    ),
    ("predictions/cleanlab/cross", f"{CLEANLAB}/6d5d6b3/cross", APACHE),
    ("predictions/cleanlab", f"{CLEANLAB}/e3ea63914629b0481d0d58c301110cb6c043cc69", APACHE),
)
SEEDS = {("MNLI", "roberta-base"): 3, ("SNLI", "bert-base-uncased"): 2, ("SNLI", "roberta-base"): 3}
VOTES = {"MNLI": "chaosNLI_mnli_m.jsonl", "SNLI": "chaosNLI_snli.jsonl"}
WITHOUT_PREDICTION = {"MNLI": 30, "SNLI": 0}  # items that have votes, but that the networks' files don't contain
CLASSES, CLASSES_OF_VOTES = "ecn", "enc"  # entailment, contradiction, neutral, as in columns of logits and of votes
LINES = Path(__file__).with_name("sums.txt").read_text().splitlines()
SUMS = {path: digest for digest, path in map(str.split, LINES)}  # SHA-256 by path under the data root


@dataclass(frozen=True)
class Network:
    """A network's logits (n, k) for items, with labels (n,) and, if there are any, votes: counts (n, k).

    `group` is what networks share that differ in their seed alone, and `items` names the set of items. `others` are
    logits and labels of further items of the same data set, which have no votes.
    """

    name: str
    group: str
    items: str
    logits: np.ndarray
    labels: np.ndarray
    votes: np.ndarray | None = None
    others: tuple[np.ndarray, np.ndarray] | None = None

    def __post_init__(self) -> None:
        """Raise SpecError if labels, votes or columns are in another order."""
        k = self.logits.shape[1]
        require(len(self.labels) == len(self.logits), self.name, Found(f"{len(self.labels)} labels"), "one per item")
        mismatch = find_mismatch(self.logits.argmax(axis=1), self.labels, k)
        refuse(mismatch, self.name, "its columns seem to be classes in another order; check its file")
        if self.votes is not None:
            require(
                self.votes.shape == self.logits.shape, self.name, Found(f"votes {self.votes.shape}"), "one row per item"
            )
            agreement = (self.votes.argmax(axis=1) == self.labels).mean()
            sentence = f"only {agreement:.0%} of the labels are the majority's, so votes seem to be in another order"
            refuse(agreement < 0.5, self.name, f"{sentence}; check its files")


def networks() -> Iterator[Network]:
    """Yield all networks, one at a time."""
    for (items, model), seeds in SEEDS.items():
        votes = chaosnli_votes(fetched(f"predictions/chaosnli/chaosNLI_v1.0/{VOTES[items]}"), items)
        for seed in range(seeds):
            names = [f"{items}_{part}_{model}_{seed}.json" for part in ("dev", "test")]
            rows = [row for name in names for row in json_lines(fetched(f"predictions/chaosnli/predictions/{name}"))]
            yield chaosnli_network(f"{items}, {model} {seed}", f"{items}, {model}", items, rows, votes)
    votes = np.load(fetched("cifar10/cifar10h-counts.npy"))
    for k in (10, 100):
        items, counts = ("CIFAR-10H", votes) if k == 10 else ("CIFAR-100", None)
        labels = official_labels(k)
        for name in [Path(path).stem for path in SUMS if path.startswith(f"predictions/netcal/cifar{k}/")]:
            with np.load(fetched(f"predictions/netcal/cifar{k}/{name}.npz")) as arrays:
                p, truth = arrays["predictions"], arrays["ground_truth"]
            refuse((truth != labels).any(), name, "its labels aren't those of the test set, in order; check its file")
            title = f"{items}, {name.removesuffix(f'-cifar-{k}')}"
            yield Network(title, title, items, log(p, name), labels, counts)
        if k == 10:
            path = fetched("predictions/cleanlab/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy")
            yield Network(
                f"{items}, cleanlab", f"{items}, cleanlab", items, log(np.load(path), path.name), labels, counts
            )


def end_with(main: Callable[[], int]) -> NoReturn:
    """Run and end a program that reads `networks`; a missing or other file is named in one line, with no traceback."""
    try:
        sys.exit(main())
    except SpecError as error:
        sys.exit(f"error: {error}")


def chaosnli_votes(path: Path, items: str) -> dict[str, tuple[list[int], int]]:
    """Return each item's votes and label by its name, in the networks' order of classes."""
    found = {}
    for row in json_lines(path):
        counts = [row["label_counter"].get(name, 0) for name in CLASSES_OF_VOTES]
        refuse(counts != row["label_count"], row["uid"], f"has votes in another order of classes; check {path.name}")
        refuse(row["uid"] in found, row["uid"], f"is twice in {path.name}; check the file")
        found[row["uid"]] = [row["label_counter"].get(name, 0) for name in CLASSES], CLASSES.index(row["old_label"])
    return found


def chaosnli_network(
    name: str, group: str, items: str, rows: Sequence[Mapping[str, Any]], votes: Mapping[str, tuple[list[int], int]]
) -> Network:
    """Join a network's rows to votes, whose order the result has; other rows are its further items."""
    at = {row["uid"]: place for place, row in enumerate(rows)}
    refuse(len(at) < len(rows), name, "has items twice; check its files")
    joined = [uid for uid in votes if uid in at]
    lost, known = len(votes) - len(joined), WITHOUT_PREDICTION[items]
    refuse(lost != known, name, f"has no prediction of {lost} items with votes, not of {known}; check its files")
    logits, labels = np.array([row["logits"] for row in rows]), np.array([row["true"] for row in rows])
    places = np.array([at[uid] for uid in joined])
    differ = labels[places] != [votes[uid][1] for uid in joined]
    refuse(differ.any(), name, f"{differ.sum()} labels aren't those of the same items with votes; check its files")
    rest = np.setdiff1d(np.arange(len(rows)), places)
    counts = np.array([votes[uid][0] for uid in joined])
    return Network(name, group, items, logits[places], labels[places], counts, (logits[rest], labels[rest]))


def official_labels(k: int) -> np.ndarray:
    """Return the labels of the test set of CIFAR-10 or CIFAR-100, in its own order."""
    path = fetched(f"predictions/cleanlab/original_test_labels/cifar{k}_test_set_original_labels.npy")
    return np.load(path).astype(np.int64)


def log(probabilities: np.ndarray, name: str) -> np.ndarray:
    """Return the logarithms of probabilities (n, k) above 0."""
    p = probabilities.astype(np.float64)
    good = p.min() > 0 and np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-5)
    refuse(not good, name, "has rows that aren't probabilities above 0; check its file")
    return np.log(p)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the mappings in a file of JSON lines."""
    with open(path, encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def fetched(path: str) -> Path:
    """Return the place of a file of this study, which is downloaded if it is missing."""
    return obtain(published(path))[0]


def published(path: str) -> PublishedFile:
    """Return where and under which licence a file is published, and its SHA-256."""
    beginning, source, licence = next(row for row in SOURCES if path.startswith(row[0]))
    return PublishedFile(path, f"{GITHUB}/{source}{path.removeprefix(beginning)}", SUMS[path], licence)
