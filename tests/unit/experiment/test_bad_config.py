"""Bad configurations: each gets one line per problem, with the key, the value and what was expected."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from conftest import one_cell, tiny_config
from halobench.core.errors import SpecError
from halobench.data import data_root
from halobench.experiment import build_checks, validation
from halobench.experiment.config_file import read_file
from halobench.experiment.config_loader import ConfigError, load_config


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Build models for checks in this process, and leave nothing in its environment."""
    monkeypatch.setattr(validation, "_build", lambda plain, results, config: build_checks.run(config, results))
    monkeypatch.setenv(data_root.ROOT, "data")
    monkeypatch.setenv(data_root.FETCH, "1")
    monkeypatch.chdir(tmp_path)


def matches(expected: str, line: str) -> bool:
    return re.fullmatch(re.escape(expected).replace(r"\.\.\.", ".*"), line) is not None


def assert_refused(config: dict, lines: list) -> None:
    """Assert that a configuration is refused with exactly these lines, in which ``...`` stands for any text."""
    data_root.note(config)
    with pytest.raises((ConfigError, SpecError)) as raised:
        validation.load_checked(config, Path("cache"), Path("results"))
    found = getattr(raised.value, "problems", [str(raised.value)])
    assert len(found) == len(lines), found
    for line, expected in zip(found, lines, strict=True):
        assert matches(expected, line), line


def put(path: str, *values: object) -> Callable[[dict], None]:
    """An edit that sets the value at a dotted path (a number indexes a list), or deletes it if no value is given."""

    def edit(config: dict) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        at = config
        for key in parents:
            at = at[key]
        if values:
            at[last] = values[0]
        else:
            del at[last]

    return edit


def named(section: str, name: object) -> Callable[[dict], None]:
    """An edit that adds an entry to a section, under a name that may be bad."""
    like = {"sources": "digits", "datasets": "clean", "models": "mlp", "losses": "cross_entropy", "probes": "sphere"}
    return lambda config: config[section].update({name: config[section].get(like.get(section, "tiny"))})


def together(*edits: Callable[[dict], None]) -> Callable[[dict], None]:
    """One edit that makes all of these."""
    return lambda config: [edit(config) for edit in edits] and None


# --- Values ------------------------------------------------------------------------------------------

NAME = "a name of up to 64 letters, ..."
GRID = "experiments.tiny.grid"
CERTIFIED = {"kind": "certified"}
LONG = "x" * 65

