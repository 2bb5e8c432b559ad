"""The population input against the reference curve of OSIPI and its own integrals."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.aif import (
    POPULATION,
    blood,
    georgiou,
    mcgrath,
    onset_time,
    plasma,
    population_input,
    require_causal,
)
from vvuq_twin.kinetics.tofts import extended_tofts


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


def test_georgiou_is_the_curve_of_its_supplement() -> None:
    # every 0.1 s in the supplement (read in OSIPI's code collection); first pass, recirculation, tail
    t = np.array([0.05, 0.1, 0.125, 0.2, 0.34, 0.495, 0.81, 1.04, 3.5, 5.0])
    printed = [1.8552, 7.7799, 8.6455, 5.1064, 1.1438, 2.0131, 1.5175, 1.2777, 0.7820, 0.6493]
    assert np.allclose(georgiou(t), printed, atol=3e-4)
    assert np.all(georgiou(t - 1.0, onset=0.5)[t < 1.5] == 0)
    # far beyond the supplement the circulations overlap and the slowest exponential is left
    late = georgiou([20.0, 30.0])
    assert late[1] / late[0] == pytest.approx(np.exp(-0.11269 * 10), rel=0.02)


def test_mcgrath_is_a_ramp_and_two_exponentials() -> None:
    t = np.array([-1.0, 0.0, 3.5, 7.0, 30.0, 600.0]) / 60.0
    after = [3.4 * np.exp(-0.045 * s) + 1.81 * np.exp(-0.0015 * s) for s in (0.0, 23.0, 593.0)]
    assert np.allclose(mcgrath(t), [0, 0, 5.21 / 2, *after])
    assert np.allclose(mcgrath(t + 2.0, onset=2.0), mcgrath(t))


def test_population_inputs_by_name() -> None:
    assert set(POPULATION) == {"parker", "georgiou", "preclinical"}
    for curve in POPULATION.values():
        assert np.all(curve(np.array([0.0, 0.4]), onset=0.5) == 0)


def test_onset_of_a_ramp_and_of_a_flat_curve() -> None:
    t = np.arange(0.0, 2.0, 0.1)
    assert onset_time(np.maximum(t - 0.73, 0.0), t) == pytest.approx(0.73, abs=0.011)
    noisy = np.maximum(t - 0.73, 0.0) + 0.01 * np.random.default_rng(2).standard_normal(len(t))
    assert onset_time(noisy, t) == pytest.approx(0.73, abs=0.1)
    with pytest.raises(BadInput, match="does not rise"):
        onset_time(np.ones(20), t)


def test_an_input_that_starts_after_the_tissue_is_refused() -> None:
    t = np.arange(0.0, 5.0, 0.05)
    tissue = extended_tofts(plasma(t, onset=0.5), t, [0.2], [0.3], [0.02])[0]
    first, second = require_causal(plasma(t, onset=0.45), t, tissue)
    assert first < second
    with pytest.raises(BadInput, match=r"starts at 1\.0\d min, after the tissue at 0\.5"):
        require_causal(plasma(t, onset=1.0), t, tissue)
