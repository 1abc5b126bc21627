"""Make the committed pictures from a finished demo: docs/summary.png, docs/figures.png with all on one sheet, and
docs/figures/NAME.png.

Run from the repository: ``.venv/bin/python docs/contact_sheet.py [results/figures/demo]``; or for one sheet of another
experiment's figures ``.venv/bin/python docs/contact_sheet.py results/figures/paper-small docs/paper-small.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, COLUMNS, GAP, TITLE = 1800, 3, 24, 40
DOCS = Path(__file__).parent


def fitted(path: Path, width: int) -> Image.Image:
    """A picture scaled to a width in pixels."""
    picture = Image.open(path).convert("RGB")
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def contact_sheet(paths: list[Path]) -> Image.Image:
    """Pictures in columns under their names, each on the column that is shortest so far."""
    width = (WIDTH - GAP * (COLUMNS + 1)) // COLUMNS
    heights, placed = [GAP] * COLUMNS, []
    for path in paths:
        column = heights.index(min(heights))
        picture = fitted(path, width)
        placed.append((path.stem, picture, GAP + column * (width + GAP), heights[column]))
        heights[column] += TITLE + picture.height + GAP
    sheet = Image.new("RGB", (WIDTH, max(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=26)
    for name, picture, x, y in placed:
        draw.text((x, y), name, fill="black", font=font)
        sheet.paste(picture, (x, y + TITLE))
    return sheet


def main(folder: Path, out: Path | None = None) -> None:
    """Write all pictures; or the sheet alone, to `out`."""
    paths = sorted(folder.glob("*.png"), key=lambda path: (path.stem != "summary", path.stem))
    if not paths:
        sys.exit(f"no figures in {folder}: run the experiment first, such as `make demo`")
    contact_sheet(paths).quantize(256).save(out or DOCS / "figures.png", optimize=True)
    if out is None:
        fitted(folder / "summary.png", 1650).quantize(256).save(DOCS / "summary.png", optimize=True)
        (DOCS / "figures").mkdir(exist_ok=True)
        for path in paths:
            fitted(path, 1200).quantize(64).save(DOCS / "figures" / path.name, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["results/figures/demo"]))
