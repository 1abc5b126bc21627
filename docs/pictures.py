"""Make the committed pictures of figures.

``python docs/pictures.py [results/figures/demo]`` writes docs/figures/NAME.png for each figure of a finished run, and
``python docs/pictures.py published [PICTURE ...]`` draws those of published runs from the tables in results/published,
such as ``halo-nulls``; without PICTURE, all.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import pandas as pd
from PIL import Image

WIDTH = 1200  # pixels, of pictures in docs/figures
DOCS = Path(__file__).parent
# The pictures of figures of published runs: the run and the figure.
PUBLISHED = {
    "families-mixup": ("architectures", "studies.architectures.mixup_families:draw"),
    "families-repair": ("architectures", "studies.architectures.repair_families:draw"),
    "families-fit": ("architectures-fit", "studies.architectures.same_fit:draw"),
    "halo-nulls": ("halo-nulls", "halo"),
    "paper-small": ("paper-small", "mixup"),
    "repair-ladder": ("repair", "repair"),
    "strangers": ("strangers", "halo"),
    "theory-collages": ("fashion-overlap", "log_k"),
    "theory-growth": ("controls", "studies.controls.growth:draw"),
    "theory-log-k": ("theory", "log_k"),
}
# Those that modules of studies draw, whose `draw` returns a figure, and whether they are written in fewer colours.
DRAWN = {
    "decision-radii": ("studies.halos.decision_radii", True),
    "one-number": ("studies.repair.one_number", False),
    "paths": ("studies.paths.draw", True),
    "people": ("studies.people.draw", True),
    "votes": ("studies.votes.draw", True),
}
ANSWERS = "answers"  # stands for all pictures of docs/answers.py


def write(source: Path, out: Path, width: int | None = None) -> None:
    """Write a picture in 256 colours, scaled to a width in pixels."""
    picture = Image.open(source).convert("RGB")
    if width:
        size = (width, round(picture.height * width / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    # By octree: a median cut spends the colours on greys, and legends lose theirs.
    picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(out, optimize=True)


def published_table(run: str, name: str) -> pd.DataFrame:
    """Return a table of a published run, and of the one it is compared with, with the columns of `runs` in today's."""
    import published

    from halobench.results.aggregate import REPEATED

    frame, runs = (published.joined(run, each) for each in (name, "runs"))
    if name == "runs":
        return frame
    datasets = runs.drop_duplicates("dataset").set_index("dataset")
    return frame.assign(**{column: frame["dataset"].map(datasets[column]) for column in REPEATED})


def draw_published(chosen: Collection[str]) -> None:
    """Draw these pictures of published runs."""
    from halobench.core import plugins
    from halobench.experiment.figure_choice import tables_read
    from halobench.reporting.plotting.saving import save

    sys.path.append(str(DOCS.parent))  # the folder of `studies`
    with tempfile.TemporaryDirectory() as folder:
        for picture, (run, name) in PUBLISHED.items():
            if picture in chosen:
                tables = [published_table(run, table) for table in tables_read("figures", name)]
                *_, png = save(plugins.load("figures", name)(*tables), Path(folder) / picture)
                write(png, DOCS / f"{picture}.png")
    if ANSWERS in chosen:
        importlib.import_module("answers").draw_all()
    for picture, (module, in_fewer_colours) in DRAWN.items():
        if picture in chosen:
            path = DOCS / f"{picture}.png"
            importlib.import_module(module).draw().savefig(path)
            if in_fewer_colours:
                write(path, path)


def main(source: str, *chosen: str) -> None:
    """Draw the pictures of published runs, or write each one of a folder below docs/figures."""
    if source == "published":
        every = (*PUBLISHED, ANSWERS, *DRAWN)
        if unknown := set(chosen) - set(every):
            sys.exit(f"no such picture: {', '.join(sorted(unknown))}; pictures are {', '.join(every)}")
        draw_published(chosen or every)
        return
    paths = sorted(Path(source).glob("*.png"))
    if not paths:
        sys.exit(f"no figures in {source}: run the experiment first, such as `make demo`")
    for path in paths:
        write(path, DOCS / "figures" / path.name, WIDTH)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["results/figures/demo"]))
