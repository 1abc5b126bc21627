"""The stages as programs from files to files: each reads its inputs, runs its core, writes outputs and then its record.

Torch is imported by the stages that need it, not by this module.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from halobench import data
from halobench.core import plugins
from halobench.core.specs import (
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    ProbeSpec,
    SourceSpec,
    SpecError,
    TrainSpec,
    canonical,
    one_of,
    parse,
    require,
    to_json,
)
from halobench.experiment.code_version import code_in_force
from halobench.experiment.grid import EXPLORED, TABLES, list_files, tables_read
from halobench.storage import files
from halobench.storage.provenance import here, record, started

if TYPE_CHECKING:
    from halobench.calibration.evaluate import Calibrated

EVERY = 60.0  # seconds between two savings of a resume point


def keep_freed_memory(most: int = 2**29, largest: int = 2**29) -> None:
    """Let glibc keep up to `most` bytes of freed memory: a training step frees and asks for the same blocks again.

    So are blocks of up to `largest` bytes each, where glibc takes that (2.35 does), else of up to 32 MiB. Handing them
    back to the system and faulting them in anew took a third of the small CNN's training time, and two thirds of its
    forward pass of 500 images. Changes no number; does nothing where the C library isn't glibc.
    """
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        if not mallopt(mmap_threshold, largest):
            mallopt(mmap_threshold, 2**25)  # the largest that older ones take on 64-bit systems
        mallopt(trim_threshold, most)


def run_source(spec: Mapping[str, Any], out: Path) -> None:
    """Write a source's images, labels and meta data to `out`."""
    began = time.perf_counter()
    source = parse(SourceSpec, spec)
    options = plugins.without_defaults("data", source.loader, dict(source.options))
    source = dataclasses.replace(source, options=options)
    code = code_in_force("source", [("data", source.loader)])
    files.sweep(out)
    paths = data.write_source(source, out)
    packages = ["scikit-learn", "mlxtend", "torchvision", "pillow"]
    facts = record("source", canonical(source), None, code, paths, time.perf_counter() - began, packages)
    files.write_json(out / "source.json", facts)


def run_train(
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    out: Path,
    checkpoint: Path | None = None,
    every: float = EVERY,
    slots: int = 1,
    weights: Path | None = None,
) -> None:
    """Train a cell; write model.safetensors, logits.safetensors, history.csv and train.json to `out`.

    Parameters
    ----------
    checkpoint : Path, optional
        Its resume point; by default a hidden file in `out`.
    every : float
        Seconds between two savings of it.
    slots : int
        Processes that may share a GPU.
    weights : Path, optional
        The file of the weights of a model that comes with such; by default the one that its spec names.
    """
    began = time.perf_counter()
    specs = parse_parts(spec, {"dataset": DatasetSpec, "model": ModelSpec, "loss": LossSpec, "train": TrainSpec})
    weights = given_weights(specs["model"], weights)
    keep_freed_memory()
    from safetensors.torch import save_model

    from halobench.training.checkpoint import Checkpoint, Signals
    from halobench.training.loop import resolve_device, train_cell

    used = [("models", specs["model"].name), ("losses", specs["loss"].name), *data.sampler(source)]
    code = code_in_force("train", used)
    asked = _canonical_parts(specs)
    files.sweep(out)
    with gpu_slot(specs["train"].device, slots), Signals() as signals, naming(out):
        loaded = data.load_data(source, specs["dataset"], seed)
        key = ["train", asked, seed, code, files.checksum(source / "meta.json")]
        key += [files.checksum(weights)] if weights else []
        place = here(str(resolve_device(specs["train"].device)))
        resume = Checkpoint(checkpoint or out / ".train.safetensors", key, every, signals, here=place)
        cell = train_cell(
            loaded,
            specs["model"],
            specs["loss"],
            specs["train"],
            seed,
            checkpoint=resume,
            weights=weights,
            source=specs["dataset"].source,
        )
        facts = cell.facts | {"made_on": resume.made_on}
        facts |= {"weights": files.checksum(weights)} if weights else {}
        verdict = "interpolates" if facts["interpolates"] else "does not interpolate"
        print(f"train accuracy {facts['train_accuracy']:.4f} on the labels trained on: the model {verdict}")
        paths = [out / name for name in ("model.safetensors", "logits.safetensors", "history.csv")]
        with unless_superseded(out / "train.json", asked, seed, code):
            with files.replacing(paths[0]) as temporary:
                save_model(cell.model.to("cpu"), str(temporary))
            files.write_arrays(paths[1], cell.logits | loaded.targets())
            columns = ["epoch", "step", "lr", "train_loss", "gradient_norm"]
            files.write_csv(paths[2], pd.DataFrame(cell.history, columns=columns))
            seconds = facts.pop("earlier_seconds") + time.perf_counter() - began
            packages = ["torch", "torchvision", "timm", "safetensors"]
            made = record("train", asked, seed, code, paths, seconds, packages, facts.pop("device"), facts)
            files.write_json(out / "train.json", made)
        resume.remove()


