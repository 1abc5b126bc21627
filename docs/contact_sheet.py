"""Make the committed pictures from a finished demo: docs/summary.png, docs/figures.png with all on one sheet, and
docs/figures/NAME.png; and write what the demo found into README.md, above its picture.

``.venv/bin/python docs/contact_sheet.py [RESULTS/figures/demo]``, from anywhere; or for one sheet of another
experiment's figures ``.venv/bin/python docs/contact_sheet.py results/figures/paper-small
docs/paper-small.png``.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from halobench.results import finding

FINDING = ("<!-- found -->", "<!-- /found -->")
WIDTH, COLUMNS, GAP, TITLE = 1800, 3, 24, 40
DOCS = Path(__file__).parent


def fitted(path: Path, width: int) -> Image.Image:
    """A picture scaled to a width in pixels."""
    picture = Image.open(path).convert("RGB")
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def compressed(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours, by octree: a median cut spends them on greys, and legends lose their colours."""
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE)


def with_finding(readme: str, claims: Path) -> str:
    """README with what a table of claims says between its marks."""
    before, _, rest = readme.partition(FINDING[0])
    after = rest.partition(FINDING[1])[2]
    sentence = finding.finding(finding.read_claims(claims))
    if not (sentence and after):
        sys.exit(f"README.md has no marks {FINDING}, or {claims} no claims: README.md is left as it is")
    text = textwrap.fill(f"**{sentence}**", 120)
    return f"{before}{FINDING[0]}\n{text}\n{FINDING[1]}{after}"


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
    compressed(contact_sheet(paths)).save(out or DOCS / "figures.png", optimize=True)
    if out is None:
        compressed(fitted(folder / "summary.png", 1650)).save(DOCS / "summary.png", optimize=True)
        readme = DOCS.parent / "README.md"
        claims = folder.parents[1] / "tables" / folder.name / "claims.csv"
        readme.write_text(with_finding(readme.read_text(encoding="utf-8"), claims), encoding="utf-8")
        (DOCS / "figures").mkdir(exist_ok=True)
        for path in paths:
            compressed(fitted(path, 1200)).save(DOCS / "figures" / path.name, optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["results/figures/demo"]))
