"""Losses, one per file, looked up by name. A loss may mix a batch before the model sees it, and scores the logits."""

from halobench.core.plugin_constants import TOPICS
from halobench.core.plugin_kinds import Kind

KIND = Kind("losses", __file__, "", (*TOPICS, "STYLE", "FAMILY", "ROWS", "VARIANTS"))
