"""Make the committed pictures of figures.

``python docs/pictures.py [results/figures/demo]`` writes docs/figures/NAME.png for each figure of a finished run, and
``python docs/pictures.py published`` draws those of `PUBLISHED` and of `SCRIPTS` from the tables in results/published.
"""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path

import pandas as pd
from PIL import Image

WIDTH = 1200  # pixels, of pictures in docs/figures
DOCS = Path(__file__).parent
# The pictures of figures of published runs: the run and the figure.
PUBLISHED = {
    **{f"families-{name}": ("architectures", f"{name}_families") for name in ("mixup", "reach", "repair")},
    "families-fit": ("architectures-fit", "same_fit"),
    "fashion": ("fashion", "neighbourhood"),
    "halo-nulls": ("halo-nulls", "halo"),
    "paper-small": ("paper-small", "summary"),
    "repair-ladder": ("repair", "repair"),
    "strangers": ("strangers", "halo"),
    "theory-collages": ("fashion-overlap", "log_k"),
    "theory-growth": ("controls", "growth"),
    **{f"theory-{name.replace('_', '-')}": ("theory", name) for name in ("log_k", "overlap", "predicted")},
}

SCRIPTS = ("answers", "decision_radii", "one_number")  # which draw others from the published tables


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


def published_table(run: str, name: str) -> pd.DataFrame:
    """Return a table of a published run, and of the one it is compared with, with the columns of `runs` in today's."""
    import published

    from halobench.results.aggregate import REPEATED

    frame, runs = (published.joined(run, each) for each in (name, "runs"))
    if name == "runs":
        return frame
    datasets = runs.drop_duplicates("dataset").set_index("dataset")
    return frame.assign(**{column: frame["dataset"].map(datasets[column]) for column in REPEATED})


def draw_published() -> None:
    """Draw the pictures of published runs."""
    from halobench.core import plugins
    from halobench.experiment.figure_choice import tables_read
    from halobench.reporting.plotting.saving import save

    with tempfile.TemporaryDirectory() as folder:
        for picture, (run, name) in PUBLISHED.items():
            tables = [published_table(run, table) for table in tables_read("figures", name)]
            *_, png = save(plugins.load("figures", name)(*tables), Path(folder) / name)
            write(png, DOCS / f"{picture}.png")
    for script in SCRIPTS:
        runpy.run_path(str(DOCS / f"{script}.py"), run_name="__main__")


def main(source: Path) -> None:
    """Draw the pictures of published runs, or write each one of a folder below docs/figures."""
    if source == Path("published"):
        draw_published()
        return
    paths = sorted(source.glob("*.png"))
    if not paths:
        sys.exit(f"no figures in {source}: run the experiment first, such as `make demo`")
    for path in paths:
        write(path, DOCS / "figures" / path.name, WIDTH)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["results/figures/demo"]))
