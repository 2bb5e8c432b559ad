"""Tracer models, their fits, and absorbed dose: what quantities from images rest on."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from ..imaging import dose
from ..imaging.t1 import spoiled_gradient_echo, t1_nonlinear
from ..kinetics.aif import plasma
from ..kinetics.fit import fit_tracer
from ..kinetics.tracer import MODELS
from .registry import Result, check, largest

TIMES = np.linspace(0.0, 6.0, 61)
TRUTH = {
    "tofts": {"ktrans": 0.25, "ve": 0.3},
    "extended_tofts": {"ktrans": 0.25, "ve": 0.3, "vp": 0.05},
    "patlak": {"ktrans": 0.04, "vp": 0.05},
    "2cum": {"fp": 0.4, "ps": 0.08, "vp": 0.06},
    "2cxm": {"fp": 0.4, "ps": 0.12, "vp": 0.06, "ve": 0.25},
    "two_tissue_irreversible": {"k1": 0.3, "k2": 0.6, "k3": 0.1, "vb": 0.05},
    "two_tissue": {"k1": 0.3, "k2": 0.6, "k3": 0.3, "k4": 0.1, "vb": 0.05},
}


def _compartments(name: str, p: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Rates between compartments, what the plasma feeds, what is seen, and the blood's share."""
    if name in ("2cxm", "2cum"):
        ve, back = (p["ve"], p["ps"]) if name == "2cxm" else (1.0, 0.0)
        rates = [[-(p["fp"] + p["ps"]) / p["vp"], back / p["vp"]], [p["ps"] / ve, -back / ve]]
        return np.array(rates), np.array([p["fp"] / p["vp"], 0.0]), np.array([p["vp"], ve]), 0.0
    if name.startswith("two_tissue"):
        k4 = p.get("k4", 0.0)
        rates = [[-(p["k2"] + p["k3"]), k4], [p["k3"], -k4]]
        return np.array(rates), np.array([p["k1"], 0.0]), np.full(2, 1.0 - p["vb"]), p["vb"]
    out = p["ktrans"] / p["ve"] if "ve" in p else 0.0
    return np.array([[-out]]), np.array([p["ktrans"]]), np.ones(1), p.get("vp", 0.0)


def _by_exponential(name: str, cp: np.ndarray) -> np.ndarray:
    """The compartments with an input linear between samples: one matrix exponential a step, exact."""
    rates, feed, seen, share = _compartments(name, TRUTH[name])
    n = len(rates)
    state, out = np.zeros(n), [share * cp[0]]
    for i, h in enumerate(np.diff(TIMES)):
        whole = np.zeros((n + 2, n + 2))
        whole[:n, :n], whole[:n, n], whole[n, n + 1] = rates, feed, 1.0
        begun = np.concatenate([state, [cp[i], (cp[i + 1] - cp[i]) / h]])
        state = (linalg.expm(h * whole) @ begun)[:n]
        out.append(float(seen @ state) + share * cp[i + 1])
    return np.array(out)


@check(
    "tracer.curves",
    "Every tracer model is its compartments with an input that is linear between samples",
    "below 1e-11 of the peak for all models",
    "compartment equations by the matrix exponential of the system with its input",
)
def curves(quick: bool) -> Result:
    """Tofts to two tissue compartments."""
    cp = plasma(TIMES, onset=0.3)
    found = {}
    for name, values in TRUTH.items():
        exact = _by_exponential(name, cp)
        found[name] = float(np.abs(MODELS[name].curves(values, cp, TIMES)[0] - exact).max() / exact.max())
    return largest(found.values()) < 1e-11, found


@check(
    "tracer.recovery",
    "Fits give the parameters of noise-free curves back, with a delay of the bolus as well",
    "relative error below 1e-6 for all models",
    "the parameters that the curves were made with",
)
def recovery(quick: bool) -> Result:
    """All models; the delay is 0.13 min."""
    cp = plasma(TIMES, onset=0.3)
    found = {}
    for name, values in TRUTH.items():
        for delay in (0.0, 0.13):
            curve = MODELS[name].curves(values, cp, TIMES, delay=delay)
            fit = fit_tracer(MODELS[name], curve, cp, TIMES, delay=(0.0, 0.4) if delay else None)
            off = largest(abs(float(fit.values[k][0]) / v - 1.0) for k, v in values.items())
            found[f"{name}{' delayed' if delay else ''}"] = off
    return largest(found.values()) < 1e-6, found


@check(
    "t1.recovery",
    "T1 by variable flip angle is recovered, with a transmit field that is not one as well",
    "relative error below 1e-9",
    "the T1 that the signals were made with",
)
def t1_recovery(quick: bool) -> Result:
    """Three angles, T1 of 0.2 to 4 s."""
    t1, b1, flips = np.geomspace(0.2, 4.0, 9), np.linspace(0.7, 1.2, 9), np.deg2rad([2.0, 10.0, 20.0])
    signal = np.stack([spoiled_gradient_echo(900.0, 1.0 / t1, a * b1, 0.005) for a in flips])
    error = float(np.abs(t1_nonlinear(signal, flips, 0.005, b1).t1 / t1 - 1.0).max())
    return error < 1e-9, {"relative_error": error}


@check(
    "dose.energy",
    "A voxel kernel's energy is that of the decay, and a convolution loses none of it",
    "relative error below 1e-12 for the kernel and for emitted = deposited + escaped, 1e-6 for the local limit",
    "conservation of energy; local deposition where nothing leaves the voxel",
)
def energy(quick: bool) -> Result:
    """Lutetium-177 in voxels of 4 mm, a source in the middle of an image of uneven density."""
    source, spacing = dose.nuclide("lutetium177"), (4.0, 4.0, 4.0)
    kernel = dose.make_kernel(source, spacing, reach=20.0)
    integral = np.zeros((13, 13, 13))
    integral[6, 5:8, 6] = 1e6, 3e6, 2e6
    density = np.linspace(0.5, 1.5, integral.size).reshape(integral.shape)
    found = dose.kernel_dose(integral, kernel, spacing, density)
    mass = density * 64e-6
    near = dose.Nuclide("near", 1.0, (dose.Emission("electrons", source.emissions[0].energy, 1e-9),))
    local = dose.kernel_dose(integral, dose.make_kernel(near, spacing, reach=8.0), spacing).dose
    expected = dose.local_dose(integral, near.energy)
    errors = {
        "kernel": abs((float(kernel.deposit.sum()) + kernel.outside) / source.energy - 1.0),
        "balance": abs((float((found.dose * mass).sum()) + found.escaped) / found.emitted - 1.0),
        "local_limit": float(np.abs(local - expected).max() / expected.max()),
    }
    return largest((errors["kernel"], errors["balance"])) < 1e-12 and errors["local_limit"] < 1e-6, errors
