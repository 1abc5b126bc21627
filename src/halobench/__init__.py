"""Measure how far a classifier's certainty reaches around its training samples, and what calibration can repair.

Import public names from ``halobench`` itself: modules may move, but public names won't. Each public name is loaded on
first use, so ``import halobench`` is quick. The package's own calibrators need no extra. If a name needs an extra that
is missing, the error explains how to install the extra.
"""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False  # type checkers know this name; importing typing would take longer than importing this module
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "analysis.random_ray_null": ("half_space_factor", "half_space_survival"),
    "calibration.calibrators.exact": ("TemperatureFit", "fit_temperature", "scale", "tempered"),
    "calibration.calibrators.paper": ("fit_paper",),
    "calibration.scores.metric": ("ace", "reliability", "softmax"),
    "calibration.scores.resampling": ("bootstrap_intervals", "ece_floor"),
    "calibration.calibrators.auto": ("AutoFit", "fit_auto"),
    "calibration.calibrator": ("Calibrator",),
    "calibration.diagnosis.diagnose": ("diagnose", "diagnose_file"),
    "calibration.diagnosis.result": ("Diagnosis",),
    "calibration.calibrate_cell": ("Calibrated", "calibrate"),
    "calibration.diagnosis.external_logits": ("calibrate_file", "read_logits"),
    "calibration.overlap_theory": (
        *("mixup_kl_bound", "nearest_neighbour_kl", "partner_kl", "posterior_entropy", "two_level_kl", "uniform_kl"),
    ),
    "calibration.calibrators.partner": ("PartnerFit", "fit_partner"),
    "calibration.ladder": ("RepairLadder", "Rung", "repair_ladder"),
    "core.errors": ("SpecError",),
    "core.specs.calibrate": ("CalibrateSpec",),
    "core.specs.data": ("DatasetSpec", "NoiseSpec", "SourceSpec"),
    "core.specs.model": ("ModelSpec",),
    "core.specs.probe": ("ProbeSpec",),
    "core.specs.training": ("LossSpec", "TrainSpec"),
    "data.distribution": ("Distribution", "Sample"),
    "data.sources": ("Description", "Images"),
    "losses.base": ("Loss",),
    "probing.certify.radius": ("certified_radius",),
    "probing.attack": ("Attacked", "Effort", "attacked", "attacked_radius"),
    "probing.probe": ("Neighbourhood", "ProbeOptions", "probe"),
    "probing.rays": ("Rays", "TrainingPoints", "towards"),
    "reporting.pages.diagnosis_page": ("diagnosis_page",),
    "reporting.print_tables.layout": ("Table",),
    "results.trained_cell": ("TrainedCell", "open_cell"),
}
_MODULES = {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
_FOLDER = os.path.dirname(__file__)
for _file in os.listdir(f"{_FOLDER}/losses"):  # each defines a class named after the file
    if _file.endswith(".py") and _file not in ("__init__.py", "base.py", "checks.py"):
        _MODULES[_file[:-3].title().replace("_", "")] = f"{__name__}.losses.{_file[:-3]}"
for _file in os.listdir(f"{_FOLDER}/calibration/metrics"):  # each is served as a function with the file's name
    if _file.endswith(".py") and _file != "__init__.py":
        _MODULES[_file[:-3]] = f"{__name__}.calibration.scores.metric"
# Modules with public names of their own.
_SUBMODULES = ("arena", "figures", "sklearn", "tables", "testing", "theory", "torch")
__all__ = ["__version__", *sorted([*_MODULES, *_SUBMODULES])]


def __getattr__(name: str) -> Any:
    """Return a public name's object, which is loaded from its module and cached."""
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    module = f"{__name__}.{name}" if name in _SUBMODULES else _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from halobench.core.extras import explained

    with explained(f"{__name__}.{name}"):
        home = importlib.import_module(module)
    value = globals()[name] = home if name in _SUBMODULES else getattr(home, name)
    return value


def __dir__() -> list[str]:
    return __all__
