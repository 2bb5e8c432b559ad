"""Manufactured solutions of transport: diffusion, convection, exchange and loss with varying maps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
from ..physics.faces import assemble
from ..physics.tissue import Drug, Tissue
from .forced import forced_transport
from .gci import observed_orders
from .registry import Result, check

SIDE, END = 16.0, 1.5
DIFFUSIVITY = (4.0, 1.0)
LOSS, KE, VOLUME, DOSE, UNBOUND = 0.4, 0.8, 10.0, 20.0, 0.7


@cache
def manufactured() -> dict[str, Callable[..., Any] | list[Callable[..., Any]]]:
    """Maps as functions of (x, y, speed); solution and source, one per tissue, of (x, y, a, b, speed).

    They are linear in a = exp(-t/2) and b = exp(-KE t).
    """
    import sympy as sp

    x, y, t, speed, a, b = sp.symbols("x y t speed a b", real=True)
    side, cut = sp.Integer(16), sp.Integer(6)
    d = [sp.Integer(4), sp.Integer(1)]
    phi = sp.Rational(3, 10) + sp.Rational(1, 10) * sp.cos(sp.pi * y / side)
    ktrans = 1 + sp.cos(sp.pi * x / side) * sp.cos(sp.pi * y / side) / 2
    vx = speed * sp.sin(sp.pi * x / side) * (1 + sp.cos(sp.pi * y / side) / 2)
    vy = speed * sp.sin(sp.pi * y / side) * sp.Rational(1, 2)
    low, high = -cut / d[0], (side - cut) / d[1]
    cp = sp.Float(DOSE / VOLUME) * b
    amounts: list[Callable[..., Any]] = []
    sources: list[Callable[..., Any]] = []
    for di in d:
        s = ((x - cut) / di - low) / (high - low)
        c = 1 + sp.Rational(1, 2) * sp.cos(sp.pi * s) * sp.cos(sp.pi * y / side) * sp.exp(-t / 2)
        flux_x, flux_y = -phi * di * sp.diff(c, x) + vx * c, -phi * di * sp.diff(c, y) + vy * c
        f = phi * sp.diff(c, t) + sp.diff(flux_x, x) + sp.diff(flux_y, y)
        f += -ktrans * (sp.Float(UNBOUND) * cp - c) + sp.Float(LOSS) * phi * c
        for expression, found in ((phi * c, amounts), (f, sources)):
            linear = expression.subs(sp.exp(-t / 2), a)
            found.append(sp.lambdify((x, y, a, b, speed), linear, "numpy", cse=True))
    plain = {
        name: sp.lambdify((x, y, speed), value, "numpy")
        for name, value in {"phi": phi, "ktrans": ktrans, "vx": vx, "vy": vy}.items()
    }
    return {**plain, "amount": amounts, "source": sources}


def parts(functions: list[Callable[..., Any]], x: np.ndarray, y: np.ndarray, speed: float) -> np.ndarray:
    """Constant part and factors of exp(-t/2) and exp(-KE t), shape (3, n)."""
    at = [np.where(x < 6.0, *(f(x, y, a, b, speed) for f in functions)) for a, b in ((0, 0), (1, 0), (0, 1))]
    return np.array([at[0], at[1] - at[0], at[2] - at[0]])


def at_time(part: np.ndarray, t: float) -> np.ndarray:
    """The field at time t, shape (n,)."""
    return np.asarray(part[0] + np.exp(-0.5 * t) * part[1] + np.exp(-KE * t) * part[2])


def errors(sizes: list[int], speed: float, scheme: str) -> list[float]:
    """Mean absolute error of C at the end per grid, the step so fine (as h^2) that its error is far smaller."""
    maps: dict[str, Any] = manufactured()
    names = ("central",)
    model = PlasmaModel(names, rate_matrix(names, {("central", "out"): KE}), VOLUME, UNBOUND)
    plan = course(model, [Dose(0.0, DOSE)])
    found = []
    for n in sizes:
        h = SIDE / n
        shape = (1, n, n)  # long rows: the kernels work along the last axis
        centre = (np.arange(n) + 0.5) * h
        labels = np.where(centre > 6.0, 2, 1)[None, :, None] * np.ones(shape, dtype=int)
        faces = assemble(Grid(shape, (h, h, h)), np.ones(shape, bool), labels, {"white": 1, "grey": 2})
        x, y = np.broadcast_arrays(centre[:, None], centre[None, :])
        x, y = x.ravel(), y.ravel()
        velocity = None
        if speed:
            edge = np.arange(n + 2) * h - h  # the face below box cell i
            middle = edge + 0.5 * h
            vx, vy = np.zeros(faces.box), np.zeros(faces.box)
            vx[:, :, : n + 2] = maps["vx"](edge[:, None], middle[None, :], speed)
            vy[:, :, : n + 2] = maps["vy"](middle[:, None], edge[None, :], speed)
            velocity = (np.zeros(faces.box), vx, vy)
        phi = np.broadcast_to(maps["phi"](x, y, speed), x.shape).copy()
        tissue = Tissue(faces, maps["ktrans"](x, y, speed), phi, velocity=velocity)

        amount = parts(maps["amount"], x, y, speed)
        source = parts(maps["source"], x, y, speed)
        steps = round(80 * (n / sizes[0]) ** 2)
        drug = Drug(np.array(DIFFUSIVITY), np.array([[-LOSS]]))
        got = forced_transport(
            tissue, drug, plan, at_time(amount, 0.0), partial(at_time, source), END, steps, scheme
        )
        found.append(float(np.mean(np.abs(got - at_time(amount, END)))))
    return found


def _run(quick: bool, speed: float, scheme: str, expected: float, within: float) -> Result:
    # the kink of c at the interface is convected too: its layer needs finer grids than diffusion alone
    sizes = [16, 24, 32, 48] if speed else [8, 16, 24, 32]
    sizes += [] if quick else [64 if speed else 48]
    e = errors(sizes, speed, scheme)
    orders = observed_orders([SIDE / n for n in sizes], e)
    return abs(orders[-1] - expected) <= within, {"cells_per_side": sizes, "mean_error": e, "order": orders}


_MMS = "manufactured solution, forcing by SymPy; phi and Ktrans vary in space, D jumps by four, a live plasma"


@check(
    "transport.mms.diffusion",
    "Transport by diffusion with exchange and loss converges at second order",
    "order 2 within 0.1 on the two finest of at least four grids",
    _MMS,
)
def diffusion(quick: bool) -> Result:
    """No flow."""
    return _run(quick, 0.0, "upwind", 2.0, 0.1)


@check(
    "transport.mms.convection.limited",
    "With a given flow the limited (van Leer) scheme converges at second order in the mean",
    "order 2 within 0.25 on the two finest of at least four grids",
    _MMS,
)
def limited(quick: bool) -> Result:
    """Van Leer."""
    return _run(quick, 1.0, "van_leer", 2.0, 0.25)


@check(
    "transport.mms.convection.central",
    "With a given flow the central scheme converges at second order",
    "order 2 within 0.1 on the two finest of at least four grids",
    _MMS,
)
def central(quick: bool) -> Result:
    """Central."""
    return _run(quick, 1.0, "central", 2.0, 0.1)


@check(
    "transport.mms.convection.upwind",
    "With a given flow the upwind scheme, the one that is projected, converges at first order",
    "order 1 within 0.15 on the two finest of at least four grids",
    _MMS,
)
def upwind(quick: bool) -> Result:
    """Upwind."""
    return _run(quick, 1.0, "upwind", 1.0, 0.15)
