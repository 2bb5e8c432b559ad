"""Fixtures for every room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which is not part of the repository."""
    given = os.environ.get("VVUQ_TWIN_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not here (set VVUQ_TWIN_DATA to their folder)")
    return folder
