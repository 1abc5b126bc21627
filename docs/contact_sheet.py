"""Make the committed pictures docs/figures/NAME.png from a finished demo, or one sheet of an experiment's figures.

``.venv/bin/python docs/contact_sheet.py [RESULTS/figures/demo]``, from anywhere, or
``.venv/bin/python docs/contact_sheet.py results/figures/paper-small docs/paper-small.png``.
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


def compressed(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours, by octree: a median cut spends them on greys, and legends lose their colours."""
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE)


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
    """Write each picture below docs/figures; or one sheet, to `out`."""
    paths = sorted(folder.glob("*.png"), key=lambda path: (path.stem != "summary", path.stem))
    if not paths:
        sys.exit(f"no figures in {folder}: run the experiment first, such as `make demo`")
    if out:
        compressed(contact_sheet(paths)).save(out, optimize=True)
        return
    for path in paths:
        compressed(fitted(path, 1200)).save(DOCS / "figures" / path.name, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["results/figures/demo"]))
