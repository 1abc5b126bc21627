"""Fixtures of this wing's tests."""

from __future__ import annotations

import pytest

from halobench.calibration import diagnose


@pytest.fixture
def without_ladder(monkeypatch):
    """Leave the repair ladder out of diagnoses, since it takes most of their time."""
    monkeypatch.setattr(diagnose, "quick_ladder", lambda *_: (None, "it takes seconds"))
