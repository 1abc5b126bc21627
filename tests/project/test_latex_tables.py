"""LaTeX accepts the tables for print, and they fit the page."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest

import synthetic
from conftest import needs
from halobench.core import plugins
from halobench.reporting.print_tables import layout
from halobench.reporting.print_tables.layout import Table
from halobench.reporting.tables import scores

pytestmark = pytest.mark.paper
DOCUMENT = r"""\documentclass{article}
%s
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
%s
\end{document}
"""


def test_latex_compiles_and_fits_the_page(tmp_path):
    """In a plain article with narrow text, and on A4, nothing is wider than the text or longer than a page."""
    there = shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "booktabs.sty"], check=False).returncode == 0
    needs(bool(there), "LaTeX: apt-get install --no-install-recommends texlive-latex-recommended")
    large = synthetic.tables(synthetic.LARGE, (0, 1))
    long = synthetic.tables([("d", f"m{i}", f"l_{j}") for i in range(9) for j in range(8)], (0, 1))
    given = synthetic.beside_theory(synthetic.made())
    tables = {"awkward": synthetic.awkward_table(), "nothing": Table("Nothing", pd.DataFrame(), ())}
    for name, shown in (("demo", given), ("large", large), ("long", long)):
        tables[name] = scores.make(shown["metrics"], shown["runs"])
    exact = large["metrics"][large["metrics"]["calibrator"] == "exact"]
    wide = pd.concat([large["metrics"], *(exact.assign(calibrator=name) for name in plugins.names("calibrators"))])
    tables["wide"] = scores.make(wide, large["runs"])
    for name, table in tables.items():
        layout.save(table, tmp_path / name, "partial: 1 of 2 cells")
    text = "".join(rf"\input{{{name}.tex}}" + "\n\\clearpage\n" for name in tables)
    for preamble in ("", r"\usepackage[a4paper,margin=2.5cm]{geometry}"):
        (tmp_path / "document.tex").write_text(DOCUMENT % (preamble, text))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        log = (tmp_path / "document.log").read_text(errors="replace")
        faults = ("Overfull", "Float too large", "Missing character", "multiply defined")
        assert not [fault for fault in faults if fault in log]
