"""Every figure fits its page, is legible, and has the same bytes twice; importing figures loads no window system."""

from __future__ import annotations

import itertools
import subprocess
import sys

import matplotlib as mpl
import pytest
from matplotlib.transforms import Bbox
from PIL import Image

import synthetic
from conftest import SOAK
from halobench.experiment.figure_choice import QUESTIONS
from halobench.reporting.plotting import panel_grid, saving
from halobench.reporting.plotting.panel_grid import PageText
from halobench.reporting.plotting.style import RC
from synthetic import FIGURES, STUDIES, THEORY, beside_theory, drawn, made, made_theory, words

LEGIBLE = ("calibration", "halo", "neighbourhood", "radii", "reliability", "repair", "training", *QUESTIONS)
ONE = ("digits-noise50", "mlp", "cross_entropy")
SOME = (ONE, ("digits-noise50", "mlp", "mixup2"), ("mnist5k-noise50", "cnn", "focal"))
# Figures with legends, panel kinds, bars, marks and shades of their own; `make soak` covers the rest.
DRAWN = ("calibration", "halo", "log_k", "reach", "reliability", "summary")


def pixels(points, width):
    """The size of text in pixels when a page, `width` inches wide, is shown 1,280 pixels wide."""
    return points / 72 * 1280 / width


def inked(title):
    """The box of a title, without its trailing blank lines."""
    box, lines = title.get_window_extent(), title.get_text().split("\n")
    return Bbox([[box.x0, box.y0 + box.height * lines.count("") / len(lines) + 1], [box.x1, box.y1 - 1]])


def test_pages_of_many_rows_or_columns_keep_text_of_eight_pixels():
    for down, across in ((2, 40), (120, 1)):
        present = set(itertools.product(range(down), range(across)))
        named = {i: f"row {i}" for i in range(down)}, {i: f"column {i}" for i in range(across)}
        figure, _ = panel_grid.draw_grid(PageText("title", "note"), *named, present)
        assert pixels(RC["xtick.labelsize"], figure.get_size_inches()[0] + 1) >= 8


@pytest.mark.parametrize("name", FIGURES + THEORY + STUDIES)
def test_words_and_panels_stay_off_each_other_and_the_page_holds_all(name, tmp_path):
    """For many cells with long names, and for one cell and seed, no panel is blank and the text is large enough."""
    cells = [c for c in synthetic.LARGE if c[0] in ("cifar10-noise50", "a-source-with-a-long-name-noise25")][::5]
    both = (made(*cells, seeds=(0, 1)), made(ONE, seeds=(0,)))
    if name == "summary":  # with all its parts
        full = beside_theory(both[0])
        searched, repaired = synthetic.beside_searches(full["radii"]), synthetic.with_ladders(full["metrics"])
        both = (full | {"radii": searched, "metrics": repaired}, both[0], both[1])
    for given in (made_theory(), made_theory(4)) if name in THEORY else both:
        figure = drawn(name, given)
        with mpl.rc_context(RC):
            figure.draw_without_rendering()
        assert all(ax.has_data() for ax in figure.axes)
        smallest = min(text.get_fontsize() for text in figure.findobj(mpl.text.Text) if text.get_text().strip())
        assert smallest >= 7
        parts = [figure, *figure.findobj(mpl.figure.SubFigure)]
        boxes = [text for part in parts for text in (*part.texts, part._suptitle, *part.legends) if text]
        boxes = [part.get_window_extent() for part in dict.fromkeys(boxes)]
        boxes += [ax.get_tightbbox(for_layout_only=True) for ax in figure.axes]  # without titles, which may be wider
        for a, b in itertools.combinations(boxes, 2):
            overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(overlap) <= 3, (name, a, b)  # pixels
        titles = [inked(title) for ax in figure.axes for title in (ax.title, ax._left_title) if title.get_text()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(titles, 2))
        assert not any(title.overlaps(ax.bbox) for title, ax in itertools.product(titles, figure.axes))
        page = figure.get_tightbbox()
        assert name not in LEGIBLE or pixels(smallest, page.width + 2 * saving.MARGIN) >= 8
        if name == "summary":
            *_, png = saving.save(figure, tmp_path / name)
            with Image.open(png) as picture:
                assert picture.width == pytest.approx((page.width + 2 * saving.MARGIN) * saving.DPI, rel=0.01)
    assert "t-interval" not in words(figure)


def test_figures_are_drawn_without_torch_or_windows():
    code = "import sys; " + "".join(f"import halobench.reporting.figures.{name}; " for name in FIGURES + THEORY)
    code += "import matplotlib; print('torch' in sys.modules, matplotlib.get_backend(auto_select=False))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False None"


@pytest.mark.parametrize("name", FIGURES + THEORY + STUDIES if SOAK else DRAWN)
def test_same_tables_give_the_same_bytes(name, tmp_path):
    tables, settings = made_theory() if name in THEORY else made(*SOME), dict(mpl.rcParams)
    written = [saving.save(drawn(name, tables), tmp_path / folder / name) for folder in ("one", "two")]
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()
    pdf, svg, png = (path.read_bytes() for path in written[0])
    assert pdf.startswith(b"%PDF")
    assert png.startswith(b"\x89PNG")
    assert b"CreationDate" not in pdf
    assert b"matplotlib" not in pdf.lower()
    assert svg.startswith(b"<?xml")
    assert b"<dc:date>" not in svg
    assert len(svg) < 1e6  # pages embed it
    assert b"Software" not in png
    assert {path.name for path in (tmp_path / "one").iterdir()} == {f"{name}.{end}" for end in ("pdf", "png", "svg")}
    assert dict(mpl.rcParams) == settings
