"""The population input against the reference curve of OSIPI and its own integrals."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.kinetics.aif import blood, plasma, population_input


def test_parker_matches_osipi(shared_data: Path) -> None:
    with open(shared_data / "osipi" / "ParkerAIF_ref.csv", encoding="utf-8-sig") as source:
        rows = list(csv.DictReader(source))
    assert len(rows) > 1900
    for label in {r["label"] for r in rows}:
        mine = [r for r in rows if r["label"] == label]
        t = np.array([float(r["time"]) for r in mine])
        expected = np.array([float(r["Cb"]) for r in mine])
        found = blood(t, onset=float(mine[0]["delay"] or 0.0) / 60.0)
        assert np.all(np.abs(found - expected) <= 1e-4 + 0.01 * np.abs(expected)), label


def test_dispersion_keeps_the_area_of_the_first_pass() -> None:
    p = population_input()
    t = np.linspace(0, 6, 60001)
    # without the tail only the two Gaussians are left
    gaussians = [blood(t, dispersion=w, constants=type(p)(**{**vars(p), "tail": 0.0})) for w in (1.0, 1.5)]
    areas = [np.trapezoid(g, t) for g in gaussians]
    assert areas[0] == pytest.approx(sum(p.amplitudes), rel=2e-3)
    assert areas[1] == pytest.approx(areas[0], rel=2e-3)
    assert gaussians[1].max() == pytest.approx(gaussians[0].max() / 1.5, rel=1e-2)


def test_onset_shifts_and_scale_multiplies() -> None:
    t = np.arange(0, 5, 0.01)
    assert np.allclose(blood(t + 1.0, onset=1.0), blood(t), atol=1e-12)
    assert np.all(blood(t, onset=2.0)[t < 2.0] == 0)
    assert np.allclose(blood(t, scale=[1.0, 3.0])[1], 3 * blood(t))
    assert np.allclose(plasma(t), blood(t) / 0.58)
    late = blood([4.0, 5.0], decay=0.3)
    assert late[1] / late[0] == pytest.approx(np.exp(-0.3), rel=1e-6)
