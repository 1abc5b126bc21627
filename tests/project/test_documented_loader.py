"""The loader that docs/extend.md shows works as written."""

from __future__ import annotations

import re

import numpy as np

from halobench.core.specs.data import SourceSpec
from halobench.data import sources


def test_the_loader_in_the_documentation_works(root, tmp_path, monkeypatch):
    text = (root / "docs/extend.md").read_text()
    (tmp_path / "documented.py").write_text(re.search(r"```python\n(.*?)```", text, re.S)[1])
    monkeypatch.syspath_prepend(tmp_path)
    images = np.random.default_rng(0).integers(256, size=(1000, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(1000) % 10)
    spec = SourceSpec("documented:load", {"path": str(tmp_path / "images.npz")})
    np.testing.assert_array_equal(np.load(sources.write_source(spec, tmp_path / "out")[0]), images)
