"""Read saved predictions of published networks, and people's votes on the same items, each checked against the other.

The files lie under the data root; missing ones are downloaded from GitHub, at the commits named here. They may not be
passed on, since their licences differ, but numbers computed from them may be published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halobench.calibration.repair.columns import find_mismatch
from halobench.core.errors import Found, refuse, require
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
SUMS = {  # SHA-256, by path under the data root
    "cifar10/cifar10h-counts.npy": "9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff",
    "predictions/chaosnli/chaosNLI_v1.0/chaosNLI_mnli_m.jsonl": (
        "8eb49b589488e7b1a9ec95fb8a864bd50f0509b4f808eed0aed3f8167617664d"
    ),
    "predictions/chaosnli/chaosNLI_v1.0/chaosNLI_snli.jsonl": (
        "99f9015ddda7d85f66a087452bc30d53974314fe27e7d589e2f41ad44bd509c1"
    ),
    "predictions/chaosnli/predictions/MNLI_dev_roberta-base_0.json": (
        "f997c4193f3a096c9b13b4f0c9c20783f2a5a74f2f5066b92c28ff2b482c5b39"
    ),
    "predictions/chaosnli/predictions/MNLI_dev_roberta-base_1.json": (
        "2cd02b212b94c19f7194273d448e914fb512b437cf76724311792c8211155c7f"
    ),
    "predictions/chaosnli/predictions/MNLI_dev_roberta-base_2.json": (
        "a5f51f73545b8e0492e73a83cafda136d216866b6b2a1e408d93e8f77c1c90b5"
    ),
    "predictions/chaosnli/predictions/MNLI_test_roberta-base_0.json": (
        "018c5e6cb26eac1a939a43aa1e37b7f3c1d6ae3c15f3eef105c10df57abd906d"
    ),
    "predictions/chaosnli/predictions/MNLI_test_roberta-base_1.json": (
        "5940d87a1f3b6227b66409bdc7398254fd231014c9158ffb373ec62b57d8634f"
    ),
    "predictions/chaosnli/predictions/MNLI_test_roberta-base_2.json": (
        "a401be52ccb504c5858c3d5417b6d12d32364a47cc68428c3da8c24ae2773cc0"
    ),
    "predictions/chaosnli/predictions/SNLI_dev_bert-base-uncased_0.json": (
        "47e5f1ec4d64e5f360ca1da59e97bb78c961a15312c98ebbda6063a029a71b65"
    ),
    "predictions/chaosnli/predictions/SNLI_dev_bert-base-uncased_1.json": (
        "9efa02a2d3ef6f3605fab984d7bc11ec0e32416456f57fc5ab72dc7e1435da4f"
    ),
    "predictions/chaosnli/predictions/SNLI_dev_roberta-base_0.json": (
        "5cc1fca739a738c360e5398c930ed93180d60888ee707f72859c715bde94c14d"
    ),
    "predictions/chaosnli/predictions/SNLI_dev_roberta-base_1.json": (
        "00f296c2ea1bcf6b33b085c3b1acd516cc7bce7f4e2419fdc0e29145c5bb32c3"
    ),
    "predictions/chaosnli/predictions/SNLI_dev_roberta-base_2.json": (
        "d93284fcfe5a4acf701cbf4b9650a7b8bb49aad0df3674d6572430acba029b1e"
    ),
    "predictions/chaosnli/predictions/SNLI_test_bert-base-uncased_0.json": (
        "c35285f16904c20f0bc4ab08fb4e236d1dfd9da372df680d089224b3aabae226"
    ),
    "predictions/chaosnli/predictions/SNLI_test_bert-base-uncased_1.json": (
        "f039c321ff0ec013483c57c1865504e283afaaea53af27dc4eacd8dec58e6c7f"
    ),
    "predictions/chaosnli/predictions/SNLI_test_roberta-base_0.json": (
        "39fcdf6d1411a1e93efc0ab850ee120e4320eca4ed39bbe166e7c92a355102bb"
    ),
    "predictions/chaosnli/predictions/SNLI_test_roberta-base_1.json": (
        "ee1ecdb0ee206f288aed3ad7b64130d36679042a356144b70df353ef83dd0cf4"
    ),
    "predictions/chaosnli/predictions/SNLI_test_roberta-base_2.json": (
        "015111c4f7b6a0ed404aaeb4afd2b075d051ed401152f29a3d3139fde9eaa5d3"
    ),
    "predictions/cleanlab/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy": (
        "c445b25cee680e3919b4bd81d230a5c7c2179ed556609d84e000ee046bb44b49"
    ),
    "predictions/cleanlab/original_test_labels/cifar100_test_set_original_labels.npy": (
        "522c58d76195541a49f610204c56868e718d46023272d7d0c811682fdebd6e9f"
    ),
    "predictions/cleanlab/original_test_labels/cifar10_test_set_original_labels.npy": (
        "8fba587d5b11011df52b2a20eb4a272eeaf20c2d162554059f714d4b78d23aed"
    ),
    "predictions/netcal/cifar10/lenet-5-cifar-10.npz": (
        "2fea8ab231920142ebf1fb90ec07677681f0ea64aef1a328e1d45898978e3c90"
    ),
    "predictions/netcal/cifar10/wideresnet-16-4-cifar-10.npz": (
        "ce2bafe1fa22e8da7b132cb45556b5d154bd50bbec5d91913bba2e04fbd76182"
    ),
    "predictions/netcal/cifar100/densenet-bc-100-cifar-100.npz": (
        "6b8c33de93bdf1ae7de335f485c73c9f7198b359f85de6b1f21066a7e7c6379e"
    ),
    "predictions/netcal/cifar100/lenet-5-cifar-100.npz": (
        "45807c28708ba788ef3e4d9f9d25f59ebe93a2eb5d4dd5fa8380095636a244a0"
    ),
    "predictions/netcal/cifar100/wideresnet-16-4-cifar-100.npz": (
        "ab3ce671b234521fe346977df2bb1c755a2c96b1781c350cef76be0ad36e5e12"
    ),
}


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
    name: str, group: str, items: str, rows: list[Mapping[str, Any]], votes: Mapping[str, tuple[list[int], int]]
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