def given_weights(model: ModelSpec, weights: Path | None) -> Path | None:
    """The file of a model's given weights: `weights`, or else the one that its spec names; None where it is trained.

    Raises
    ------
    SpecError
        If it has none, or is to be trained and has one.
    """
    if weights is None and model.weights is not None:
        weights = Path(model.weights)
    require(model.given or weights is None, "--weights", str(weights), "no such file: the model is trained")
    if model.given:
        what = "a file of weights: those of a pretrained model come from `halobench weights`"
        require(weights is not None and weights.is_file(), "--weights", weights and str(weights), what)
    return weights


def run_weights(spec: Mapping[str, Any], out: Path) -> None:
    """Fetch the weights that timm publishes for a model; write model.safetensors and weights.json to `out`."""
    began = time.perf_counter()
    model = parse(ModelSpec, spec)
    require(model.pretrained, "spec.pretrained", model.pretrained, "true")
    code = code_in_force("weights")
    files.sweep(out)
    from halobench.models.pretrained import fetch

    path = fetch(model, out / "model.safetensors")
    seconds = time.perf_counter() - began
    made = record("weights", canonical(model), None, code, [path], seconds, ["timm", "torch", "safetensors"])
    files.write_json(out / "weights.json", made)


def run_probe(
    spec: Mapping[str, Any],
    source: Path,
    seed: int,
    folder: Path,
    checkpoint: Path | None = None,
    every: float = EVERY,
    slots: int = 1,
) -> None:
    """Probe a trained cell in `folder`; write neighbourhood.parquet, radii.parquet and probe.json beside it.

    Parameters
    ----------
    checkpoint : Path, optional
        Its resume point; by default a hidden file in `folder`.
    every : float
        Seconds between two savings of it.
    slots : int
        Processes that may share a GPU.
    """
    began = time.perf_counter()
    require(isinstance(spec, Mapping), "spec", spec, "a mapping of dataset, model, train, probes")
    probes: Any = spec.get("probes")
    require(isinstance(probes, Mapping) and probes, "spec.probes", probes, "at least one probe")
    parts = {key: value for key, value in spec.items() if key != "probes"}
    specs = parse_parts(parts, {"dataset": DatasetSpec, "model": ModelSpec, "train": TrainSpec})
    probes = parse_parts(probes, dict.fromkeys(probes, ProbeSpec))
    keep_freed_memory()
    from safetensors.torch import load_model

    from halobench import models
    from halobench.probing.probe import exact_beta, probe_cell
    from halobench.training.checkpoint import Checkpoint, Signals
    from halobench.training.loop import place, resolve_device, set_kernels

    weights = folder / "model.safetensors"
    walks = [plugin for probe in probes.values() for plugin in probe.plugged]
    code = code_in_force("probe", [("models", specs["model"].name), *data.sampler(source), *walks])
    asked = _canonical_parts(specs) | {"probes": _canonical_parts(probes)}
    files.sweep(folder)
    with gpu_slot(specs["train"].device, slots), Signals() as signals, naming(folder):
        loaded = data.load_data(source, specs["dataset"], seed)
        set_kernels(specs["train"])
        device = resolve_device(specs["train"].device)
        model = models.build(specs["model"], loaded.shape, loaded.classes, (loaded.mean, loaded.std))
        models.start_on(model, loaded)
        files.check_arrays(weights)
        try:
            load_model(model, str(weights))
        except (RuntimeError, ValueError) as error:
            what = f"the model of {weights} ({plugins.told(error)})"
            raise SpecError("spec.model", specs["model"].name, what) from None
        logits = folder / "logits.safetensors"
        beta = exact_beta(files.read_arrays(logits))
        key = ["probe", asked, seed, code, *map(files.checksum, (source / "meta.json", weights, logits))]
        at = checkpoint or folder / ".probe.safetensors"
        resume = Checkpoint(at, key, every, signals, here=here(str(device)))
        model = place(model, specs["train"], device).eval()
        fitted = specs["model"].fitted_on(specs["dataset"].source)
        found = probe_cell(model, loaded, probes, specs["train"], seed, beta, checkpoint=resume, fitted=fitted)
        paths = [folder / "neighbourhood.parquet", folder / "radii.parquet"]
        with unless_superseded(folder / "probe.json", asked, seed, code):
            files.write_parquet(paths[0], found.curves)
            files.write_parquet(paths[1], found.radii)
            seconds = time.perf_counter() - began
            packages, facts = ["torch", "pandas", "pyarrow"], {"made_on": resume.made_on}
            made = record("probe", asked, seed, code, paths, seconds, packages, str(device), facts)
            files.write_json(folder / "probe.json", made)
        resume.remove()


