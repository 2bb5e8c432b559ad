"""Tracer models against their differential equations, and their fits against known truths and repeated noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.convolution import exponential_convolution, phis
from vvuq_twin.kinetics.fit import fit_tracer
from vvuq_twin.kinetics.tracer import EXCHANGE, EXTENDED_TOFTS, MODELS, PATLAK, TWO_TISSUE, UPTAKE

MR = np.linspace(0.0, 5.0, 76)
PET = np.concatenate([np.arange(0, 2, 1 / 12), np.arange(2, 10, 0.5), np.arange(10, 61, 2.0)])


def _truth(name: str, n: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7).uniform
    ranges = {
        "tofts": {"ktrans": (0.05, 0.4), "ve": (0.15, 0.5)},
        "extended_tofts": {"ktrans": (0.05, 0.4), "ve": (0.15, 0.5), "vp": (0.01, 0.08)},
        "patlak": {"ktrans": (0.005, 0.1), "vp": (0.01, 0.08)},
        "2cum": {"fp": (0.1, 0.8), "ps": (0.01, 0.2), "vp": (0.02, 0.2)},
        "2cxm": {"fp": (0.1, 0.8), "ps": (0.02, 0.2), "vp": (0.02, 0.15), "ve": (0.1, 0.4)},
        "two_tissue_irreversible": {"k1": (0.05, 0.2), "k2": (0.1, 0.4), "k3": (0.02, 0.2), "vb": (0.02, 0.1)},
        "two_tissue": {
            "k1": (0.05, 0.2), "k2": (0.1, 0.4), "k3": (0.02, 0.2), "k4": (0.005, 0.05), "vb": (0.02, 0.1),
        },
    }[name]  # fmt: skip
    return {k: draw(a, b, n) for k, (a, b) in ranges.items()}


def _input(name: str) -> tuple[np.ndarray, np.ndarray]:
    return (PET, plasma(PET, onset=0.31)) if name.startswith("two_tissue") else (MR, plasma(MR, onset=0.31))


def _system(name: str, p: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Compartment matrix, input vector, output weights, share of blood: the equations as they are written down."""
    if name == "2cxm":
        A = [[-(p["fp"] + p["ps"]) / p["vp"], p["ps"] / p["vp"]], [p["ps"] / p["ve"], -p["ps"] / p["ve"]]]
        return np.array(A), np.array([p["fp"] / p["vp"], 0.0]), np.array([p["vp"], p["ve"]]), 0.0
    if name == "2cum":
        A = [[-(p["fp"] + p["ps"]) / p["vp"], 0.0], [p["ps"], 0.0]]
        return np.array(A), np.array([p["fp"] / p["vp"], 0.0]), np.array([p["vp"], 1.0]), 0.0
    if name.startswith("two_tissue"):
        k4 = p.get("k4", 0.0)
        A = [[-(p["k2"] + p["k3"]), k4], [p["k3"], -k4]]
        return np.array(A), np.array([p["k1"], 0.0]), np.full(2, 1.0 - p["vb"]), p["vb"]
    if name == "patlak":
        return np.zeros((1, 1)), np.array([p["ktrans"]]), np.ones(1), p["vp"]
    return np.array([[-p["ktrans"] / p["ve"]]]), np.array([p["ktrans"]]), np.ones(1), p.get("vp", 0.0)


