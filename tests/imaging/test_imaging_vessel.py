"""An arterial input measured in a phantom whose plasma curve is known."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.contrast import signal_of
from vvuq_twin.imaging.t1 import spoiled_gradient_echo
from vvuq_twin.imaging.vessel import blood_constants, measured_input, vessel_candidates
from vvuq_twin.kinetics.aif import blood, plasma
from vvuq_twin.kinetics.tofts import extended_tofts

ACQ = (np.deg2rad(25.0), 0.005, 4.5)
T = np.arange(0, 5, 1 / 15)


def _phantom(inflow: float = 1.0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signals (T, 16, 16, 3), the vessel, and M0: muscle with a tumour and an artery through the slices."""
    shape = (16, 16, 3)
    i, j, _ = np.indices(shape)
    vessel = (i - 4) ** 2 + (j - 11) ** 2 <= 2
    tumour = (i - 11) ** 2 + (j - 5) ** 2 <= 9
    m0 = np.full(shape, 2000.0)
    c = np.zeros((len(T), *shape))
    c[:, tumour] = extended_tofts(plasma(T, onset=0.75), T, [0.3], [0.4], [0.08]).T
    c[:, ~tumour] = extended_tofts(plasma(T, onset=0.8), T, [0.03], [0.1], [0.01]).T
    c[:, vessel] = blood(T, onset=0.7)[:, None]
    t1 = np.where(vessel, 1.44, 1.0)
    s = signal_of(c, spoiled_gradient_echo(m0, 1 / t1, *ACQ[:2]), t1, *ACQ)
    s[:, vessel] *= inflow
    return s + noise * np.random.default_rng(1).standard_normal(s.shape), vessel, m0


def test_candidates_are_the_artery() -> None:
    signal, vessel, _ = _phantom()
    mask, score = vessel_candidates(signal, 9, np.ones(vessel.shape, bool), voxels=20)
    assert mask.sum() >= 10
    assert (mask & ~vessel).sum() == 0
    assert score[vessel].min() > np.percentile(score[~vessel], 99)
    with pytest.raises(BadInput, match="no voxel enhances"):
        vessel_candidates(np.ones((20, 4, 4, 2)), 5, np.ones((4, 4, 2), bool))


def test_the_plasma_curve_is_recovered() -> None:
    signal, vessel, _ = _phantom()
    found = measured_input(signal, vessel, 9, 1.44, 0.42, *ACQ)
    truth = plasma(T, onset=0.7)
    off = np.abs(found.plasma - truth)
    assert off[truth < 3].max() < 0.05
    assert np.all(off < 5 * found.error + 0.02 * truth)
    assert found.voxels == vessel.sum() and found.saturated == 0
    assert found.baseline_ratio == pytest.approx(1.0)


def test_baseline_from_the_surroundings_undoes_inflow_in_part_and_says_how_much() -> None:
    # the agent's signal is not touched here, only the baseline frames are bright
    signal, vessel, m0 = _phantom(noise=0.0)
    signal[:9, vessel] *= 1.6
    truth = plasma(T, onset=0.7)
    wrong = measured_input(signal, vessel, 9, 1.44, 0.42, *ACQ)
    right = measured_input(signal, vessel, 9, 1.44, 0.42, *ACQ, surroundings=m0)
    assert np.allclose(right.plasma[9:], truth[9:], rtol=1e-6, atol=1e-6)
    assert right.baseline_ratio == pytest.approx(1.6, rel=1e-6)
    assert wrong.plasma[15:].mean() < 0.6 * truth[15:].mean()


def test_saturated_and_empty_vessels_are_refused() -> None:
    signal, vessel, _ = _phantom()
    with pytest.raises(BadInput, match="mask is empty"):
        measured_input(signal, np.zeros_like(vessel), 9, 1.44, 0.42, *ACQ)
    signal[20, vessel] = 1e5
    with pytest.raises(BadInput, match="most of the vessel is saturated in frame 21"):
        measured_input(signal, vessel, 9, 1.44, 0.42, *ACQ)


def test_constants_of_blood() -> None:
    assert blood_constants("3 T")[0] > blood_constants("1.5 T")[0]
    with pytest.raises(BadInput, match="no T1 of blood"):
        blood_constants("7 T")
