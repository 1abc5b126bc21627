"""Recipes in layers: ``train``, overlaid by the model's recipe, then by the data set's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from halobench.core.errors import SpecError
from halobench.core.spec_codec import parse
from halobench.core.specs import TrainSpec
from halobench.experiment.problems import Problems

# Each layer with its place in the configuration; a later one is laid over those before it.
Layers = list[tuple[str, Mapping[str, Any]]]


def own_recipe(raw: Mapping[str, Any], section: str, name: str) -> Any:
    """Return the recipe of one model or data set as the configuration has it; empty if there is none.

    Parameters
    ----------
    raw : mapping
        A configuration, which need not be checked.
    section : {"models", "datasets"}
    name : str
    """
    entries = raw.get(section)
    entry = entries.get(name) if isinstance(entries, Mapping) else None
    return entry.get("recipe", {}) if isinstance(entry, Mapping) else {}


def recipe_layers(raw: Mapping[str, Any], dataset: str, model: str) -> Layers:
    """Return the layers of the recipe of a data set and model."""
    sections = (("models", model), ("datasets", dataset))
    overlays = [(f"{section}.{name}.recipe", own_recipe(raw, section, name)) for section, name in sections]
    return [("train", raw.get("train", {})), *overlays]


def layer_that_sets(layers: Layers, key: str) -> str:
    """Return the place of the last layer that sets a key; ``train`` if none does."""
    return next((place for place, layer in reversed(layers) if key in layer), "train")


def check_layer(layer: Any) -> bool:
    """Return True if each key of a recipe's layer is right by itself; raise SpecError otherwise."""
    if not isinstance(layer, Mapping):
        raise SpecError("", layer, "a mapping of keys of the recipe")
    # Ranges may depend on other layers (warmup < epochs): each key is checked alone, next to defaults that fit it.
    for key, value in layer.items():
        fitting = {"epochs": max(value, 0) + 1} if key == "warmup" and isinstance(value, int) else {"warmup": 0}
        parse(TrainSpec, {**fitting, key: value})
    return True


def parse_recipes(
    raw: Mapping[str, Any], names: Mapping[str, Iterable[str]], pairs: Iterable[tuple[str, str]], problems: Problems
) -> dict[tuple[str, str], Any]:
    """Return the TrainSpec of each pair of a data set and a model; None for one with a problem of its own.

    A pair is left out if one of its layers has a problem, or belongs to a name that isn't in the configuration.

    Parameters
    ----------
    raw : mapping
        A configuration.
    names : mapping
        The names of its ``models`` and ``datasets``, whose recipes are checked even if no pair has them.
    pairs : iterable of (data set, model)
    problems : Problems
    """
    layers = {"train": raw.get("train", {})}
    for section in ("models", "datasets"):
        for name in names[section]:
            layers[f"{section}.{name}.recipe"] = own_recipe(raw, section, name)
    sound = {place for place, layer in layers.items() if problems.guard(place, check_layer, layer)}
    recipes = {}
    for dataset, model in sorted(set(pairs)):
        stack = recipe_layers(raw, dataset, model)
        if all(place in sound for place, _ in stack):
            recipes[dataset, model] = problems.guard("", _merge, stack)
    return recipes


def _merge(layers: Layers) -> TrainSpec:
    """Merge the layers of one recipe; a SpecError blames the last layer that sets the value."""
    merged = {key: value for _, layer in layers for key, value in layer.items()}
    try:
        return parse(TrainSpec, merged)
    except SpecError as error:
        raise error.within(layer_that_sets(layers, error.key)) from None
