"""Make the committed pictures of figures.

``python docs/pictures.py [results/figures/demo]`` writes docs/figures/NAME.png for each figure of a finished run, and
``python docs/pictures.py results/figures/theory/phase.png docs/theory-phase.png`` a single one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

WIDTH = 1200  # pixels, of pictures in docs/figures
DOCS = Path(__file__).parent


def compressed(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours, by octree: a median cut spends them on greys, and legends lose their colours."""
    return picture.quantize(256, method=Image.Quantize.FASTOCTREE)


def write(source: Path, out: Path, width: int | None = None) -> None:
    """Write a picture in fewer colours, scaled to a width in pixels."""
    picture = Image.open(source).convert("RGB")
    if width:
        size = (width, round(picture.height * width / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    compressed(picture).save(out, optimize=True)


def main(source: Path, out: Path | None = None) -> None:
    """Write one picture to `out`, or each one of a folder below docs/figures."""
    if out:
        write(source, out)
        return
    paths = sorted(source.glob("*.png"))
    if not paths:
        sys.exit(f"no figures in {source}: run the experiment first, such as `make demo`")
    for path in paths:
        write(path, DOCS / "figures" / path.name, WIDTH)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["results/figures/demo"]))
