"""The captions of figures and tables in Snakemake's report, which the pages quote."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from halobench.core import plugins
from halobench.core.spec_codec import to_json

OWN = "workflow/report"  # the captions of the user's own figures and tables, next to the configuration


def own_caption(stem: str, kind: str) -> str:
    """Return the path of the user's caption for a figure or table of the user's own; empty if it is the package's."""
    return "" if stem in plugins.names(f"{kind}s") else f"{OWN}/{stem}.rst"


def caption(stem: str, kind: str) -> str:
    """Return the caption of a figure or table, relative to the rules' folder, or absolute if it is the user's own.

    Those of the package have one each in ``workflow/report``; the user's own may have one in `OWN`, or else share one.
    """
    own = own_caption(stem, kind)
    if own and os.path.exists(own):
        return os.path.abspath(own)
    return f"../report/{kind if own else stem}.rst"


def caption_texts(paths: Iterable[Path]) -> dict[str, str]:
    """Return captions by the name of their file."""
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


def captions_digest(texts: Mapping[str, str]) -> str:
    """Return the digest by which records and the status of pages know captions."""
    return hashlib.sha256(to_json(texts).encode()).hexdigest()
