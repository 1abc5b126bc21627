"""Bad configurations: each gets one line per problem, with the key, the value and what was expected."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

import conftest
from conftest import put
from halobench.core.errors import SpecError
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import EVALUATION_KEYS, TrainSpec
from halobench.data import data_root
from halobench.experiment.config_file import read_file
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.models import builder
from halobench.runner import build_checks, validation


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Build models for checks in this process."""
    monkeypatch.setattr(validation, "_build", lambda plain, results, config: build_checks.run(config, results))
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


def bad(path: str, value: object, expected: str, found: str = "") -> tuple:
    """A case: the edit that sets a value, and the line about it, or about what is `found` at a place in it."""
    place = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
    return put(path, value), f"{place}{found or f' = {value!r}'}: expected {expected}"


def refused(path: str, value: object, sentence: str, below: str = "") -> tuple:
    """A case: the edit that sets a value, and a sentence about its place, or about what is `below` it."""
    edit, line = bad(path, value, "", below or " ")
    return edit, line.removesuffix(": expected ").rstrip() + f": {sentence}"


# Names that no plug-in has, so that they may stand for any.
NEUTRAL = {"mlp": "net", "cnn": "conv", "mixup2": "mix", "digits": "drawn"}


def neutral(config: dict) -> dict:
    """A configuration with neutral names in place of those of plug-ins."""
    for section in ("sources", "models", "losses"):
        config[section] = {NEUTRAL.get(key, key): entry for key, entry in config[section].items()}
    for dataset in config["datasets"].values():
        dataset["source"] = NEUTRAL.get(dataset["source"], dataset["source"])
    for block in config["experiments"]["tiny"]["grid"]:
        block |= {key: [NEUTRAL.get(name, name) for name in block[key]] for key in ("models", "losses")}
    return config


def tiny_config() -> dict:
    return neutral(conftest.tiny_config())


def one_cell() -> dict:
    return neutral(conftest.one_cell())


def plugin(path: str, name: str, sentence: str) -> tuple:
    """A case: an entry whose plug-in is refused."""
    return refused(path, {"name": name}, sentence, ".name")


def named(section: str, name: object) -> Callable[[dict], None]:
    """An edit that adds an entry to a section, under a name that may be bad."""
    like = {"sources": "drawn", "datasets": "clean", "models": "net", "losses": "cross_entropy", "probes": "sphere"}
    return lambda config: config[section].update({name: config[section].get(like.get(section, "tiny"))})


def together(*edits: Callable[[dict], None]) -> Callable[[dict], None]:
    """One edit that makes all of these."""
    return lambda config: [edit(config) for edit in edits] and None


# --- Values ------------------------------------------------------------------------------------------

NAME = "a name of up to 64 letters, ..."
GRID = "experiments.tiny.grid"
CERTIFIED = {"kind": "certified"}
BN = put("models.net", {"name": "mlp_bn", "width": 16})
NEEDS = "expected parts of at least two samples, which the model net needs in training"