@pytest.mark.parametrize("name", list(MODELS))
def test_curves_solve_the_compartment_equations(name: str) -> None:
    t, cp = _input(name)
    values = {k: v[:1] for k, v in _truth(name, 3).items()}
    A, b, w, vb = _system(name, {k: float(v[0]) for k, v in values.items()})
    at = t[:30] + 0.013
    delay = 0.17

    def rhs(s: float, x: np.ndarray) -> np.ndarray:
        return A @ x + b * np.interp(s - delay, t, cp, left=0.0)

    solved = solve_ivp(
        rhs, (0, at[-1]), np.zeros(len(b)), t_eval=at, rtol=1e-9, atol=1e-12, max_step=0.01, method="RK45"
    )
    expected = w @ solved.y + vb * np.interp(at - delay, t, cp, left=0.0)
    found = MODELS[name].curves(values, cp, t, at=at, delay=delay)[0]
    assert np.allclose(found, expected, atol=2e-6 * expected.max())


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("delayed", [False, True])
def test_noise_free_curves_give_their_parameters_back(name: str, delayed: bool) -> None:
    t, cp = _input(name)
    n = 8 if delayed else 40
    truth = _truth(name, n)
    delay = np.random.default_rng(3).uniform(0.02, 0.3, n) if delayed else np.zeros(n)
    curves = MODELS[name].curves(truth, cp, t, delay=delay)
    curves[::2, 5::7] = np.nan  # missing samples go through their own branch
    fit = fit_tracer(MODELS[name], curves, cp, t, delay=(0.0, 0.5) if delayed else None)
    for key, value in truth.items():
        assert np.allclose(fit.values[key], value, rtol=1e-6), key
    if delayed:
        assert np.allclose(fit.values["delay"], delay, atol=1e-6)
    if name == "two_tissue_irreversible":
        ki = truth["k1"] * truth["k3"] / (truth["k2"] + truth["k3"])
        assert np.allclose(fit.values["ki"], ki, rtol=1e-6)


def test_an_input_finer_than_the_samples() -> None:
    fine = np.linspace(0, 5, 501)
    cp = plasma(fine, onset=0.3)
    at = np.arange(0.05, 5.0, 0.1)
    truth = _truth("2cxm", 6)
    fit = fit_tracer(EXCHANGE, EXCHANGE.curves(truth, cp, fine, at=at), cp, fine, at=at)
    for key, value in truth.items():
        assert np.allclose(fit.values[key], value, rtol=1e-6), key


@pytest.mark.parametrize("name", ["extended_tofts", "two_tissue_irreversible", "two_tissue"])
def test_frames_are_averages(name: str) -> None:
    t, cp = _input("two_tissue")
    frames = np.stack([PET[:-1], PET[1:]], axis=1)
    truth = _truth(name, 6)
    model = MODELS[name]
    mean = model.curves(truth, cp, t, frames=frames)
    # by quadrature: the curve at Gauss points of every frame
    x, w = np.polynomial.legendre.leggauss(20)
    points = (frames[:, :1] + (x + 1) / 2 * np.diff(frames)).ravel()
    byhand = model.curves(truth, cp, t, at=points).reshape(6, len(frames), 20) @ (w / 2)
    assert np.allclose(mean, byhand, rtol=1e-9, atol=1e-12)
    fit = fit_tracer(model, mean, cp, t, frames=frames)
    for key, value in truth.items():
        assert np.allclose(fit.values[key], value, rtol=1e-6), key


def test_whole_blood_may_differ_from_plasma() -> None:
    t, cp = _input("two_tissue")
    blood = cp * (0.6 + 0.2 * np.exp(-t / 10))
    truth = _truth("two_tissue", 4)
    curves = TWO_TISSUE.curves(truth, cp, t, blood=blood)
    fit = fit_tracer(TWO_TISSUE, curves, cp, t, blood=blood)
    assert all(np.allclose(fit.values[k], v, rtol=1e-6) for k, v in truth.items())
    assert not np.allclose(fit_tracer(TWO_TISSUE, curves, cp, t).values["k1"], truth["k1"], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "delayed"), [("extended_tofts", True), ("2cum", False), ("2cxm", False), ("patlak", False)]
)
def test_standard_errors_are_the_scatter_of_repeated_noise(name: str, delayed: bool) -> None:
    t, cp = _input(name)
    n = 250
    truth = {k: np.full(n, v[0]) for k, v in _truth(name, 1).items()}
    curves = MODELS[name].curves(truth, cp, t, delay=0.1 if delayed else 0.0)
    sd = 0.003 * curves.max()
    noisy = curves + sd * np.random.default_rng(1).standard_normal(curves.shape)
    fit = fit_tracer(MODELS[name], noisy, cp, t, delay=(0.0, 0.3) if delayed else None)
    for key in truth:
        ratio = np.std(fit.values[key]) / np.nanmedian(fit.errors[key])
        assert 0.85 < ratio < 1.18, (key, ratio)
    assert np.median(fit.residual_sd) == pytest.approx(sd, rel=0.03)


