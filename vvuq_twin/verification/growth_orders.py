"""Manufactured solutions of growth: order in space (time error negligible) and in time (space exact).

Method: Roache 2002, J. Fluids Eng. 124:4; the forcing is derived by SymPy. The solution bends at the
interface of two tissues so that its flux is continuous, and is flat across every face of the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..physics.faces import Faces, assemble
from .forced import forced_growth
from .gci import least_squares_order, observed_orders
from .registry import Result, check

SIDE, CUT = 24.0, 9.0
#: Quick diffusion: the layer at the interface (sqrt(D t)) must be wider than a cell to be in its asymptotic range.
DIFFUSIVITY = np.array([8.0, 2.0])
RATE, END = 0.3, 1.5


def build(n: int, masked: bool, labelled: bool, spacing: tuple[float, float, float] | None = None) -> Faces:
    """A cube of side 24 mm, with a quarter of its cross-section cut away, of one or two tissues."""
    h = SIDE / n
    grid = Grid((n, n, n), spacing or (h, h, h))
    x = (np.arange(n) + 0.5) * h
    labels = np.ones(grid.shape, dtype=int)
    if labelled:
        labels[x > CUT] = 2
    mask = np.ones(grid.shape, dtype=bool)
    if masked:
        mask[:, n // 2 :, n // 2 :] = False
    return assemble(grid, mask, labels, {"white": 1, "grey": 2})


@cache
def manufactured(labelled: bool) -> tuple[list[list[Callable[..., Any]]], list[list[Callable[..., Any]]]]:
    """The exact solution and its source per tissue: coefficients, functions of (x, y, z), of powers of exp(-t/2)."""
    import sympy as sp

    x, y, z, t = sp.symbols("x y z t", real=True)
    decay = sp.Symbol("decay", positive=True)
    d = [sp.Integer(8), sp.Integer(2 if labelled else 8)]
    cut, side, k = sp.Integer(9), sp.Integer(24), sp.Rational(3, 10)
    # stretched coordinate with ds/dx = 1/D: D du/dx is continuous where D jumps
    low, high = -cut / d[0], (side - cut) / d[1]
    exact: list[list[Callable[..., Any]]] = []
    source: list[list[Callable[..., Any]]] = []
    for di in d:
        s = ((x - cut) / di - low) / (high - low)
        shape = sp.cos(sp.pi * s) * sp.cos(2 * sp.pi * y / side) * sp.cos(2 * sp.pi * z / side)
        u = sp.Rational(1, 2) + sp.Rational(3, 10) * shape * sp.exp(-t / 2)
        f = sp.diff(u, t) - di * sum(sp.diff(u, q, 2) for q in (x, y, z)) - k * u * (1 - u)
        for expression, found in ((u, exact), (f, source)):
            plain = sp.expand(sp.expand(expression).subs(t, -2 * sp.log(decay)))
            powers = sp.Poly(plain, decay).all_coeffs()[::-1]
            found.append([sp.lambdify((x, y, z), sp.factor_terms(c), "numpy") for c in powers])
    return exact, source


def coefficients(faces: Faces, functions: list[list[Callable[..., Any]]]) -> np.ndarray:
    """Coefficient fields at the cell centres, shape (powers, n)."""
    points = faces.grid.points(faces.mask) + 0.5 * np.asarray(faces.grid.spacing)
    out = np.zeros((len(functions[0]), faces.n))
    for tissue, ones in enumerate(functions):
        mine = faces.label == tissue
        for power, function in enumerate(ones):
            out[power, mine] = function(*points[mine].T)
    return out


def at_time(coefficient: np.ndarray, t: float) -> np.ndarray:
    """The field at time t, shape (n,)."""
    return np.asarray(np.exp(-0.5 * t) ** np.arange(len(coefficient)) @ coefficient)


def source_of(u: np.ndarray, f: np.ndarray, exponent: float, t: float) -> np.ndarray:
    """The source at time t; that of Gompertz's law differs by its reaction."""
    if exponent == 1.0:
        return at_time(f, t)
    now = at_time(u, t)
    return np.asarray(at_time(f, t) + RATE * now * (1.0 - now + np.log(now)))


def spatial_errors(sizes: list[int], masked: bool, labelled: bool, exponent: float = 1.0) -> list[float]:
    """Root mean square error at the end, the time step so fine (as h^2) that its error is far smaller."""
    exact, source = manufactured(labelled)
    errors = []
    for n in sizes:
        faces = build(n, masked, labelled)
        u, f = coefficients(faces, exact), coefficients(faces, source)
        steps = round(10 * (n / sizes[0]) ** 2)
        d = DIFFUSIVITY if labelled else DIFFUSIVITY[[0, 0]]
        source_at = partial(source_of, u, f, exponent)
        got = forced_growth(faces, at_time(u, 0.0), d, RATE, source_at, END, steps, exponent)
        errors.append(float(np.sqrt(np.mean((got - at_time(u, END)) ** 2))))
    return errors


