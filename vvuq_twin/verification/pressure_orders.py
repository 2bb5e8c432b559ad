"""Manufactured solution of interstitial pressure on a heterogeneous masked domain with mixed edges."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..physics.faces import assemble
from ..physics.interstitium import Interstitium
from ..physics.pressure import Boundary, interstitial_flow
from .gci import observed_orders
from .registry import Result, check

SIDE, CUT = 24.0, 9.0
FIXED = 2.0
#: Labels of inactive voxels: a fixed pressure above, bone in the corner that is cut away.
ABOVE, BONE = 9, 8
LYMPH = (0.0, 0.03)


@cache
def manufactured() -> dict[str, list[Callable[..., Any]]]:
    """Pressure, flow, conductivity and infusion per tissue, functions of (x, y, z)."""
    import sympy as sp

    x, y, z = sp.symbols("x y z", real=True)
    side, cut = sp.Integer(24), sp.Integer(9)
    k = [sp.Integer(4), sp.Integer(1)]
    b = [sp.Rational(1, 20), sp.Rational(1, 50)]
    low, high = -cut / k[0], (side - cut) / k[1]
    v = z / side
    # flat at the floor and at half height (the roof of the cut-out), fixed with a slope at the top
    rise = 4 * v**3 - 3 * v**2 - 1
    found: dict[str, list[Callable[..., Any]]] = {
        "p": [],
        "vx": [],
        "vy": [],
        "vz": [],
        "k": [],
        "b": [],
        "q": [],
    }
    for ki, bi, lymph in zip(k, b, LYMPH):
        s = ((x - cut) / ki - low) / (high - low)
        p = sp.Rational(FIXED) + 3 * sp.cos(sp.pi * s) * sp.cos(2 * sp.pi * y / side) * rise
        kappa = ki * (1 + sp.Rational(3, 10) * sp.cos(sp.pi * y / side) * sp.cos(sp.pi * z / side))
        beta = bi * (1 + sp.Rational(1, 2) * sp.sin(sp.pi * y / side))
        flux = [-kappa * sp.diff(p, a) for a in (x, y, z)]
        q = sum(sp.diff(f, a) for f, a in zip(flux, (x, y, z))) - beta * (7 - p) + sp.Float(lymph) * (p - 1)
        for name, value in zip(found, (p, *flux, kappa, beta, q)):
            found[name].append(sp.lambdify((x, y, z), value, "numpy", cse=True))
    return found


def solve(n: int) -> tuple[float, float]:
    """Root mean square errors of pressure (mmHg) and of the velocity along x (mm/h), n cells per side."""
    h = SIDE / n
    shape = (n, n, n + 1)
    labels = np.ones(shape, dtype=int)
    labels[(np.arange(n) + 0.5) * h > CUT] = 2
    labels[:, n // 2 :, n // 2 : n] = BONE
    labels[:, :, n] = ABOVE
    mask = labels < BONE
    faces = assemble(Grid(shape, (h, h, h)), mask, labels, {"a": 1, "b": 2})
    points = (faces.grid.points(mask) + 0.5 * h).T
    functions = manufactured()

    def at(name: str, place: np.ndarray) -> np.ndarray:
        return np.where(place[0] < CUT, *(f(*place) for f in functions[name]))

    one = np.ones(faces.n)
    tissue = Interstitium(
        faces, at("k", points), at("b", points), 7.0 * one, np.array(LYMPH)[faces.label], one
    )
    boundary = Boundary(labels={ABOVE: FIXED, BONE: None}, outside=labels)
    flow = interstitial_flow(tissue, boundary, at("q", points))
    error = float(np.sqrt(np.mean((flow.pressure - at("p", points)) ** 2)))
    high = faces.neighbours[0][1]
    below = points[:, high] - np.array([[0.5 * h], [0.0], [0.0]])
    speed = flow.velocity[0].ravel()[faces.place[high]]
    # left of the interface by a hair: the flux is continuous there
    below[0] -= 1e-9
    return error, float(np.sqrt(np.mean((speed - at("vx", below)) ** 2)))


@check(
    "pressure.mms",
    "Pressure and velocity converge at second order with K that jumps and varies, lymphatics, a re-entrant mask, fixed "
    "and closed edges",
    "order 2 within 0.1 on the two finest of at least four grids for pressure, at least 1.4 for the velocity",
    "manufactured solution, forcing by SymPy (Roache 2002)",
)
def mms(quick: bool) -> Result:
    """K jumps by four at an interface between cells."""
    sizes = [8, 16, 24, 32] if quick else [8, 16, 24, 32, 48]
    errors = [solve(n) for n in sizes]
    spacing = [SIDE / n for n in sizes]
    pressure = observed_orders(spacing, [e for e, _ in errors])
    speed = observed_orders(spacing, [e for _, e in errors])
    passed = abs(pressure[-1] - 2.0) <= 0.1 and speed[-1] >= 1.4
    return passed, {
        "cells_per_side": sizes, "rms_error_mmHg": [e for e, _ in errors], "order": pressure,
        "velocity_error_mm_per_h": [e for _, e in errors], "velocity_order": speed,
    }  # fmt: skip
