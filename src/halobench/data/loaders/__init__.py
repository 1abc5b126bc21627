"""The loaders of sources, one file each, looked up by name; `halobench.data` documents their functions."""

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind

KIND = Kind("data", __file__, "load", (*TOPICS, "FROM_DISK", "VARIANTS"), key="loader")