def temporal_errors(
    step_counts: list[int], n: int, end: float, labelled: bool, exponent: float = 1.0
) -> list[float]:
    """Maximum error where space is exact: the source is made with the discrete operator itself."""
    exact, _ = manufactured(labelled)
    faces = build(n, True, labelled)
    d = DIFFUSIVITY if labelled else DIFFUSIVITY[[0, 0]]
    a = faces.operator(d)
    shape = coefficients(faces, exact)[1] / 0.3
    curved = a @ shape

    def u(t: float) -> np.ndarray:
        return np.asarray(0.5 + 0.3 * np.cos(0.9 * t) * shape)

    def source(t: float) -> np.ndarray:
        now = u(t)
        slope = -0.27 * np.sin(0.9 * t) * shape
        reaction = now * (1.0 - now) if exponent == 1.0 else -now * np.log(now)
        return np.asarray(slope - 0.3 * np.cos(0.9 * t) * curved - RATE * reaction)

    return [
        float(np.abs(forced_growth(faces, u(0.0), d, RATE, source, end, steps, exponent) - u(end)).max())
        for steps in step_counts
    ]


def _space(quick: bool, masked: bool, labelled: bool, exponent: float = 1.0) -> Result:
    sizes = [8, 16, 24, 32] if quick else [8, 16, 24, 32, 40]
    errors = spatial_errors(sizes, masked, labelled, exponent)
    orders = observed_orders([SIDE / n for n in sizes], errors)
    fit = least_squares_order([SIDE / n for n in sizes], errors)[1]
    passed = abs(orders[-1] - 2.0) <= 0.1 and errors[-1] < 1e-3
    return passed, {"cells_per_side": sizes, "rms_error": errors, "order": orders, "order_fit": fit}


_ACCEPT = "order 2 within 0.1 on the two finest of at least four grids, error below 1e-3"
_MMS = "manufactured solution, forcing by SymPy (Roache 2002)"


@check("growth.mms.space.uniform", "Growth converges at second order in space, one tissue", _ACCEPT, _MMS)
def uniform(quick: bool) -> Result:
    """One tissue, full cube."""
    return _space(quick, False, False)


@check("growth.mms.space.tissues", "Second order where diffusivity jumps by a factor of four", _ACCEPT, _MMS)
def tissues(quick: bool) -> Result:
    """Two tissues, full cube."""
    return _space(quick, False, True)


@check("growth.mms.space.masked", "Second order with two tissues inside a re-entrant mask", _ACCEPT, _MMS)
def masked(quick: bool) -> Result:
    """Two tissues and the mask."""
    return _space(quick, True, True)


@check(
    "growth.mms.space.gompertz",
    "Gompertz growth converges at second order in space, in the mask",
    _ACCEPT,
    _MMS,
)
def gompertz_space(quick: bool) -> Result:
    """Two tissues and the mask, dN/dt = -k N log N."""
    return _space(quick, True, True, 0.0)


def _time(counts: list[int], n: int, end: float, exponent: float = 1.0) -> Result:
    errors = temporal_errors(counts, n, end, True, exponent)
    orders = observed_orders([end / c for c in counts], errors)
    return abs(orders[-1] - 2.0) <= 0.1, {"steps": counts, "max_error": errors, "order": orders}


@check(
    "growth.mms.time.explicit",
    "Growth converges at second order in time (two-stage diffusion)",
    "order 2 within 0.1 on the two finest of at least four steps",
    "manufactured solution that is exact in space: the source uses the discrete operator",
)
def time_explicit(quick: bool) -> Result:
    """Steps within the explicit limit."""
    return _time([16, 32, 64, 128] if quick else [16, 32, 64, 128, 256], 8, 4.0)


@check(
    "growth.mms.time.gompertz",
    "Gompertz growth converges at second order in time",
    "order 2 within 0.1 on the two finest of at least four steps",
    "manufactured solution that is exact in space: the source uses the discrete operator",
)
def time_gompertz(quick: bool) -> Result:
    """Steps within the explicit limit, dN/dt = -k N log N."""
    return _time([16, 32, 64, 128], 8, 4.0, 0.0)


@check(
    "growth.mms.time.super",
    "Growth converges at second order in time (super-time-stepping far beyond the explicit limit)",
    "order 2 within 0.15 on the two finest of at least four steps, the coarsest 5 times the limit or more",
    "manufactured solution that is exact in space: the source uses the discrete operator",
)
def time_super(quick: bool) -> Result:
    """Steps far beyond the explicit limit."""
    n, end, counts = 48, 2.0, [8, 16, 32, 64]
    limit = (SIDE / n) ** 2 / (6.0 * DIFFUSIVITY.max())
    errors = temporal_errors(counts, n, end, False)
    orders = observed_orders([end / c for c in counts], errors)
    beyond = float(end / counts[0] / limit)
    passed = abs(orders[-1] - 2.0) <= 0.15 and beyond >= 5.0
    return passed, {"steps": counts, "coarsest_over_limit": beyond, "max_error": errors, "order": orders}