# The edit, then all the expected lines.
CONFIGS: dict[str, list[tuple]] = {
    "a recipe that does not fit the images or the model": [
        (
            put("train.random_crop", 8),
            "train.random_crop = 8: expected fewer pixels than the shorter side of the images in digits, 8x8",
        ),
        (
            put("models.mlp.recipe", {"random_crop": 9999999}),
            "models.mlp.recipe.random_crop = 9999999: expected fewer pixels than the shorter side of the ...",
        ),
        (
            together(put("models.mlp.name", "mlp_bn"), put("models.mlp.recipe", {"micro_batch": 7})),
            "models.mlp.recipe.micro_batch = 7: expected parts of at least two samples, which the model ...",
        ),
        (
            put("losses.mixup2.points", 51),
            "losses.mixup2.points = 51: expected at most the batch size, 50, since each mixed point is ...",
        ),
    ],
    "unknown section or key": [
        (put("modles", {}), "modles = {}: expected one of ... (did you mean 'models'?)..."),
        (put("train.learning_rate", 0.1), "train.learning_rate = 0.1: expected one of the keys ..."),
        (put("losses.mixup2.alfa", 1), "losses.mixup2.alfa = 1: expected one of ... (did you mean 'alpha'?)..."),
        (
            put("probes.sphere.direction", 3),
            "probes.sphere.direction = 3: expected one of ... (did you mean 'directions'?)...",
        ),
        (put(f"{GRID}.0.seed", [1]), f"{GRID}[0].seed = [1]: expected one of ... (did you mean 'seeds'?)..."),
    ],
    "misspelt name": [
        (
            put("losses.mixup2.name", "mixupp"),
            "losses.mixup2.name = 'mixupp': expected one of ... (did you mean 'mixup'?)...",
        ),
        (put("models.mlp.name", "mpl"), "models.mlp.name = 'mpl': expected one of ... (did you mean 'mlp'?)..."),
        (
            put(f"{GRID}.0.datasets", ["nosy"]),
            f"{GRID}[0].datasets = 'nosy': expected one of ... (did you mean 'noisy'?)...",
        ),
        (
            put("experiments.tiny.figures", ["sumary"]),
            "experiments.tiny.figures[0] = 'sumary': expected one of ... (did you mean 'summary'?)...",
        ),
        (put("run", ["tinny"]), "run = 'tinny': expected one of ... (did you mean 'tiny'?)..."),
        (
            put("models.mlp", {"name": "timm/resnet81"}),
            "models.mlp.name = 'timm/resnet81': expected one of timm's ... models; closest: timm/resnet18, ...",
        ),
    ],
    "wrong type": [
        (put("train.lr", "0.001"), "train.lr = '0.001': expected a number"),
        (put("train.epochs", True), "train.epochs = True: expected a whole number"),
        (put("train.channels_last", "yes"), "train.channels_last = 'yes': expected true or false"),
        (put("models.mlp", "cnn"), "models.mlp = 'cnn': expected a mapping with the keys ..."),
        (put("calibrators", "none"), "calibrators = 'none': expected a list"),
        (put("datasets.noisy.train"), "datasets.noisy.train = None: expected a value, since it has no default"),
    ],
    "not a finite number": [
        (put("train.lr", float("inf")), "train.lr = inf: expected a finite number"),
    ],
    "out of range": [
        (put("train.lr", -0.1), "train.lr = -0.1: expected a number above 0"),
        (put("train.epochs", 0), "train.epochs = 0: expected at least 1"),
        (put("datasets.noisy.val", 1), "datasets.noisy.val = 1: expected at least 2"),
        (put("train.device", "gpu"), "train.device = 'gpu': expected a string that matches auto|cpu|cuda(:[0-9]+)?"),
        (put("losses.mixup2.points", 1), "losses.mixup2.points = 1: expected a whole number of at least 2"),
        (
            put("probes.sphere.relative_radii", [2.0, 1.0]),
            "probes.sphere.relative_radii = [2.0, 1.0]: expected increasing distances",
        ),
        (
            put("probes.sphere.norm", "inf"),
            "probes.sphere.norm = 'inf': expected this key to be left out, since sphere doesn't use it",
        ),
        (
            put("probes.sphere", {"kind": "adversarial", "norm": 2}),
            "probes.sphere.norm = 2: expected one of ... (did you mean 'l2'?)...",
        ),
        (
            put("probes.sphere.kind", "adverserial"),
            "probes.sphere.kind = 'adverserial': expected one of ... (did you mean 'adversarial'?)...",
        ),
        (
            put("calibrators", ["none", "exat"]),
            "calibrators[1] = 'exat': expected one of ... (did you mean 'exact'?)...",
        ),
        (
            put("calibrators", ["none", {"mine": {"name": "gap"}}, {"mine": {"name": "matrix"}}]),
            "calibrators = 'mine': expected no duplicates",
        ),
        (put("calibrators", [{"mine": {"name": "exact"}}]), "calibrators[0].mine.name = 'exact': expected one of ..."),
        (
            put("calibrators", [{"oracle": {"name": "gap"}}]),
            "calibrators[0] = 'oracle': expected a different name, since this one is built in",
        ),
    ],
    "seeds": [
        (put(f"{GRID}.0.seeds", [-1]), f"{GRID}[0].seeds[0] = -1: expected at least 0"),
        (put(f"{GRID}.0.seeds", [2**63]), f"{GRID}[0].seeds[0] = {2**63}: expected a number below 2**63"),
        (put(f"{GRID}.0.seeds", [0, 0]), f"{GRID}[0].seeds = 0: expected no duplicates"),
    ],
    "name that leaves results": [
        (named("datasets", "../x"), f"datasets.../x = '../x': expected {NAME}"),
        (named("sources", ""), f"sources. = '': expected {NAME}"),
        (named("datasets", LONG), f"datasets.{LONG} = '{LONG}': expected {NAME}"),
        (named("models", "na\u00efve"), f"models.na\u00efve = 'na\u00efve': expected {NAME}"),
        (named("losses", "two\nlines"), f"losses.two\\nlines = 'two\\nlines': expected {NAME}"),
    ],
    "names that share a folder": [
        (
            named("datasets", "CLEAN"),
            "datasets.CLEAN = 'CLEAN': expected a name that differs from 'clean' by more than case, ...",
        ),
        (
            named("losses", "reference"),
            "losses.reference = 'reference': expected a different name, since tables use this one for ...",
        ),
    ],
    "empty": [
        *(
            (put(section, {}), f"{section} = {{}}: expected a mapping with at least one named entry")
            for section in ("models", "experiments")
        ),
        (put("datasets"), "datasets = None: expected a value, since it has no default"),
        (
            put("probes", {}),
            f"{GRID}[0].models = ['mlp']: expected models that a probe visits, or probe: false; no probe lists mlp",
        ),
        (put("run", []), "run = []: expected at least one entry"),
    ],
    "data set and images": [
        (
            put("datasets.noisy.train", 5000),
            "datasets.noisy: train + val + test = 5140, but source 'digits' has only 1797 samples",
        ),
        (
            put("models.mlp", {"name": "torchvision/alexnet"}),
            "models.mlp.name = 'torchvision/alexnet': expected a model that takes images of 1x8x8 (...); ...",
        ),
    ],
    "data root": [
        (put("data_root", 3), "data_root = 3: expected a string"),
        (put("fetch", "no"), "fetch = 'no': expected true or false"),
        (
            together(put("sources.digits.loader", "svhn"), put("fetch", False), put("data_root", "nowhere")),
            "data_root = 'nowhere': expected the files of SVHN in torchvision's layout (train_32x32.mat, ...",
        ),
        (
            put("sources.digits", {"loader": "image_folder", "folder": "zoo", "size": 8}),
            "sources.digits.folder = 'zoo': expected a folder with a subfolder of images for each class, ...",
        ),
        (
            put("sources.digits", {"loader": "image_folder", "folder": "profiles", "sise": 8}),
            "sources.digits.sise = 8: expected one of ... (did you mean 'size'?)...",
        ),
    ],
    "what YAML may hold": [
        (put("metrics", None), "metrics = None: expected a mapping with the keys bins, ..."),
        (put("losses.mixup2.options", [1]), "losses.mixup2.options = [1]: expected a mapping of keys to values"),
        (
            put("losses.mixup2.alpha", datetime.date(2026, 1, 1)),
            "losses.mixup2.alpha = datetime.date(2026, 1, 1): expected a number, a string, true, false, ...",
        ),
        (
            put("datasets.noisy.train", 10**400),
            f"datasets.noisy.train = 1{'0' * 199}...: expected a number below 2**63",
        ),
        (put("run", [["tiny"]]), "run[0] = ['tiny']: expected a string"),
        (put("train", {1: 2}), "train.1 = 1: expected one of the keys ..."),
        (
            together(named("datasets", 7), put("experiments.tiny.grid.0.datasets", [7])),
            f"datasets.7 = 7: expected {NAME}",
            f"{GRID}[0].datasets[0] = 7: expected a string",
        ),
    ],
    "keys that do not fit together": [
        (
            put("models.mlp.stem", "small"),
            "models.mlp.stem = 'small': expected plain, since only timm and torchvision models have other stems",
        ),
        (
            put("models.mlp.trained_on", "digits"),
            "models.mlp.trained_on = 'digits': expected `weights` or `pretrained` to be set as well",
        ),
        (
            put("models.mlp", {"name": "mlp", "weights": "none.safetensors", "trained_on": "digit"}),
            "models.mlp.trained_on = 'digit': expected one of ...digits...",
            "models.mlp.weights = 'none.safetensors': expected a .safetensors file..., but there is no such file",
        ),
        (
            put("probes.nearest", {"kind": "nearest_other", "directions": 2}),
            "probes.nearest.directions = 2: expected 1, since ...one nearest...",
        ),
        (
            together(put("models.mlp", {"name": "mlp_mixer", "patch": 2, "width": 8}), put("probes.c", CERTIFIED)),
            "probes.c.models = 'mlp': expected models without LayerNorm (blocks.0.norm1), which can't be ...",
        ),
        (
            put("probes.c", CERTIFIED | {"models": ["mpl"]}),
            "probes.c.models = 'mpl': expected one of ... (did you mean 'mlp'?)...",
        ),
        (
            put("probes", {"c": CERTIFIED | {"models": ["cnn"]}}),
            f"{GRID}[0].models = ['mlp']: expected models that a probe visits, or probe: false; no probe lists mlp",
        ),
    ],
    "a name that says another noise": [
        (
            put("datasets.x-noise20", {"source": "digits", "train": 100, "val": 60, "test": 80, "noise": {"p": 0.5}}),
            "datasets.x-noise20.noise.p = 0.5: expected 0.2, as the data set's name says, or another name",
        ),
    ],
    "several at once": [
        (
            together(put("train.lr", -1), put("losses.mixup2.name", "mixip"), put("datasets.noisy.noise", {"p": 2})),
            "datasets.noisy.noise.p = 2.0: expected a number below 1",
            "losses.mixup2.name = 'mixip': expected one of ... (did you mean 'mixup'?)...",
            "train.lr = -1.0: expected a number above 0",
        ),
        (
            together(put("losses.mixup2.alpha", 0), put("models.mlp.width", 0)),
            "losses.mixup2.alpha = 0: expected a concentration above 0",
            "models.mlp.width = 0: expected at least 1",
        ),
    ],
}
CONFIG_CASES = [
    pytest.param(edit, lines, id=f"{kind}, {number}")
    for kind, cases in CONFIGS.items()
    for number, (edit, *lines) in enumerate(cases)
]


