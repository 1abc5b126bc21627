"""Make the badges of the README from pyproject.toml: docs/badges/*.svg. Run it after a change there."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHARACTER, PADDING, HEIGHT = 6.6, 8, 20  # pixels, at 11 px of a common sans serif
SHAPE = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{name}: {value}">
<title>{name}: {value}</title>
<rect width="{width}" height="20" rx="3" fill="#1f5f8b"/>
<path d="M3 0H{left}V20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z" fill="#444b52"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="8" y="14" textLength="{name_length}">{name}</text>
<text x="{value_at}" y="14" textLength="{value_length}">{value}</text>
</g>
</svg>
"""


def badge(name: str, value: str) -> str:
    """A badge as SVG."""
    lengths = [round(CHARACTER * len(text)) for text in (name, value)]
    left = lengths[0] + 2 * PADDING
    return SHAPE.format(
        name=name,
        value=value,
        left=left,
        name_length=lengths[0],
        value_at=left + PADDING,
        value_length=lengths[1],
        width=left + lengths[1] + 2 * PADDING,
    )


def least(requirement: str) -> str:
    """The oldest version that a requirement allows, in words."""
    return f"{requirement.partition('>=')[2].partition(',')[0]} or newer"


def badges() -> dict[str, str]:
    """The badges by file name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    snakemake = next(entry for entry in project["optional-dependencies"]["workflow"] if entry.startswith("snakemake>="))
    said = {
        "python": least(project["requires-python"]),
        "snakemake": least(snakemake),
        "licence": project["license"],
        "arXiv": "2306.00740",
    }
    return {f"{name.lower()}.svg": badge(name, value) for name, value in said.items()}


if __name__ == "__main__":
    (ROOT / "docs/badges").mkdir(exist_ok=True)
    for name, text in badges().items():
        (ROOT / "docs/badges" / name).write_text(text)