@contextlib.contextmanager
def unless_superseded(path: Path, asked: Any, seed: int, code: Mapping[str, str]) -> Iterator[None]:
    """Write a cell's files, unless a process that started later has made them of another spec or code: `path`'s record.

    An orphan of a killed run may end long after its cell was edited and computed anew. One process writes at a time.

    Raises
    ------
    SpecError
        If it was made anew; nothing is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.alone(path.parent):
        found = {"started": ""}
        with contextlib.suppress(SpecError):  # none, or a damaged one
            found = files.read_record(path, ["started", "spec", "seed", "code"])
        mine = to_json([asked, seed, dict(code)])
        if found["started"] > started() and to_json([found[key] for key in ("spec", "seed", "code")]) != mine:
            what = (
                f"none that started after {started()} with another spec or code, as this one did; nothing was written"
            )
            raise SpecError(str(path), f"a run that started {found['started']}", what)
        yield


@contextlib.contextmanager
def gpu_slot(device: str, slots: int) -> Iterator[None]:
    """Keep to one GPU for as long as this lasts, where the recipe leaves open which: ``auto`` or ``cuda``."""
    if device not in ("auto", "cuda"):
        yield
        return
    from halobench.pipeline.gpu_slots import device_slot

    with device_slot(slots) as found:
        if found is not None:
            print(f"on GPU {found.value} ({found.identity})", flush=True)
        yield


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Lead the message of a cell that diverged or was stopped by its name: the last four parts of its folder."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ in ("DivergedError", "Interrupted"):
            error.args = (f"{'/'.join(folder.parts[-4:])}: {error}",)
        raise


def run_calibrate(spec: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Calibrate the logits in `folder`; write calibration.json, metrics.csv, reliability.csv and the record there."""
    began = time.perf_counter()
    calibrators = parse(CalibrateSpec, spec)
    code = code_in_force("calibrate", calibrators.plugged)
    files.sweep(folder)
    from halobench.calibration.evaluate import calibrate

    found = calibrate(files.read_arrays(folder / "logits.safetensors"), calibrators, seed)
    _write_calibrated(found, folder, canonical(calibrators), seed, code, began)


