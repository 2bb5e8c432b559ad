"""Tracer models against closed forms, the matrix exponential's cousin, and OSIPI's digital references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.convolution import exponential_convolution
from vvuq_twin.kinetics.tofts import (
    extended_tofts,
    fit_extended_tofts,
    patlak,
)


def test_convolution_is_exact_for_a_ramp_and_a_step() -> None:
    t = np.array([0.0, 0.3, 0.35, 1.0, 2.5, 4.0])
    for k in (1e-9, 1e-3, 0.07, 0.6, 5.0):
        ramp = exponential_convolution(2.0 + 3.0 * t, t, [k])[0]
        constant = -np.expm1(-k * t) / k
        # int exp(-k(t-s)) s ds = t/k - (1 - exp(-k t))/k^2, by its series where k t is small
        linear = np.where(k * t < 1e-4, t**2 / 2 - k * t**3 / 6, t / k - -np.expm1(-k * t) / k**2)
        assert np.allclose(ramp, 2.0 * constant + 3.0 * linear, rtol=1e-9, atol=1e-12), k


def test_series_and_closed_form_join() -> None:
    t = np.array([0.0, 1.0])
    below, above = (exponential_convolution([1.0, 2.0], t, [k])[0, 1] for k in (0.05 - 1e-10, 0.05 + 1e-10))
    assert below == pytest.approx(above, rel=1e-9)


def test_extended_tofts_solves_its_equation() -> None:
    t = np.linspace(0, 5, 2001)
    cp = plasma(t, onset=0.2)
    found = extended_tofts(cp, t, [0.3], [0.25], [0.05])[0]

    def rhs(s: float, c: np.ndarray) -> np.ndarray:
        return 0.3 * np.interp(s, t, cp) - 0.3 / 0.25 * c

    solved = solve_ivp(rhs, (0, 5), [0.0], t_eval=t, rtol=1e-9, atol=1e-11, max_step=t[1])
    assert np.allclose(found, solved.y[0] + 0.05 * cp, atol=1e-7)


def test_limits() -> None:
    t = np.linspace(0, 6, 601)
    cp = plasma(t)
    # a vast interstitium returns nothing: Patlak
    assert np.allclose(extended_tofts(cp, t, [0.1], [1e7], [0.03]), patlak(cp, t, [0.1], [0.03]), rtol=1e-6)
    # fast exchange: the interstitium follows the plasma
    assert np.allclose(extended_tofts(cp, t, [500.0], [0.2])[0, 200:], 0.2 * cp[200:], rtol=2e-3)


def test_fit_recovers_noiseless_curves_with_missing_samples() -> None:
    t = np.arange(0, 6, 1 / 30)
    cp = plasma(t, onset=0.3)
    rng = np.random.default_rng(4)
    truth = np.stack([rng.uniform(0.05, 0.8, 60), rng.uniform(0.1, 0.6, 60), rng.uniform(0.01, 0.15, 60)])
    curves = extended_tofts(cp, t, *truth)
    curves[rng.random(curves.shape) < 0.2] = np.nan
    fit = fit_extended_tofts(curves, cp, t)
    assert np.allclose(fit.ktrans, truth[0], rtol=5e-3)
    assert np.allclose(fit.ve, truth[1], rtol=5e-3)
    assert np.allclose(fit.vp, truth[2], rtol=1e-2, atol=1e-4)


def test_standard_errors_are_those_of_repeated_noise() -> None:
    t = np.arange(0, 6, 1 / 15)
    cp = plasma(t, onset=0.3)
    rng = np.random.default_rng(8)
    clean = extended_tofts(cp, t, [0.25], [0.3], [0.06])
    fit = fit_extended_tofts(clean + 0.05 * rng.standard_normal((1500, len(t))), cp, t)
    for name in ("ktrans", "ve", "vp"):
        ratio = np.std(getattr(fit, name)) / np.median(getattr(fit, name + "_se"))
        assert 0.9 < ratio < 1.1, name
    assert np.median(fit.residual_sd) == pytest.approx(0.05, rel=0.03)


def test_bad_input_is_named() -> None:
    with pytest.raises(BadInput, match="do not increase"):
        exponential_convolution([1, 2, 3], [0, 2, 1], [0.1])
    with pytest.raises(BadInput, match="do not fit"):
        fit_extended_tofts(np.zeros((3, 4)), np.zeros(5), np.arange(5.0))
    with pytest.raises(BadInput, match="ve must be positive"):
        extended_tofts([0, 1], [0, 1], [0.1], [0.0])