def test_a_probe_of_some_models_touches_no_other(tmp_path):
    """The grid may also have models with layers that can't be certified; their jobs don't change."""
    config, plain = tiny_config(), load_config(tiny_config())
    config["models"]["cnn"] = {"name": "mlp_mixer", "patch": 2, "width": 8}
    config["probes"]["c"] = CERTIFIED | {"models": ["mlp"]}
    data_root.note(config)
    loaded = validation.load_checked(config, tmp_path / "cache", tmp_path / "results")
    assert loaded.probe_spec("clean", "cnn")["probes"] == plain.probe_spec("clean", "cnn")["probes"]
    assert loaded.probe_spec("clean", "mlp")["probes"]["c"] == CERTIFIED
    assert ("searches", "certified") not in loaded.probe_plugins("clean", "cnn")


@pytest.mark.parametrize(("edit", "lines"), CONFIG_CASES)
def test_a_bad_value_is_refused(edit, lines):
    config = one_cell()
    edit(config)
    assert_refused(config, lines)


# --- The file itself ---------------------------------------------------------------------------------

PLAIN = "expected YAML with plain data and unique keys"
TOP = "expected sections at the top level: ..."
HUGE_TEXT = "1" + "0" * 5000
DOUBLED = "".join(f"  - &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 30))
OPENS = "!!python/object/apply:os.system ['touch opened']"

# How the text of the good configuration is changed, then the expected line.
TEXTS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda text: "", f"config.yaml = None: {TOP}"),
    "only a comment": (lambda text: "# nothing\n", f"config.yaml = None: {TOP}"),
    "a list": (lambda text: "- a\n- b\n", f"config.yaml = ['a', 'b']: {TOP}"),
    "no YAML": (
        lambda text: "run: [tiny\n" + text,
        f"config.yaml, line 2: {PLAIN} (while parsing a flow sequence expected ',' or ']', but got ':')",
    ),
    "a tab": (
        lambda text: text.replace("  lr:", "\tlr:"),
        f"config.yaml, line ...: {PLAIN} (...'\\t'...; indent with spaces, not tabs)",
    ),
    "a section twice": (
        lambda text: text + "train: {lr: 0.1}\n",
        f"config.yaml, line ...: {PLAIN} (the key 'train' is already defined on line ...)",
    ),
    "a key twice": (
        lambda text: text.replace("  epochs: 3", "  epochs: 3\n  epochs: 4"),
        f"config.yaml, line ...: {PLAIN} (the key 'epochs' is already defined on line ...)",
    ),
    "a tag that runs code": (
        lambda text: text.replace("loader: digits", f"loader: {OPENS}"),
        f"config.yaml, line ...: {PLAIN} (could not determine a constructor for the tag '...os.system')",
    ),
    "a number of 5,000 digits": (
        lambda text: text.replace("epochs: 3", f"epochs: {HUGE_TEXT}"),
        f"config.yaml: {PLAIN} (ValueError: Exceeds the limit ...)",
    ),
    "aliases of aliases": (
        lambda text: f"run:\n  - &x0 [a]\n{DOUBLED}",
        f"config.yaml: {PLAIN} (aliases make it {3 * 2**30 - 31:,} values, more than 100,000)",
    ),
    "an alias in what it stands for": (
        lambda text: "models: &models {mlp: {width: [*models]}}\n",
        f"config.yaml: {PLAIN} (an alias is a part of what it stands for)",
    ),
    "another encoding": (
        lambda text: text.encode("utf-16"),
        "config.yaml: expected a UTF-8 text file (UnicodeDecodeError: ...)",
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_bad_file_of_configuration_is_refused(text):
    change, line = TEXTS[text]
    content = change(yaml.safe_dump(tiny_config(), sort_keys=False))
    Path("config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as raised:
        read_file("config.yaml")
    (found,) = raised.value.problems
    assert matches(line, found), found
    assert not Path("opened").exists()


# --- Plug-ins outside the package ------------------------------------------------------------------------------------

PLUGINS = """
import numpy as np
from halobench.data.sources import Description, Images
from halobench.losses.base import Loss, soft_cross_entropy
from torch import nn

class Raises(Loss):
    def __init__(self):
        raise RuntimeError("no such luck\\nsecond line")

class NoLoss:
    pass

class Scalarless(Loss):
    def __call__(self, logits, targets):
        return -(targets * logits.log_softmax(1)).sum(1)

class Endless(Loss):
    def __call__(self, logits, targets):
        return logits.log().mean()

def convolution(input_shape, classes):
    return nn.Sequential(nn.Conv2d(input_shape[0], classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def narrow(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes - 1))

def describe():
    return Description((1, 8, 8), 1, 400)

def load():
    return Images(np.zeros((400, 1, 8, 8), np.uint8), np.zeros(400, np.int64), 1)
"""
ROWS = """
from halobench.data.sources import Description

def describe():
    return Description((13,), 3, 400)

def load(): ...
"""


def on_features(*edits):
    """An edit that makes the source one of features, along with other edits."""
    return together(put("sources.digits", {"loader": "rows:load"}), *edits)


OUTSIDE = {
    "no such module": (
        put("losses.mixup2", {"name": "nowhere:Loss"}),
        "losses.mixup2.name: the module 'nowhere' of 'nowhere:Loss' can't be imported; ...",
    ),
    "no such object": (
        put("losses.mixup2", {"name": "mine:Other"}),
        "losses.mixup2.name = 'mine:Other': expected ..., but ...mine.py doesn't define 'Other'",
    ),
    "no Python": (
        put("losses.mixup2", {"name": "garbled:Loss"}),
        "losses.mixup2.name = 'garbled:Loss': ...garbled.py isn't valid Python (SyntaxError: ...)",
    ),
    "a helper that is no Python": (
        put("losses.mixup2", {"name": "leans:Loss"}),
        "...garbled.py = 'SyntaxError: ...': expected valid Python",
    ),
    "raises on import": (
        put("losses.mixup2", {"name": "broken:Loss"}),
        "losses.mixup2.name = 'broken:Loss': expected a module that can be imported (RuntimeError: boom)",
    ),
    "ends the process on import": (
        put("models.mlp", {"name": "quits:build"}),
        "models.mlp.name = 'quits:build': expected a module that can be imported (SystemExit: 0)",
    ),
    "raises in the constructor": (
        put("losses.mixup2", {"name": "mine:Raises"}),
        "losses.mixup2: expected a plug-in that can be built (RuntimeError: no such luck)",
    ),
    "no loss": (
        put("losses.mixup2", {"name": "mine:NoLoss"}),
        "losses.mixup2.name = 'mine:NoLoss': expected a loss (a subclass of halobench.Loss or a ...",
    ),
    "a loss of a wrong shape": (
        put("losses.mixup2", {"name": "mine:Scalarless"}),
        "losses.mixup2.name = 'mine:Scalarless': expected a loss that returns a scalar tensor with a ...",
    ),
    "a loss that is never finite": (
        put("losses.mixup2", {"name": "mine:Endless"}),
        "losses.mixup2.name = 'mine:Endless': expected a loss that is finite for logits from -1 to 1, not nan",
    ),
    "a model of images, on features": (
        on_features(put("models.mlp", {"name": "cnn"})),
        "models.mlp.name = 'cnn': expected a model that takes features, such as mlp; this one takes ...",
    ),
    "a model of timm's, on features": (
        on_features(put("models.mlp", {"name": "timm/resnet18"})),
        "models.mlp.name = 'timm/resnet18': expected a model that takes features, such as mlp; this ...",
    ),
    "a convolution of one's own, on features": (
        on_features(put("models.mlp", {"name": "mine:convolution"})),
        "models.mlp.name = 'mine:convolution': expected a model that takes 13 features, ... (n, 13) (...)",
    ),
    "features resized": (
        on_features(put("models.mlp", {"name": "mlp", "resize": 16})),
        "models.mlp.resize = 16: expected this key to be left out, since the samples aren't images",
    ),
    "features mirrored": (
        on_features(put("models.mlp", {"name": "mlp", "recipe": {"flip": True}})),
        "models.mlp.recipe.flip = True: expected this key to be left out, since samples of digits ...",
    ),
    "a box cut out of features": (
        on_features(put("losses.mixup2", {"name": "cutmix"})),
        "losses.mixup2.name = 'cutmix': expected a loss for these samples, but this one takes images ...",
    ),
    "logits of a wrong shape": (
        put("models.mlp", {"name": "mine:narrow"}),
        "models.mlp.name = 'mine:narrow': expected a model that returns logits of shape (2, 10) for ...",
    ),
    "a source of one class": (
        put("sources.digits", {"loader": "mine:load"}),
        "sources.digits.loader = 'mine:load': expected images (C, H, W) or features (D,) in at least ...",
    ),
}


@pytest.mark.parametrize("plugin", OUTSIDE)
def test_a_bad_plugin_is_refused(tmp_path, monkeypatch, plugin):
    edit, line = OUTSIDE[plugin]
    body = "def build(): ...\nclass Loss: ...\n"
    modules = {
        "mine": PLUGINS,
        "rows": ROWS,
        "garbled": "class Loss(:\n",
        "leans": f"import garbled\n{body}",
        "broken": f"raise RuntimeError('boom')\n{body}",
        "quits": f"import sys\nsys.exit(0)\n{body}",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    config = one_cell()
    edit(config)
    try:
        assert_refused(config, [line])
    finally:
        for name in modules:
            sys.modules.pop(name, None)