def _write_calibrated(
    found: Calibrated, folder: Path, asked: Mapping[str, Any], seed: int, code: Mapping[str, str], began: float
) -> None:
    """Write calibration.json, metrics.csv, reliability.csv and the record of what was asked for to `folder`."""
    from halobench.calibration.calibrator import libraries

    paths = [folder / name for name in ("calibration.json", "metrics.csv", "reliability.csv")]
    files.write_json(paths[0], found.fits)
    files.write_csv(paths[1], found.metrics)
    files.write_csv(paths[2], found.reliability)
    packages = ["pandas", *libraries(asked.get("calibrators", ()))]
    made = record("calibrate", asked, seed, code, paths, time.perf_counter() - began, packages)
    files.write_json(folder / "calibrate.json", made)


def _check_vacant(out: Path) -> None:
    """Raise SpecError unless what `calibrate --logits` found can be written to `out` without harm to other results."""
    what = "a folder of its own for what is found"
    if out.exists() and not out.is_dir():
        raise SpecError("--out", str(out), f"{what}: this is a file")
    there = [name for name in files.RECORDS if (out / name).exists()]
    if there == ["calibrate.json"]:
        there = [] if "logits" in files.read_record(out / "calibrate.json", ["spec"])["spec"] else there
    require(not there, "--out", str(out), f"{what}: this holds results, of which {' and '.join(there)} tells")


def run_calibrate_file(spec: Mapping[str, Any], seed: int, logits: Path, out: Path | None = None) -> None:
    """Calibrate the logits of another project in an .npz file, and print what was found.

    Parameters
    ----------
    out : Path, optional
        Where calibration.json, metrics.csv, reliability.csv and the record are written to.
    """
    began = time.perf_counter()
    calibrators = parse(CalibrateSpec, spec)
    code = code_in_force("calibrate", calibrators.plugged)
    if out is not None:
        _check_vacant(out)
    from halobench.calibration.external_logits import calibrate_and_tell
    from halobench.reporting import terminal

    found, said = calibrate_and_tell(logits, calibrators, seed)
    terminal.console().print(terminal.calibrated(str(logits), said, found))
    if out is not None:
        files.sweep(out)
        asked = canonical(calibrators) | {"logits": files.checksum(logits), "file": logits.name}
        _write_calibrated(found, out, asked, seed, code, began)


def run_reference(spec: Mapping[str, Any], source: Path, seed: int, out: Path) -> None:
    """Score the calibrator-free predictors of a data set; write calibration.json, metrics.csv and reference.json."""
    began = time.perf_counter()
    specs = parse_parts(spec, {"dataset": DatasetSpec, "calibrate": CalibrateSpec})
    code = code_in_force("reference", data.sampler(source))
    files.sweep(out)
    from halobench.calibration.evaluate import references

    loaded = data.load_data(source, specs["dataset"], seed)
    inputs = {name: loaded.flat(name) for name in loaded.splits}
    found = references(inputs, loaded.targets(), specs["calibrate"], seed)
    paths = [out / "calibration.json", out / "metrics.csv"]
    files.write_json(paths[0], found.fits)
    files.write_csv(paths[1], found.metrics)
    seconds = time.perf_counter() - began
    facts = record("reference", _canonical_parts(specs), seed, code, paths, seconds, ["pandas"])
    files.write_json(out / "reference.json", facts)


def run_manifest(cells: Path, results: Path, out: Path, missing: Path | None = None) -> None:
    """Write the manifest of a list of cells, as `grid.keep_list` wrote it, and a table of what is missing."""
    listed = files.read_json(cells, ["experiment", "cells", "references"])
    files.write_json(out, files.seal(list_files(listed, results)))
    if missing is not None:
        from halobench.results.inventory import write_missing

        write_missing(missing, listed.get("missing", []))
    print(f"{len(listed['cells'])} cells of {listed['experiment']}")