def test_parameters_at_a_bound_and_empty_curves_carry_no_error() -> None:
    t, cp = _input("tofts")
    curves = np.stack(
        [EXTENDED_TOFTS.curves({"ktrans": 0.2, "ve": 0.3, "vp": 0.0}, cp, t)[0] - 0.05 * cp, 0 * cp, cp]
    )
    curves[1, :] = np.nan
    fit = fit_tracer(EXTENDED_TOFTS, curves, cp, t)
    assert fit.values["vp"][0] == 0 and np.isnan(fit.errors["vp"][0]) and np.isfinite(fit.errors["ktrans"][0])
    assert np.isnan([fit.values[k][1] for k in ("ktrans", "ve", "vp")]).all() and fit.used[1] == 0
    assert fit.values["vp"][2] == pytest.approx(1.0) and np.isnan(fit.errors["ve"][2])


def test_phi_functions_and_the_derivatives_they_carry() -> None:
    x, w = np.polynomial.legendre.leggauss(40)
    s, w = (x + 1) / 2, w / 2
    for a in (1e-12, 1e-3, 0.5, 0.999999, 1.000001, 7.0, 60.0):
        exact = [np.exp(-a)] + [
            w @ (np.exp(-a * (1 - s)) * s**n / f) for n, f in ((0, 1), (1, 1), (2, 2), (3, 6))
        ]
        assert np.allclose(phis(a), exact, rtol=2e-12, atol=1e-30), a


def test_convolution_at_any_time_is_that_of_the_refined_input() -> None:
    t, cp = _input("tofts")
    at = np.sort(np.random.default_rng(0).uniform(0, 5, 50))
    both = np.unique(np.concatenate([t, at]))
    fine = exponential_convolution(np.interp(both, t, cp), both, [0.0, 0.7])
    assert np.allclose(exponential_convolution(cp, t, [0.0, 0.7], at), fine[:, np.isin(both, at)], rtol=1e-12)


def test_bad_input_is_one_sentence() -> None:
    t, cp = _input("tofts")
    with pytest.raises(BadInput, match="ends at 5 min, before the last sample"):
        fit_tracer(PATLAK, np.zeros((1, 3)), cp, t, at=[1.0, 3.0, 6.0])
    with pytest.raises(BadInput, match="3 samples cannot determine"):
        fit_tracer(EXCHANGE, np.zeros((1, 3)), cp, t, at=[1.0, 2.0, 3.0])
    with pytest.raises(BadInput, match="'kep' is no parameter"):
        PATLAK.curves({"kep": 1.0, "vp": 0.1}, cp, t)
    with pytest.raises(BadInput, match="divides by is zero"):
        UPTAKE.curves({"fp": 0.5, "ps": 0.1, "vp": 0.0}, cp, t)
    with pytest.raises(BadInput, match="negative"):
        UPTAKE.curves({"fp": 0.5, "ps": -0.1, "vp": 0.1}, cp, t)
    with pytest.raises(BadInput, match="not finite"):
        fit_tracer(PATLAK, np.zeros((1, len(t))), np.where(t == t[3], np.nan, cp), t)
    with pytest.raises(BadInput, match="frames are not"):
        PATLAK.curves({"ktrans": 0.1, "vp": 0.1}, cp, t, frames=[[0, 1], [0.5, 2]])