# The edit, then all the expected lines.
CONFIGS: dict[str, list[tuple]] = {
    "a recipe that does not fit the images or the model": [
        bad("train.random_crop", 8, "fewer pixels than the shorter side of the images in drawn, 8x8"),
        bad("losses.mix.points", 51, "at most the batch size, 50, since each mixed sample comes ..."),
    ],
    "a part of one image, which batch norm refuses": [
        (
            together(BN, put("train.micro_batch", 7)),
            f"train.micro_batch = 7: {NEEDS} (a batch of 50 rows leaves a part of 1)",
        ),
        (
            together(BN, put("models.net.recipe", {"micro_batch": 9, "batch": 500})),
            f"models.net.recipe.micro_batch = 9: {NEEDS} (a batch of 100 rows leaves a part of 1)",
        ),
        (
            together(BN, put("datasets.noisy.recipe", {"micro_batch": 7})),
            f"datasets.noisy.recipe.micro_batch = 7: {NEEDS} (a batch of 50 rows leaves a part of 1)",
        ),
        (  # 50 = 4 * 11 + 6, but this loss turns them into 100 = 9 * 11 + 1 rows
            together(BN, put("losses.mix", {"name": "regmixup"}), put("train.micro_batch", 11)),
            f"train.micro_batch = 11: {NEEDS} (a batch of 100 rows leaves a part of 1)",
        ),
        (
            together(BN, put("losses.mix", {"name": "cross_entropy"}), put("train.batch", 1)),
            f"train.batch = 1: {NEEDS} (it gets one sample at a time)",
        ),
    ],
    "unknown section or key": [
        bad("modles", {}, "one of ... (did you mean 'models'?)..."),
        bad("train.learning_rate", 0.1, "one of the keys ..."),
        refused("losses.mix.alfa", 1, "no such option; those of mixup are ... (did you mean 'alpha'?)"),
        bad(f"{GRID}.0.seed", [1], "one of ... (did you mean 'seeds'?)..."),
    ],
    "misspelt name": [
        bad("losses.mix.name", "mixupp", "one of ... (did you mean 'mixup'?)..."),
        bad(f"{GRID}.0.datasets", ["nosy"], "one of ... (did you mean 'noisy'?)...", " = 'nosy'"),
        bad("experiments.tiny.figures", ["sumary"], "one of ... (did you mean 'summary'?)...", "[0] = 'sumary'"),
        bad("models.net.name", "timm/resnet81", "one of timm's ... models; closest: timm/resnet18, ..."),
    ],
    "wrong type": [
        bad("train.lr", "0.001", "a number"),
        bad("train.epochs", True, "a whole number"),
        bad("train.channels_last", "yes", "true or false"),
        bad("models.net", "cnn", "a mapping with the keys ..."),
        bad("calibrators", "none", "a list"),
    ],
    "out of range": [
        bad("train.epochs", 0, "at least 1"),
        bad("train.device", "gpu", "a string that matches auto|cpu|cuda(:[0-9]+)?"),
        bad("losses.mix.points", 1, "at least 2"),
        bad("probes.sphere.relative_radii", [2.0, 1.0], "distances in increasing order"),
        (
            put("probes.sphere.radii", [0.0, 1e39]),
            "probes.sphere.radii = 1e+39: expected distances of at most 1e+15, as single precision has",
        ),
        refused("probes.sphere.norm", "inf", "sphere doesn't use this key; leave it out"),
        bad("probes.sphere", {"kind": "adversarial", "norm": 2}, "one of ... (did you mean 'l2'?)...", ".norm = 2"),
        bad("probes.sphere.kind", "adverserial", "one of ... (did you mean 'adversarial'?)..."),
        refused("probes.sphere.kind", "far_field", "halobench no longer has 'far_field'; adversarial and ..."),
        refused("calibrators", ["gap"], "halobench no longer has 'gap'; use top_rest, ...", "[0]"),
        bad("calibrators", ["none", "exat"], "one of ... (did you mean 'exact'?)...", "[1] = 'exat'"),
        bad(
            "calibrators",
            [{"mine": {"name": "top_rest"}}, {"mine": {"name": "matrix"}}],
            "each value only once",
            " = 'mine'",
        ),
        bad("calibrators", [{"mine": {"name": "oracle"}}], "one of ...", "[0].mine.name = 'oracle'"),
        bad("calibrators", [{"oracle": {"name": "top_rest"}}], "a different name, since ...", "[0] = 'oracle'"),
    ],
    "seeds": [
        bad(f"{GRID}.0.seeds", [2**63], "a number above -2**63 and below 2**63", "[0] = 9223372036854775808"),
        bad(f"{GRID}.0.seeds", [0, 0], "each value only once", " = 0"),
    ],
    "name that leaves results": [
        (named("datasets", "../x"), f"datasets.../x = '../x': expected {NAME}"),
        (named("losses", "two\nlines"), f"losses.two\\nlines = 'two\\nlines': expected {NAME}"),
    ],
    "a folder that isn't for results": [
        *((put("results", each), f"results = {each!r}: expected a folder other than ...") for each in ("/", "..", ".")),
        *(
            (put("results", each), f"results = {each!r}: expected a folder outside ...")
            for each in ("src", ".snakemake/x")
        ),
        (
            lambda config: config.update(results=f"../{Path.cwd().name}/results"),
            "results = ...: expected the path from the working directory, since this one leads out of it and back",
        ),
    ],
    "plug-ins whose names no file can have": [
        bad(f"{section}.long", {key: "x" * 5000}, "one of ...", f".{key} = '{'x' * 199}...")
        for section, key in (("sources", "loader"), ("models", "name"), ("losses", "name"), ("probes", "kind"))
    ]
    + [
        bad(path, ["x" * 5000], "one of ...", f"[0] = '{'x' * 199}...")
        for path in ("calibrators", "experiments.tiny.figures", "experiments.tiny.tables")
    ],
    "names that share a folder": [
        (
            named("datasets", "CLEAN"),
            "datasets.CLEAN: differs from 'clean' only in case; rename one of them, ...",
        ),
        (
            named("losses", "reference"),
            "losses.reference: tables use this name for predictors that weren't trained; rename the loss",
        ),
    ],
    "empty": [
        bad("models", {}, "a mapping with at least one named entry"),
        (
            together(put("models.net", None), put(f"{GRID}.0.models", ["mlp"])),
            f"{GRID}[0].models = 'mlp': expected one of conv, or add `models: {{ mlp: {{ name: mlp }} }}`",
        ),  # null takes an entry away
        (
            put("probes", {}),
            f"{GRID}[0].models: no probe lists net; add it to a probe's models, or set probe: false",
        ),
        bad("run", [], "at least one entry"),
    ],
    "data set and images": [
        (
            put("datasets.noisy.train", 5000),
            "datasets.noisy: train + val + test = 5140, but source 'drawn' has only 1797 samples; reduce them",
        ),
        plugin(
            "models.net",
            "torchvision/alexnet",
            "torchvision/alexnet can't take images of 1x8x8 (...); set `resize` or ...",
        ),
    ],
    "data root": [
        (
            together(put("sources.drawn.loader", "svhn"), put("fetch", False), put("data_root", "nowhere")),
            "data_root: the files of SVHN are missing from nowhere (train_32x32.mat, ...); set fetch: true ...",
        ),
        refused(
            "sources.drawn",
            {"loader": "image_folder", "folder": "zoo", "size": 8},
            "data/zoo can't be read (FileNotFoundError: ...",
            ".folder",
        ),
    ],
    "what YAML may hold": [
        bad("metrics", None, "a mapping with the keys bins, ..."),
        bad("losses.mix.options", [1], "a mapping of keys to values"),
        bad("losses.mix.alpha", datetime.date(2026, 1, 1), "a number, a string, true, false, ..."),
        bad("datasets.noisy.train", 10**400, "a number above -2**63 and below 2**63", f" = 1{'0' * 199}..."),
        bad("train", {1: 2}, "one of the keys ...", ".1 = 1"),
        (
            together(named("datasets", 7), put("experiments.tiny.grid.0.datasets", [7])),
            f"datasets.7 = 7: expected {NAME}",
            f"{GRID}[0].datasets[0] = 7: expected a string",
        ),
    ],
    "keys that do not fit together": [
        bad("models.net.stem", "small", "plain, since only timm and torchvision models have other stems"),
        refused("models.net.trained_on", "drawn", "...; set `weights` or `pretrained`, or leave it out"),
        (
            put("models.net", {"name": "mlp", "weights": "none.safetensors", "trained_on": "drawm"}),
            "models.net.trained_on = 'drawm': expected one of ...drawn...",
            "models.net.weights: none.safetensors: no such file",
        ),
        bad("probes.n", {"kind": "nearest_other", "directions": 2}, "1, since ...one nearest...", ".directions = 2"),
        (
            together(put("models.net", {"name": "mlp_mixer", "patch": 2, "width": 8}), put("probes.c", CERTIFIED)),
            "probes.c.models: net can't be certified: found LayerNorm (blocks.0.norm1), expected only ...",
        ),
        (
            put("probes", {"c": CERTIFIED | {"models": ["conv"]}}),
            f"{GRID}[0].models: no probe lists net; add it to a probe's models, or set probe: false",
        ),
    ],
    "too few test samples for a repair ladder": [
        (
            together(put("experiments.tiny.tables", ["repair"]), put("datasets.noisy.test", 49)),
            "datasets.noisy.test = 49: expected at least 50 test samples, which an experiment that shows `repair`...",
        ),
    ],
    "a name that says another noise": [
        bad(
            "datasets.x-noise20",
            {"source": "drawn", "train": 100, "val": 60, "test": 80, "noise": {"p": 0.5}},
            "0.2, as the data set's name says, or another name",
            ".noise.p = 0.5",
        ),
    ],
    "a name that stands for something else": [
        bad(
            "losses.focal",
            {"name": "cross_entropy"},
            "focal, which has this name in halobench, or another name",
            ".name = 'cross_entropy'",
        ),
        bad("losses.mixup2", {"name": "mixup", "points": 5}, "2, as its name says, or another name", ".points = 5"),
        bad(
            "models.mlp-wide",
            {"name": "cnn"},
            "mlp, which has this name in halobench, or another name",
            ".name = 'cnn'",
        ),
        bad(
            "sources.mnist5k",
            {"loader": "digits"},
            "mnist5k, which has this name in halobench, or another name",
            ".loader = 'digits'",
        ),
        bad(
            "probes.manifold",
            {"kind": "sphere"},
            "manifold, which has this name in halobench, or another name",
            ".kind = 'sphere'",
        ),
        bad(
            "datasets.photos-small",
            {"source": "drawn", "train": 100, "val": 60, "test": 80},
            "a source with the loader photos, as its name says, or another name",
            ".source = 'drawn'",
        ),
    ],
    "several at once": [
        (
            together(put("train.lr", -1), put("losses.mix.name", "mixip"), put("datasets.noisy.noise", {"p": 2})),
            "datasets.noisy.noise.p = 2.0: expected a number below 1",
            "losses.mix.name = 'mixip': expected one of ... (did you mean 'mixup'?)...",
            "train.lr = -1.0: expected a number above 0",
        ),
        (  # what is right beside them is built
            together(
                put("datasets.clean.train", 1),
                put("datasets.clean.noise", {"kind": "pair_flop", "p": "x"}),
                put("datasets.clean.tset", 3),
                put("losses.mix.alpha", 0),
                put("experiments.tiny.grid.0.models", ["net", "nte"]),
            ),
            "datasets.clean.train = 1: expected at least 2",
            "datasets.clean.noise.kind = 'pair_flop': expected ...",
            "datasets.clean.noise.p = 'x': expected a number",
            "datasets.clean.tset = 3: expected one of the keys ...",
            f"{GRID}[0].models = 'nte': expected one of ...",
            "losses.mix.alpha = 0: expected a number above 0",
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
    config["models"]["conv"] = {"name": "mlp_mixer", "patch": 2, "width": 8}
    config["probes"]["c"] = CERTIFIED | {"models": ["net"]}
    data_root.note(config)
    loaded = validation.load_checked(config, tmp_path / "cache", tmp_path / "results")
    assert loaded.probe_spec("clean", "conv")["probes"] == plain.probe_spec("clean", "conv")["probes"]
    assert loaded.probe_spec("clean", "net")["probes"]["c"] == CERTIFIED
    assert ("searches", "certified") not in loaded.probe_plugins("clean", "conv")


@pytest.mark.parametrize(("edit", "lines"), CONFIG_CASES)
def test_a_bad_value_is_refused(edit, lines, monkeypatch):
    monkeypatch.setattr(validation, "_note", lambda *_: None)  # don't look whether it has passed before
    config = one_cell()
    edit(config)
    assert_refused(config, lines)


def test_what_just_fits_is_taken():
    config = one_cell()
    for edit in (put("train.random_crop", 7), put("losses.mix.points", 50), BN, put("train.micro_batch", 8)):
        edit(config)
    together(put("experiments.tiny.tables", ["repair"]), put("datasets.noisy.test", 50))(config)
    data_root.note(config)
    validation.load_checked(config, Path("cache"), Path("results"))


def test_a_recipe_says_nothing_of_how_given_weights_are_trained(tmp_path):
    """This applies to the model's own recipe: `train` is for all models, and its values don't affect this one.

    Weights in a file's place are checked again if they change.
    """
    path, config = tmp_path / "w.safetensors", one_cell()
    tensors = builder.build(ModelSpec("mlp_bn", {"width": 16}), (1, 8, 8), 10).state_dict()
    save_file(tensors, path)
    given = {"name": "mlp_bn", "width": 16, "weights": str(path)}
    put("models.net", given | {"recipe": {"epochs": 9, "eval_batch": 10}})(config)
    left_out = "the model isn't trained here; leave this key out (only ... apply)"
    assert_refused(config, [f"models.net.recipe.epochs: {left_out}"])
    put("models.net.recipe", {key: getattr(TrainSpec(), key) for key in EVALUATION_KEYS})(config)
    for key, value in (("random_crop", 9), ("micro_batch", 7)):
        put(f"train.{key}", value)(config)
    validation.load_checked(config, Path("cache"), Path("results"))
    save_file({name: tensor / 0 for name, tensor in tensors.items()}, path)
    assert_refused(config, [f"models.net.weights: ... values in ... of {path} aren't finite; use other weights"])


def test_a_calibrator_that_is_not_installed_is_refused_before_any_job(monkeypatch):
    """The line names its extra, comes with all other problems, and needs no import of the library."""
    config, name = one_cell() | {"calibrators": ["none", "probmetrics/SMSCalibrator"]}, "probmetrics/SMSCalibrator"
    put("train.lr", -1)(config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = f'calibrators: {name} needs ...; run pip install "halobench[posthoc]"'
    assert_refused(config, ["train.lr = -1.0: expected a number above 0", line])


# --- The file itself ---------------------------------------------------------------------------------

PLAIN = "can't be read as YAML with plain data and unique keys"
TOP = "at the top level, expected the sections run, ..."
HUGE_TEXT = "1" + "0" * 5000
OPENS = "!!python/object/apply:os.system ['touch opened']"

# How the text of the good configuration is changed, then the expected line.
TEXTS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda text: "", f"config.yaml: found None {TOP}"),
    "a list": (lambda text: "- a\n- b\n", f"config.yaml: found ['a', 'b'] {TOP}"),
    "no YAML": (
        lambda text: "run: [tiny\n" + text,
        f"config.yaml, line 2: {PLAIN} (...)",
    ),
    "a tab": (
        lambda text: text.replace("  lr:", "\tlr:"),
        f"config.yaml, line ...: {PLAIN} (...'\\t'...; indent with spaces, not tabs)",
    ),
    "a key twice": (
        lambda text: text.replace("  epochs: 3", "  epochs: 3\n  epochs: 4"),
        f"config.yaml, line ...: {PLAIN} (the key 'epochs' is already defined on line ...)",
    ),
    "a tag that runs code": (
        lambda text: text.replace("loader: digits", f"loader: {OPENS}"),
        f"config.yaml, line ...: {PLAIN} (...os.system...)",
    ),
    "a number of 5,000 digits": (
        lambda text: text.replace("epochs: 3", f"epochs: {HUGE_TEXT}"),
        "config.yaml: can't be read as YAML (ValueError: ...)",
    ),
    "another encoding": (
        lambda text: text.encode("utf-16"),
        "config.yaml: can't be read as UTF-8 text (UnicodeDecodeError: ...)",
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
DISPLAYS = """
import nowhere

def draw(runs): ...

def odd(rnus): ...

def bare(): ...
"""


def on_features(case: tuple) -> tuple:
    """The same case, with a source of features."""
    edit, line = case
    return together(put("sources.drawn", {"loader": "rows:load"}), edit), line


def figure(name: str, sentence: str) -> tuple:
    """A case: a figure from outside the package that is refused."""
    return refused("experiments.tiny.figures", [f"displays:{name}"], sentence, "[0]")


OUTSIDE = {
    "no such module": (
        put("losses.mix", {"name": "nowhere:Loss"}),
        "losses.mix.name: the module 'nowhere' of 'nowhere:Loss' can't be imported; ...",
    ),
    "no such object": plugin(
        "losses.mix", "mine:Other", "...mine.py doesn't define 'Other'; define it there, or correct..."
    ),
    "no Python": (
        put("losses.mix", {"name": "garbled:Loss"}),
        "losses.mix.name: ...'garbled:Loss' can't be read: ...garbled.py: not valid Python (SyntaxError: ...)",
    ),
    "a helper that is no Python": (
        put("losses.mix", {"name": "leans:Loss"}),
        "...garbled.py: not valid Python (SyntaxError: ...)",
    ),
    "raises on import": plugin("losses.mix", "broken:Loss", "'broken:Loss' can't be imported (RuntimeError: boom)"),
    "ends the process on import": plugin(
        "models.net", "quits:build", "'quits:build' can't be imported (SystemExit: 0)"
    ),
    "raises in the constructor": (
        put("losses.mix", {"name": "mine:Raises"}),
        "losses.mix: can't be built (RuntimeError: no such luck)",
    ),
    "no loss": plugin(
        "losses.mix", "mine:NoLoss", "mine:NoLoss isn't a loss; name a subclass of halobench.Loss or ..."
    ),
    "a loss of a wrong shape": plugin(
        "losses.mix",
        "mine:Scalarless",
        "mine:Scalarless returned a tensor of shape (4,); a loss must return a scalar ...",
    ),
    "a loss that is never finite": plugin(
        "losses.mix", "mine:Endless", "mine:Endless is nan for ...; it must be finite there"
    ),
    "a model of images, on features": on_features(
        bad("models.net.name", "cnn", "a model that takes features, such as mlp, since this one takes ...")
    ),
    "a convolution of one's own, on features": on_features(
        plugin(
            "models.net",
            "mine:convolution",
            "mine:convolution can't take 13 features, as inputs (n, 13) (...); choose ...",
        )
    ),
    "features resized": on_features(refused("models.net.resize", 16, "the samples aren't images; leave this key out")),
    "features mirrored": on_features(
        refused("models.net.recipe", {"flip": True}, "samples of drawn aren't images; leave this key out", ".flip")
    ),
    "a box cut out of features": on_features(
        plugin("losses.mix", "cutmix", "cutmix can't be used for these samples: found shape (...), expected images ...")
    ),
    "logits of a wrong shape": plugin(
        "models.net",
        "mine:narrow",
        "mine:narrow returned (2, 9) for a batch of 2; it must return logits of shape (2, 10)",
    ),
    "a figure that is drawn from no table": figure("bare", "bare has no parameters; each must name a table: ..."),
    "a figure from a table of no experiment": figure("odd", "odd has the parameter 'rnus'; ...(did you mean 'runs'?)"),
    "a figure that is not there": figure(
        "gone", "...displays.py doesn't define 'gone'; define it there, or correct..."
    ),
    "a figure that can't be imported": (
        put("experiments.tiny.figures", ["displays:draw"]),
        "figures.name: 'displays:draw' can't be imported (ModuleNotFoundError: ...",
    ),
    "a source of one class": refused(
        "sources.drawn",
        {"loader": "mine:load"},
        "mine:load must describe images (C, H, W) or features (D,) of at least 2 classes, but returned ...",
        ".loader",
    ),
}


@pytest.mark.parametrize("plugin", OUTSIDE)
def test_a_bad_plugin_is_refused(tmp_path, monkeypatch, plugin):
    edit, line = OUTSIDE[plugin]
    body = "def build(): ...\nclass Loss: ...\n"
    modules = {
        "mine": PLUGINS,
        "rows": ROWS,
        "displays": DISPLAYS,
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