def run_aggregate(manifest: Path, results: Path, out: Path) -> None:
    """Write the tables of the experiment in `manifest`, and aggregate.json, to `out`."""
    began = time.perf_counter()
    code = code_in_force("aggregate")
    files.sweep(out)
    from halobench.results.aggregate import aggregate, read_manifest, write_tables

    listed = read_manifest(manifest)
    paths = write_tables(aggregate(listed, results), out)
    asked = {"experiment": listed["experiment"], "manifest": files.checksum(manifest)}
    seconds = time.perf_counter() - began
    made = record("aggregate", asked, None, code, paths, seconds, ["pandas", "pyarrow"])
    files.write_json(out / "aggregate.json", made)


def run_claims(claims: Path, tables: Path, out: Path) -> None:
    """Judge the claims in a file by an experiment's tables; write claims.csv, .parquet, .html and .json to `out`."""
    began = time.perf_counter()
    code = code_in_force("claims")
    files.sweep(out)
    from halobench.reporting.pages.claims_page import claims_html
    from halobench.results.aggregate import read_tables
    from halobench.results.claims import evaluate, load_claims

    found = evaluate(load_claims(claims), read_tables(tables, TABLES))
    paths = [out / f"claims.{suffix}" for suffix in ("csv", "parquet", "html")]
    files.write_csv(paths[0], found)
    files.write_parquet(paths[1], found)
    with files.replacing(paths[2]) as temporary:
        temporary.write_text(claims_html(found))
    asked = {"claims": files.checksum(claims), "tables": _checksums(tables, TABLES)}
    seconds = time.perf_counter() - began
    made = record("claims", asked, None, code, paths, seconds, ["pandas", "scipy"])
    files.write_json(out / "claims.json", made)


def run_overview(
    manifest: Path,
    results: Path,
    tables: Path,
    out: Path,
    spec: Mapping[str, Any],
    rules: Mapping[str, Any],
    figure: Path | None = None,
    note: str = "",
) -> None:
    """Write an experiment's pages, overview.html, cells.html, panels.html and front.html, and overview.json to `out`.

    Parameters
    ----------
    manifest, results, tables : Path
        Its cells, the results folder that holds their records, and its tables.
    spec : mapping
        The part of the configuration that made it, to be shown.
    rules : mapping
        The workflow's rules, to be drawn: see `halobench.reporting.pages.overview.Overview`.
    figure : Path, optional
        The PNG that sums it up.
    note : str
        Leads each page, e.g. that cells are missing.
    """
    began = time.perf_counter()
    for key, value in (("spec", spec), ("rules", rules)):
        require(isinstance(value, Mapping), key, value, "a mapping")
    code = code_in_force("overview")
    files.sweep(out)
    from halobench.reporting.pages import cells, elements, overview, panels, run_costs
    from halobench.results.aggregate import read_manifest, read_tables

    listed, found = read_manifest(manifest), read_tables(tables, (*TABLES, "claims"))
    name, jobs = listed["experiment"], run_costs.read_jobs(listed, results, tables)
    picture = figure.read_bytes() if figure else b""
    told = overview.Overview(name, found["runs"], found["claims"], jobs, spec, rules, picture, note)
    pages = {
        "overview": overview.page(told),
        "cells": cells.page(name, found, note),
        "panels": panels.page(name, found, note),
        "front": overview.front(told),
    }
    for stem, text in pages.items():
        elements.write(out / f"{stem}.html", text)
    asked = {"experiment": name, "note": note, "config": dict(spec), "rules": dict(rules)}
    asked |= {"manifest": files.checksum(manifest), "tables": _checksums(tables, (*TABLES, "claims"))}
    paths = [out / f"{stem}.html" for stem in pages]
    made = record("overview", asked, None, code, paths, time.perf_counter() - began, ["pandas", "pyyaml"])
    files.write_json(out / "overview.json", made)


