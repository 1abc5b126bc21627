"""Provide losses, one per file. A loss may mix a batch before the model sees it, and scores the model's logits."""

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind

KIND = Kind("losses", __file__, "", (*TOPICS, "STYLE", "FAMILY", "ROWS", "VARIANTS"))
