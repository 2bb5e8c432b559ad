"""SUV, decay and the Patlak plot against numbers worked out by hand and the compartment model."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.uptake import activity_of_counts, decayed, frame_decay, lean_body_mass, suv
from vvuq_twin.kinetics.graphical import patlak_plot
from vvuq_twin.kinetics.tracer import TWO_TISSUE_IRREVERSIBLE

F18 = 109.77 * 60.0


def test_suv_of_uniform_spread_is_one() -> None:
    # 370 MBq in 70 kg: 5285.7 Bq/mL if spread evenly at 1 g/mL
    assert suv(np.array([370e6 / 70e3]), 370e6, 70.0)[0] == pytest.approx(1.0)
    assert suv(np.array([370e6 / 70e3 / 1e3]), 370e6, 70.0, unit="kBq/mL")[0] == pytest.approx(1.0)
    # corrected to the scan's start an hour later: what was injected has decayed by then
    half = suv(np.array([1000.0]), 370e6, 70.0, half_life=F18, since_injection=F18)
    assert half[0] == pytest.approx(2 * suv(np.array([1000.0]), 370e6, 70.0)[0])


def test_lean_body_mass() -> None:
    assert lean_body_mass(80.0, 1.80, "male") == pytest.approx(9270 * 80 / (6680 + 216 * 80 / 3.24))
    assert lean_body_mass(80.0, 1.80, "male") == pytest.approx(61.7, abs=0.1)
    assert lean_body_mass(65.0, 1.65, "female") < lean_body_mass(65.0, 1.65, "male")
    lean = suv(np.array([5000.0]), 370e6, lean_body_mass(80.0, 1.80, "male"))
    assert lean[0] / suv(np.array([5000.0]), 370e6, 80.0)[0] == pytest.approx(61.7 / 80, rel=1e-3)


def test_decay_over_frames() -> None:
    assert decayed(8.0, 3.0, 1.0) == pytest.approx(1.0)
    t = np.linspace(100.0, 400.0, 20001)
    by_hand = np.trapezoid(np.exp(-np.log(2) / F18 * t), t) / 300.0
    assert frame_decay(100.0, 300.0, F18) == pytest.approx(by_hand, rel=1e-9)


def test_counts_to_activity() -> None:
    activity, error = activity_of_counts(np.array([400.0]), 1200.0, 9e-6, 64.0)
    assert activity[0] == pytest.approx(400 / (1200 * 9e-6 * 0.064))
    assert error[0] / activity[0] == pytest.approx(1 / 20)


def test_patlak_plot_finds_the_net_uptake() -> None:
    t = np.concatenate([np.arange(0, 5, 0.1), np.arange(5, 91, 1.0)])
    cp = np.interp(t, [0, 1, 2, 10, 90], [0, 60, 30, 12, 4]) * np.exp(-t / 200)
    truth = {"k1": 0.1, "k2": 0.25, "k3": 0.06, "vb": 0.03}
    frames = np.stack([np.arange(0, 90, 3.0), np.arange(3, 91, 3.0)], axis=1)
    ki = 0.97 * 0.1 * 0.06 / 0.31
    for kwargs in ({"frames": frames}, {"at": frames.mean(axis=1)}):
        curves = TWO_TISSUE_IRREVERSIBLE.curves(truth, cp, t, **kwargs)
        found = patlak_plot(curves, cp, t, 30.0, **kwargs)
        # the plot is straight only when the reversible part follows the plasma: here to one per cent
        assert found.ki[0] == pytest.approx(ki, rel=0.02)
        assert found.r2[0] > 0.999
    # a tracer that is trapped at once is exactly straight
    exact = np.vstack(
        [0.02 * np.array([np.trapezoid(cp[: i + 1], t[: i + 1]) for i in range(len(t))]) + 0.3 * cp]
    )
    found = patlak_plot(exact, cp, t, 10.0)
    assert found.ki[0] == pytest.approx(0.02, rel=1e-12) and found.v0[0] == pytest.approx(0.3, rel=1e-9)
    noise = np.random.default_rng(0).standard_normal((800, len(t))) * 0.02 * cp
    noisy = patlak_plot(exact + noise, cp, t, 10.0)
    assert np.std(noisy.ki) == pytest.approx(np.median(noisy.ki_se), rel=0.08)


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="cannot be converted"):
        suv(np.ones(2), 370e6, 70.0, unit="mm2/s")
    with pytest.raises(BadInput, match=r"furlong2"):
        suv(np.ones(2), 370e6, 70.0, unit="furlong2")
    with pytest.raises(BadInput, match="injected activity"):
        suv(np.ones(2), 0.0, 70.0)
    with pytest.raises(BadInput, match="height is 180 m"):
        lean_body_mass(80.0, 180.0, "male")
    with pytest.raises(BadInput, match="no half-life"):
        suv(np.ones(2), 370e6, 70.0, since_injection=3600.0)
    with pytest.raises(BadInput, match="too few for a line"):
        patlak_plot(np.ones((1, 5)), np.ones(5), np.arange(5.0), 4.0)
    with pytest.raises(BadInput, match="negative counts"):
        activity_of_counts(np.array([-1.0]), 1.0, 1.0, 1.0)
