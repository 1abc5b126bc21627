"""Take the pictures of pages and of the terminal from a finished demo: docs/explorer.png and show.png.

``.venv/bin/python docs/screens.py [RESULTS]``, from anywhere; needs the extra ``browser`` and a Chromium.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pictures import compressed
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console

from halobench.reporting import terminal
from halobench.results.cell_results import read_cell

DOCS = Path(__file__).parent
CELL = "digits-noise50/mlp/cross_entropy/seed0"
WIDTH = 120  # columns of the terminal
Page = tuple[str, str, int]  # the picture's name, the page's address, its height in pixels


def take(pages: Iterable[Page]) -> None:
    """A picture of each page, as it first shows."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, address, height in pages:
            opened = browser.new_context(viewport={"width": 1280, "height": height}, offline=True).new_page()
            opened.goto(address)
            opened.wait_for_timeout(3000)  # until it has drawn itself
            path = DOCS / f"{name}.png"
            opened.screenshot(path=path)
            compressed(Image.open(path).convert("RGB")).save(path, optimize=True)
        browser.close()


def card(results: Path, out: Path) -> None:
    """What `halobench show` prints of the calibrators and by the known posterior, as SVG."""
    cell = read_cell(results, CELL)
    with open(os.devnull, "w") as nothing:
        console = Console(record=True, width=WIDTH, force_terminal=True, highlight=False, file=nothing)
        console.print(terminal.fits(cell.fits), terminal.metrics(cell.metrics, WIDTH)[0])
        console.save_svg(str(out), title=f"halobench show {CELL}")


def main(results: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shown = Path(folder, "show.svg")
        card(results, shown)
        explorer = (results / "explorer.html").as_uri()
        take([("explorer", f"{explorer}#dataset=digits-noise50", 1240), ("show", shown.as_uri(), 800)])


if __name__ == "__main__":
    main(Path(*sys.argv[1:] or ["results"]).resolve())
