"""The schema of the configuration that editors read, compared with the loader by jsonschema's validator."""

from __future__ import annotations

import copy

import jsonschema
import yaml

from conftest import put
from halobench.experiment.config_loader import load_config


def test_editors_find_what_the_loader_finds(config, root):
    schema = yaml.safe_load((root / "workflow/schemas/config.schema.yaml").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(config)
    config.setdefault("metrics", {})

    def edited(path: str, value: object) -> dict:
        put(path, value)(copied := copy.deepcopy(config))
        return copied

    levels = ("train", "datasets.digits", "models.mlp.recipe", "probes.sphere", "metrics", "experiments.demo")
    for path in ("x", *(f"{level}.x" for level in (*levels, "experiments.demo.grid.0"))):
        (error,) = validator.iter_errors(edited(path, 1))
        assert error.validator == "additionalProperties", path
    for path, value in (
        ("train.epochs", 0),
        ("train.lr", "1e-3"),
        ("train.optimizer", "adamm"),
        ("models.mlp.resize", 0),
        ("losses", {}),
        ("datasets.no/name", config["datasets"]["digits"]),
        ("experiments.demo.grid.0.seeds", [-1]),
    ):
        assert not validator.is_valid(edited(path, value)), path
    assert not validator.is_valid(edited("models.mlp", None)), "so Snakemake's validate() is not for us"
    load_config(edited("probes.manifold", None))
    options = {"name": "mlp", "width": 3, "anything": [1]}
    assert validator.is_valid(edited("models.mlp", options)), "a plug-in's options are its own"
