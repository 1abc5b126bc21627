"""What only building can check: that sources are large enough, and that each model takes the images it will get.

The checks import torch, so they run in a process of their own, and only for specs that haven't passed before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halobench import data
from halobench.core import plugins
from halobench.core.specs import (
    EVALUATED,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    SourceSpec,
    SpecError,
    TrainSpec,
    canonical,
    parse,
    require,
    to_json,
)
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import (
    ConfigError,
    check_schema,
    layer_that_sets,
    load_config,
    own_recipe,
    recipe_layers,
)
from halobench.experiment.grid import Config
from halobench.results.inventory import asked_of_cell
from halobench.runner.dry_run import Records
from halobench.storage import files
from halobench.storage.provenance import PACKAGE, versions

MOST_TOLD = 20  # lines on results that don't fit: there can be one a cell
REQUEST = ("sources", "datasets", "losses", "models", "pairs")


def request(config: Config, raw: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is to be checked for the experiments that will run, each distinct thing once.

    `raw` is what the configuration was built from: it tells which layer of a recipe a bad value is from.
    """
    cells = [cell for experiment in config.run for cell in config.cells(experiment)]
    datasets = sorted({cell.dataset for cell in cells})
    sources = sorted({config.datasets[name].source for name in datasets})
    pairs: dict[str, dict[str, Any]] = {}
    for cell in cells:
        dataset, recipe = config.datasets[cell.dataset], config.recipes[cell.dataset, cell.model]
        pair: dict[str, Any] = {"model": cell.model, "source": dataset.source}
        if not config.models[cell.model].given:  # else nothing is trained
            keys = ("batch", "micro_batch", "shift")
            pair |= {"loss": cell.loss} | {key: getattr(recipe, key) for key in keys}
            pair["batch"] = min(recipe.batch, dataset.train)
            layers = recipe_layers(raw or {}, cell.dataset, cell.model)
            pair["set_by"] = {key: f"{layer_that_sets(layers, key)}.{key}" for key in keys}
        key = to_json(pair)
        pairs[key] = pair | {"points": max(pairs.get(key, {}).get("points", 0), dataset.train)}
    return {
        "sources": {name: canonical(config.sources[name]) for name in sources},
        "datasets": {name: canonical(config.datasets[name]) for name in datasets},
        "losses": {name: canonical(config.losses[name]) for name in sorted({cell.loss for cell in cells})},
        "models": {name: canonical(config.models[name]) for name in sorted({cell.model for cell in cells})},
        "pairs": [pair for _, pair in sorted(pairs.items())],
    }


def check_given_recipes(config: Config, raw: Mapping[str, Any]) -> list[str]:
    """A line on each model whose weights are given and whose own recipe says how it is trained, which it isn't."""
    trained = {field.name for field in dataclasses.fields(TrainSpec)} - set(EVALUATED)
    problems = []
    for name in sorted(name for name, spec in config.models.items() if spec.given):
        recipe = own_recipe(raw, "models", name)
        for key in (key for key in recipe if key in trained) if isinstance(recipe, Mapping) else ():
            what = f"no such key: its weights are given, and it isn't trained; {', '.join(EVALUATED)} count"
            problems.append(str(SpecError(f"models.{name}.recipe.{key}", recipe[key], what)))
    return problems


def _given_files(config: Config, names: Iterable[str]) -> dict[str, list[Any]]:
    """The size and time of each file of weights that models name, so that another in its place is checked again."""
    found: dict[str, list[Any]] = {}
    named = {path for name in names if (path := config.models[name].weights) is not None}
    for path in sorted(named):
        with contextlib.suppress(OSError, ValueError):  # the check tells of what isn't there
            there = os.stat(path)
            found[path] = [there.st_size, there.st_mtime_ns]
    return found


