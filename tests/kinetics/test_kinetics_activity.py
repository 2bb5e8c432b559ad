"""Exponential fits of time-activity curves against closed forms and repeated noise."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.activity import decay_rate, fit_activity

T = np.array([1.0, 4.0, 24.0, 48.0, 96.0, 168.0])
HALF = 6.647 * 24.0


def test_one_exponential_is_recovered() -> None:
    rates = np.log(2) / np.array([30.0, 51.3, 70.0, 120.0])
    curves = 5.0 * np.exp(-np.multiply.outer(rates, T))
    fit = fit_activity(curves, T, HALF)
    assert np.allclose(fit.rates[:, 0], rates, rtol=1e-8)
    assert np.allclose(fit.integral, 5.0 / rates, rtol=1e-8)
    assert np.allclose(fit.tail, np.exp(-rates * T[-1]), rtol=1e-7)
    two = fit_activity(curves[:, [1, 4]], T[[1, 4]], HALF)
    assert np.allclose(two.integral, 5.0 / rates, rtol=1e-8)
    assert np.isnan(two.integral_se).all()


def test_two_exponentials_clearance_and_uptake() -> None:
    for a1, h1, a2, h2 in ((4.0, 80.0, 9.0, 6.0), (6.0, 60.0, -6.0, 3.0), (6.0, 90.0, -4.0, 5.0)):
        l1, l2 = np.log(2) / h1, np.log(2) / h2
        fit = fit_activity((a1 * np.exp(-l1 * T) + a2 * np.exp(-l2 * T))[None], T, HALF, exponentials=2)
        assert np.allclose(fit.rates[0], [l1, l2], rtol=1e-6)
        assert np.allclose(fit.amplitudes[0], [a1, a2], rtol=1e-6)
        assert fit.integral[0] == pytest.approx(a1 / l1 + a2 / l2, rel=1e-7)


def test_missing_samples_are_left_out() -> None:
    curve = 5.0 * np.exp(-0.02 * T)
    curve[2] = np.nan
    assert fit_activity(curve[None], T, HALF).integral[0] == pytest.approx(250.0, rel=1e-8)
    curve[1:] = np.nan
    assert np.isnan(fit_activity(curve[None], T, HALF).integral[0])


@pytest.mark.parametrize("exponentials", [1, 2])
def test_standard_error_is_the_scatter_of_repeated_noise(exponentials: int) -> None:
    rng = np.random.default_rng(2)
    clean = 6.0 * np.exp(-T * np.log(2) / 60) - (
        3.0 * np.exp(-T * np.log(2) / 6) if exponentials == 2 else 0.0
    )
    sd = 0.02 * clean
    curves = clean + sd * rng.standard_normal((600, len(T)))
    fit = fit_activity(curves, T, HALF, exponentials=exponentials, sd=sd)
    assert np.std(fit.integral) == pytest.approx(np.nanmedian(fit.integral_se), rel=0.1)
    assert np.sqrt(np.mean(fit.residual**2)) == pytest.approx(1.0, rel=0.1)
    alike = fit_activity(
        clean + 0.05 * rng.standard_normal((600, len(T))), T, HALF, exponentials=exponentials
    )
    assert np.sqrt(np.nanmean(alike.integral_se**2)) == pytest.approx(np.std(alike.integral), rel=0.25)


def test_no_rate_is_slower_than_decay() -> None:
    growing = np.array([[1.0, 1.1, 1.3, 1.5, 1.6, 1.7]])
    fit = fit_activity(growing, T, HALF)
    assert fit.rates[0, 0] == pytest.approx(decay_rate(HALF))
    assert fit.tail[0] > 0.4


@pytest.mark.parametrize(
    ("times", "kwargs", "sentence"),
    [
        (T[:3], {"exponentials": 2}, "3 scans cannot determine 2 exponentials"),
        (T[::-1], {}, "do not increase"),
        (T, {"exponentials": 3}, "use 1 or 2"),
        (T, {"sd": 0.0}, "not positive"),
        (T[:4], {}, "do not fit 4 times"),
    ],
)
def test_bad_input_is_one_sentence(times, kwargs, sentence) -> None:
    width = 3 if len(times) == 3 else 6
    with pytest.raises(BadInput, match=sentence):
        fit_activity(np.ones((1, width)), times, HALF, **kwargs)
    with pytest.raises(BadInput, match="half-life"):
        decay_rate(0.0)
