"""How far does a classifier's certainty reach around its training samples, and what can calibration still repair?

Import public names from here, because modules may move but these names won't. Each name is loaded on first use, so
``import halobench`` is quick and calibration doesn't need torch.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

_HOMES = {
    "calibration.temperature_scaling": ("TemperatureFit", "fit_temperature", "scale", "tempered"),
    "calibration.paper_fit": ("fit_paper",),
    "calibration.metric": (
        *("ace", "brier", "classwise_ece", "ece", "error", "kl", "mce", "nll", "reliability", "softmax"),
    ),
    "calibration.resampling": ("bootstrap_intervals", "ece_floor"),
    "calibration.auto": ("AutoFit", "fit_auto"),
    "calibration.calibrator": ("Calibrator",),
    "calibration.diagnose": ("diagnose", "diagnose_file"),
    "calibration.diagnosis": ("Diagnosis",),
    "calibration.evaluate": ("Calibrated", "calibrate"),
    "calibration.external_logits": ("calibrate_file", "read_logits"),
    "calibration.overlap_theory": (
        *("mixup_kl_bound", "nearest_neighbour_kl", "partner_kl", "posterior_entropy", "two_level_kl"),
        *("two_level_slope", "uniform_kl"),
    ),
    "calibration.partner_scaling": ("PartnerFit", "fit_partner"),
    "calibration.repair": ("RepairLadder", "Rung", "repair_ladder"),
    "core.errors": ("SpecError",),
    "core.specs": (
        *("CalibrateSpec", "DatasetSpec", "LossSpec", "ModelSpec", "NoiseSpec", "ProbeSpec", "SourceSpec"),
        "TrainSpec",
    ),
    "data.distribution": ("Distribution", "Sample"),
    "data.sources": ("Description", "Images"),
    "losses.base": ("Loss",),
    "probing.certify.radius": ("certified_radius",),
    "probing.attack": ("Attacked", "Effort", "attacked", "attacked_radius"),
    "probing.far_field": ("FarField", "far_field"),
    "probing.probe": ("Neighbourhood", "ProbeOptions", "probe"),
    "probing.rays": ("Rays", "Surroundings", "towards"),
    "reporting.pages.diagnosis_page": ("diagnosis_page",),
    "reporting.print_tables.layout": ("Table",),
    "results.half_spaces": ("half_space_factor", "half_space_survival"),
    "results.trained_cell": ("TrainedCell", "open_cell"),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
for _path in Path(__file__).with_name("losses").glob("[!_]*.py"):  # each has a class with the file's name
    if _path.stem != "base":
        _MODULES[_path.stem.title().replace("_", "")] = f"{__name__}.losses.{_path.stem}"
_SUBMODULES = ("figures", "tables", "testing", "theory")  # modules with public names of their own
__all__ = ["__version__", *sorted([*_MODULES, *_SUBMODULES])]


def __getattr__(name: str) -> Any:
    """Load a public name from its module and cache it."""
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