def run_figure(name: str, tables: Path, out: Path, note: str = "") -> None:
    """Draw a figure from the tables it names; write `out`.pdf, `out`.png and `out`.json.

    Parameters
    ----------
    note : str
        Printed in the figure's corner, e.g. that cells are missing.
    """
    began = time.perf_counter()
    from halobench.reporting.plotting import page_layout
    from halobench.results.aggregate import read_tables

    code = code_in_force("figure", [("figures", name)])
    files.sweep(out.parent)
    wanted = tables_read("figures", name)
    with page_layout.keeping():
        figure = plugins.load("figures", name)(*read_tables(tables, wanted).values())
        if note:
            page_layout.add_note(figure, note)
        paths = page_layout.save(figure, out)
    asked = {"figure": name, "note": note, "tables": _checksums(tables, wanted)}
    seconds = time.perf_counter() - began
    made = record("figure", asked, None, code, paths, seconds, ["matplotlib", "pandas", "seaborn"])
    files.write_json(Path(f"{out}.json"), made)


def run_explorer(
    results: Path, out: Path, experiments: Iterable[str] = (), tables: Path | None = None, note: str = ""
) -> None:
    """Write the page that explores cells to `out`, and its record beside it.

    Parameters
    ----------
    experiments : iterable of str
        By default all whose tables are there.
    tables : Path, optional
        The folder of the experiments' tables; by default ``tables`` in `results`.
    note : str
        Shown on the page, e.g. that cells are missing.
    """
    began = time.perf_counter()
    code = code_in_force("explorer")
    files.sweep(out.parent)
    from halobench.reporting import explorer

    shown = explorer.write(results, out, experiments, tables, note)
    asked: dict[str, Any] = {"experiments": shown, "note": note}
    asked["tables"] = {name: _checksums((tables or results / "tables") / name, EXPLORED) for name in shown}
    seconds = time.perf_counter() - began
    files.write_json(out.with_suffix(".json"), record("explorer", asked, None, code, [out], seconds, ["plotly"]))


def run_table(name: str, tables: Path, out: Path, note: str = "") -> None:
    """Make a table for print from the tables it names; write `out`.csv, `out`.tex, `out`.html and `out`.json.

    Parameters
    ----------
    note : str
        Printed with the table, e.g. that cells are missing.
    """
    began = time.perf_counter()
    code = code_in_force("table", [("tables", name)])
    files.sweep(out.parent)
    from halobench.reporting.print_tables import layout
    from halobench.results.aggregate import read_tables

    wanted = tables_read("tables", name)
    made = plugins.load("tables", name)(*read_tables(tables, wanted).values())
    paths = layout.save(made, out, note)
    asked = {"table": name, "note": note, "tables": _checksums(tables, wanted)}
    seconds = time.perf_counter() - began
    files.write_json(Path(f"{out}.json"), record("table", asked, None, code, paths, seconds, ["pandas"]))


def _checksums(tables: Path, names: Iterable[str]) -> dict[str, str]:
    """Checksums of an experiment's tables."""
    return {name: files.checksum(tables / f"{name}.parquet") for name in names}


def parse_parts(spec: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Each part of a stage's spec, parsed; all must be there and no other.

    Raises
    ------
    SpecError
    """
    if not isinstance(spec, Mapping):
        raise SpecError("spec", spec, f"a mapping of {', '.join(kinds)}")
    for key in spec:
        if key not in kinds:
            raise SpecError(f"spec.{key}", spec[key], one_of(kinds, key))
    parsed = {}
    for key, kind in kinds.items():
        try:
            parsed[key] = parse(kind, spec.get(key, {}))
        except SpecError as error:
            raise error.within(f"spec.{key}") from None
    return parsed


def _canonical_parts(specs: Mapping[str, Any]) -> dict[str, Any]:
    """Parsed parts as plain data again."""
    return {key: canonical(value) for key, value in specs.items()}
