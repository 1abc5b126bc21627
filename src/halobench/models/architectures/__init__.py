"""The package's own models, one file each, looked up by name; see `halobench.models`."""

from pathlib import Path

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind, Library

LIBRARY_MODELS = Path(__file__).parents[1] / "library_models.py"
KIND = Kind(
    "models",
    __file__,
    "build",
    (*TOPICS, "ARCHITECTURE", "IMAGES", "VARIANTS"),
    libraries=tuple(Library(name, LIBRARY_MODELS) for name in ("timm", "torchvision")),
)