def describe_disk(config: Config, names: Iterable[str], results: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the sources whose loaders read a disk will hold, as plain data, and a line on each that can't tell.

    A loader says that it is one by ``FROM_DISK = True`` in its file. What it describes may change from one run to the
    next, so that no report of earlier checks tells it; and once the source is written, what it was made from may go.
    """
    found, problems = {}, {}
    for name in names:
        spec = config.sources[name]
        try:
            if plugins.constant("data", spec.loader, "FROM_DISK"):
                described = _written(config, name, results) or data.describe(spec)
                found[name] = json.loads(to_json(dataclasses.asdict(described)))
        except SpecError as error:
            # The root is no option of the source, nor is an image.
            elsewhere = error.key == "data_root" or os.sep in error.key
            problems[name] = str(error if elsewhere else error.within(f"sources.{name}"))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            problems[name] = _unbuilt(f"sources.{name}", error)
    return found, problems


def _unbuilt(where: str, error: BaseException) -> str:
    """A line on a plug-in that raised what it shouldn't."""
    return f"{where}: expected a plug-in that can be built ({plugins.told(error)})"


def _written(config: Config, name: str, results: Path) -> data.Description | None:
    """What a source holds that was written as its spec and code ask now; None if there is none."""
    folder = results / "sources" / name
    with contextlib.suppress(SpecError):
        made = files.read_record(folder / "source.json", ["spec", "code"])
        now = [config.source_spec(name), code_map("source", [("data", config.sources[name].loader)])]
        if to_json([made["spec"], made["code"]]) == to_json(now):
            meta = data.read_meta(folder)[1]
            return data.Description(**{field.name: meta[field.name] for field in dataclasses.fields(data.Description)})
    return None


def ensure(
    config: Config, cache: Path, results: Path = Path("results"), raw: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run the checks unless the same ones passed before with the same versions and code.

    Parameters
    ----------
    cache : Path
        Folder of the reports of what passed, named after digests of what was asked.
    results : Path
        Where sources may have been written.
    raw : mapping, optional
        What the configuration was built from, for recipes' layers.

    Returns
    -------
    dict
        The report: of each source its classes and bytes, of each (model, source) pair the bytes of its weights.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    asked = request(config, raw)
    asked["files"] = _given_files(config, asked["models"])
    asked["described"], unknown = describe_disk(config, asked["sources"], results)
    known = [*check_given_recipes(config, raw or {}), *unknown.values()]
    asked["sources"] = {name: spec for name, spec in asked["sources"].items() if name not in unknown}
    used = [("data", spec["loader"]) for spec in asked["sources"].values()]
    used += [("losses", spec["name"]) for spec in asked["losses"].values()]
    used += [("models", spec["name"]) for spec in asked["models"].values()]
    code = code_map("train", used) | code_map("source")
    text = to_json([asked, code, versions("torch", "torchvision", "timm")])
    stamp = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(SpecError):  # none yet, or a damaged one
        report = files.read_json(stamp, ["sources", "weights"])
        if known:
            raise ConfigError(known)
        return report
    command = [sys.executable, "-m", "halobench.cli.main", "check"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()}
    done = subprocess.run(command, input=to_json(asked), capture_output=True, text=True, env=environment, check=False)
    try:  # a plug-in may end the process, or print
        problems, report = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        names = ", ".join(sorted({name for _, name in used}))
        ended = f"building them ended in code {done.returncode} ({said})"
        raise ConfigError([f"plug-ins = {names}: expected ones that can be built, but {ended}"]) from None
    if problems or known:
        raise ConfigError([*known, *problems])
    files.write_json(stamp, report)
    return report


def load_checked(raw: Mapping[str, Any], schema: Path, cache: Path) -> tuple[Config, dict[str, Any]]:
    """A configuration, checked as a whole and built, and the report of `ensure`.

    Raises
    ------
    ConfigError
        With every problem found, those of building the parts that are sound included.
    """
    try:
        config = load_config(raw)
        check_schema(raw, schema)
    except ConfigError as error:
        problems = error.problems
        if error.sound is not None and any(map(error.sound.cells, error.sound.run)):
            try:
                ensure(error.sound, cache, raw=raw)
            except (ConfigError, SpecError) as more:  # the latter of a plug-in's helper that can't be parsed
                problems = [*problems, *getattr(more, "problems", [str(more)])]
        raise ConfigError(problems) from None
    return config, ensure(config, cache, raw=raw)


def expected_records(config: Config, results: Path) -> dict[Path, tuple[Any, int | None, dict[str, str]]]:
    """The record of each job on what the experiments that run consist of: its spec, seed and code map."""
    cells = sorted({cell for experiment in config.run for cell in config.cells(experiment)})
    probed = {cell for experiment in config.run for cell in config.probed(experiment)}
    found: dict[Path, tuple[Any, int | None, dict[str, str]]] = {}
    for name in sorted({config.datasets[cell.dataset].source for cell in cells}):
        code = code_map("source", [("data", config.sources[name].loader)])
        found[results / "sources" / name / "source.json"] = (config.source_spec(name), None, code)
    for model in sorted({cell.model for cell in cells if config.models[cell.model].pretrained}):
        place = results / "weights" / model / "weights.json"
        found[place] = (config.weights_spec(model), None, code_map("weights"))
    for cell in cells:
        for stage, (spec, code) in asked_of_cell(config, cell, cell in probed).items():
            found[results / "runs" / cell.path / f"{stage}.json"] = (spec, cell.seed, code)
    for dataset, seed in sorted({(cell.dataset, cell.seed) for cell in cells}):
        place = results / f"references/{dataset}/seed{seed}/reference.json"
        found[place] = (config.reference_spec(dataset), seed, code_map("reference", config.sampler(dataset)))
    return found


def check_results(config: Config, results: Path, most: int = 1_000_000_000) -> None:
    """Check what an earlier run left for the experiments that will run.

    A file newer than its record may be damaged: Snakemake would take it for a new input, and delete what was computed
    from the sound one before the jobs that read it have failed. Files of more than `most` bytes are left to the stages
    that read them, as are older ones. A record must tell of the spec and code that Snakemake noted, else Snakemake
    takes for current what was made otherwise; where there is no note, it must tell of the present ones.

    Raises
    ------
    ConfigError
        A line for each record that can't be read or doesn't fit, and each file that isn't the one that its record
        tells of.
    """
    asked = expected_records(config, results)
    others = [results / f"{scope}tables/{name}" for scope in ("", "partial/") for name in config.run]
    tables = [folder / name for folder in others for name in ("aggregate.json", "claims.json")]
    notes, problems = Records(Path()), []
    for record in (*asked, *tables):
        try:
            written = record.stat().st_mtime_ns
            made = files.read_record(record, ["spec", "seed", "code"])
            for name, digest in made["outputs"].items():
                file = record.parent / name
                if file.is_file() and file.stat().st_mtime_ns > written and file.stat().st_size <= most:
                    files.check_sum(file, digest, f"the bytes that {record.name} records")
            if record in asked:
                _check_note(record, made, asked[record], notes)
        except (FileNotFoundError, NotADirectoryError):
            continue  # nothing was computed there yet
        except SpecError as error:
            problems.append(str(error))
    for scope, name in itertools.product(("", "partial/"), config.run):
        manifest = results / f"{scope}manifests/{name}.json"
        try:
            if manifest.exists():
                files.check_seal(manifest, files.read_json(manifest, ["cells"]))
        except SpecError as error:
            problems.append(str(error))
    if problems:
        told = problems[:MOST_TOLD]
        raise ConfigError([*told, f"and {len(problems) - len(told)} more"] if len(problems) > len(told) else told)


def _check_note(
    path: Path, made: Mapping[str, Any], asked: tuple[Any, int | None, dict[str, str]], notes: Records
) -> None:
    """Raise SpecError where Snakemake couldn't see that a record is of another spec, seed or code than it should."""
    spec, seed, code = asked
    if made["seed"] != seed:
        raise SpecError(str(path), f"a record of seed {made['seed']}", f"seed {seed} {files.REMEDY}")
    if notes.incomplete(str(path)):
        return  # it is made again anyway
    params = notes.params(str(path))
    if params is None:
        differ = [what for what, now in (("spec", spec), ("code", code)) if to_json(made[what]) != to_json(now)]
        expected = f"the present {' and '.join(differ)}, since Snakemake's own notes on it are lost {files.REMEDY}"
    else:
        differ = [what for what in ("spec", "code") if repr(to_json(made[what])) not in params]
        expected = f"the {' and '.join(differ)} that Snakemake noted when it was made {files.REMEDY}"
    if differ:
        raise SpecError(str(path), f"made with another {' and '.join(differ)}", expected)


def check_claims(path: Path | str) -> None:
    """Check the file of claims, which are judged only when all else is computed.

    Raises
    ------
    ConfigError
        With its first problem.
    """
    from halobench.results.claims import load_claims

    try:
        load_claims(path)
    except OSError as error:
        raise ConfigError([f"{path}: expected a file of claims ({plugins.told(error)})"]) from None
    except SpecError as error:
        raise ConfigError([str(error)]) from None


def put_scripts_on_path() -> None:
    """Let jobs find `halobench`: it lies beside the Python that runs, also where that environment isn't activated."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def put_modules_on_path(folder: Path | str) -> None:
    """Let jobs import ``module:object`` from the folder of the Snakefile, as Snakemake's own process does."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))


def _search_path() -> str:
    """This process's module search path, so that ``module:object`` means the same in the check's process."""
    return os.pathsep.join([str(PACKAGE.parent), *(path or os.getcwd() for path in sys.path)])


def check_loss(spec: LossSpec, batch: int = 4, classes: int = 3) -> int:
    """Build a loss and score a batch with it, as training would; return how many rows it makes of the batch.

    Raises
    ------
    SpecError
        Where building does, and where what it gives is no batch, or no mean loss that logits can learn from.
    """
    import numpy as np
    import torch

    from halobench import losses

    loss = losses.build(spec)
    images, targets = torch.rand(batch, 1, 4, 4), torch.eye(classes)[torch.arange(batch) % classes]
    try:
        mixed, soft = loss.mix(images, targets, np.random.default_rng(0))
        shapes = tuple(mixed.shape), tuple(soft.shape)
        logits = torch.zeros(soft.shape, requires_grad=True)
        value = loss(logits, soft)
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        learns = found == () and value.requires_grad
    except Exception as error:
        raise SpecError("name", spec.name, f"a loss that can score a batch ({plugins.told(error)})") from error
    rows = max(shapes[1][0], 1) if shapes[1] else 1
    if shapes != ((rows, *images.shape[1:]), (rows, classes)):
        given = f"a batch of shapes {tuple(images.shape)} and {tuple(targets.shape)}"
        wanted = f"{given} back, but for its number of rows (one or more, the same in both)"
        raise SpecError("name", spec.name, f"a loss whose mix gives {wanted}, not {shapes[0]} and {shapes[1]}")
    if not learns:
        raise SpecError("name", spec.name, f"a loss that gives one number, with a gradient, for a batch, not {found}")
    return rows


def check_batch(spec: LossSpec, batch: int) -> int:
    """The rows that a loss makes of a training batch.

    Raises
    ------
    SpecError
        Where `check_loss` does, and where more points are to be mixed than a batch has.
    """
    from halobench import losses
    from halobench.losses.mixup import Mixup

    loss = losses.build(spec)
    if isinstance(loss, Mixup) and loss.points > batch:
        what = f"at most the images of a batch, {batch}, of which each point mixed is another order"
        raise SpecError("points", loss.points, what)
    return check_loss(spec, batch)


def check_shift(pair: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise SpecError where training would shift images (C, H, W) by as much as their side, or more."""
    side, most = min(shape[1:]), pair.get("shift", 0)
    what = f"fewer pixels than the side of {pair['source']}'s images, {shape[1]}x{shape[2]}"
    require(most < side, pair["set_by"]["shift"] if most else "", most, what)


def smallest_part(pair: Mapping[str, Any], rows: int) -> int:
    """Images in the smallest part of a batch of `rows` that passes a model in training, 2 for any more."""
    micro = pair.get("micro_batch") or rows
    return min(rows % micro or micro, 2)


def check_model(spec: ModelSpec, described: data.Description, pair: Mapping[str, Any], rows: int) -> int:
    """Check a model on the images of a source, and on the smallest part of a batch of `rows` that it gets in training.

    Returns
    -------
    int
        Bytes that its weights and buffers will take.

    Raises
    ------
    SpecError
        Where `models.check` does; where only a part of one image is too small for it, the key of the recipe is named.
    """
    from halobench import models

    part, micro = smallest_part(pair, rows), pair.get("micro_batch") or rows
    asked = (spec, described.shape, described.classes)
    try:
        return models.check(*asked, part, pair["points"])
    except SpecError as error:
        refused = error.within(f"models.{pair['model']}")
    try:
        models.check(*asked, 2, pair["points"])
    except SpecError:
        raise refused from None
    key = "micro_batch" if pair.get("micro_batch") else "batch"
    left = f"a batch of {rows} rows leaves a part of 1" if micro > 1 else "it gets one image at a time"
    what = f"parts of two images or more, which the model {pair['model']} needs in training: {left}"
    raise SpecError(pair["set_by"][key], pair[key], what)


def run(asked: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Build everything that was asked for; return a line per problem, and the report of `ensure`.

    What `described` tells of a source is taken for what it holds.
    """
    missing = [key for key in REQUEST if not isinstance(asked, Mapping) or key not in asked]
    if missing:
        raise SpecError("request", asked, f"a mapping with {', '.join(REQUEST)}")
    problems: list[str] = []
    found: dict[str, data.Description] = {}
    weights: dict[str, dict[str, int]] = {}
    scored: set[str] = set()
    rows_of: dict[tuple[str, int], int | None] = {}
    tried: dict[tuple[Any, ...], int] = {}

    def attempt(where: str, make: Callable[..., Any], *given: Any, told_where: bool = False) -> Any:
        """What `make` gives, or None and a line; its errors are about parts of `where`, unless they tell where."""
        try:
            return make(*given)
        except SpecError as error:
            problems.append(str(error if told_where else error.within(where)))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            problems.append(_unbuilt(where, error))
        return None

    def made_of(pair: Mapping[str, Any]) -> int:
        """The rows of a batch that a model gets in training: losses may make more of it than it had."""
        if "loss" not in pair:
            return 2  # nothing is trained
        name, batch = pair["loss"], pair["batch"]
        if name in scored and (name, batch) not in rows_of:
            spec = parse(LossSpec, asked["losses"][name])
            rows_of[name, batch] = attempt(f"losses.{name}", check_batch, spec, batch)
        return rows_of.get((name, batch)) or batch

    known = {name: data.Description(**described) for name, described in asked.get("described", {}).items()}
    for name, spec in asked["sources"].items():
        described = known.get(name) or attempt(
            f"sources.{name}", lambda spec: data.describe(parse(SourceSpec, spec)), spec
        )
        if described is not None:
            found[name] = described
    for name, spec in asked["datasets"].items():
        dataset = parse(DatasetSpec, spec)
        if held := found.get(dataset.source):
            attempt(f"datasets.{name}", data.check_size, dataset, held.size, held.parts)
    for name, spec in asked["losses"].items():
        if attempt(f"losses.{name}", lambda spec: check_loss(parse(LossSpec, spec)), spec):
            scored.add(name)
    for pair in asked["pairs"]:
        name, source = pair["model"], pair["source"]
        rows = made_of(pair)
        if described := found.get(source):
            model = parse(ModelSpec, asked["models"][name])
            attempt("", check_shift, pair, described.shape, told_where=True)
            least = smallest_part(pair, rows)
            # Many losses and batches come to the same parts.
            key = (name, source, least, pair["points"], least < 2 and to_json(pair))
            if key not in tried:
                size = attempt(f"models.{name}", check_model, model, described, pair, rows, told_where=True)
                tried[key] = size or 0
            weights.setdefault(name, {})[source] = tried[key]
    sizes = {name: {"classes": of.classes, "bytes": (of.size or 0) * math.prod(of.shape)} for name, of in found.items()}
    return list(dict.fromkeys(problems)), {"sources": sizes, "weights": weights}
