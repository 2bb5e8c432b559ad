"""Manufactured solution of the coupled system: four species, flow, exchange with drag, saturable kinetics, a mask.

The free and the protein-bound drug diffuse and are carried by a flow that vessels feed and lymphatics drain;
cells take the free drug up, receptors bind it. The domain has a quarter cut away; diffusivities jump by
four at an interface; phi and the vessels' surface vary. Solution and forcing are made by SymPy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..kinetics.plasma import Course, Dose, course
from ..physics import convection
from ..physics.drug import Binding, Drug, Exchange, Uptake
from ..physics.faces import assemble
from ..physics.pressure import Flow
from ..physics.stepper import Stepper
from ..physics.tissue import Tissue
from ..physics.transport import SCHEMES
from .forced import forced_species
from .gci import observed_orders
from .registry import Result, check
from .species_checks import one_compartment

SIDE, CUT, END = 16.0, 6.0, 0.5
DIFFUSIVITY = np.array([[4.0, 1.0], [1.2, 0.3]])
SIGMA, WALL = (0.1, 0.8), (0.5, 0.05)
KE, DOSE = 0.8, 20.0
FORTH, BACK, LOSS = 0.6, 0.3, 0.2
V_MAX, IN, OUT, CELLS = 0.02, 0.8, 0.03, 40.0
K_ON, CAPACITY, K_OFF = 0.5, 1.5, 0.4
SPECIES = ("free", "bound", "cell", "receptor")


def drug() -> Drug:
    """The agent of the manufactured system."""
    r = np.zeros((4, 4))
    for source, target, rate in ((0, 1, FORTH), (1, 0, BACK), (3, 0, K_OFF)):
        r[source, source] -= rate
        r[target, source] += rate
    r[0, 0] -= LOSS

    def two(x: float) -> np.ndarray:
        return np.full(2, x)

    return Drug(
        DIFFUSIVITY, r, SPECIES,
        exchange=(Exchange(two(WALL[0]), two(SIGMA[0])), Exchange(two(WALL[1]), two(SIGMA[1]), bound=True)),
        binding=(Binding(0, 3, two(K_ON), two(CAPACITY)),),
        uptake=(Uptake(0, 2, two(V_MAX), two(IN), two(OUT), two(CELLS)),),
    )  # fmt: skip


def plan() -> Course:
    """A bolus that decays with one rate."""
    return course(one_compartment(KE), [Dose(0.0, DOSE)])


@cache
def manufactured() -> dict[str, Any]:
    """Maps of (x, y); solutions and sources per species and tissue, of (x, y, t)."""
    import sympy as sp

    x, y, t, w = sp.symbols("x y t w", real=True)
    side, cut = sp.Integer(16), sp.Integer(6)
    # flat at x = 0, at 8 (the side of the cut-out) and at 16, in the stretched coordinate with dw/dx = 1/D
    bend = sp.integrate((w + sp.Rational(3, 2)) * (w - 2) * (w - 10), w) / 400
    waves = sp.cos(2 * sp.pi * y / side)
    phi = sp.Rational(3, 10) + sp.Rational(1, 20) * sp.cos(2 * sp.pi * y / side)
    surface = 1 + sp.cos(sp.pi * x / side) * sp.cos(sp.pi * y / side) / 2
    vx = sp.Rational(3, 2) * sp.sin(2 * sp.pi * x / side) * (1 + sp.cos(sp.pi * y / side) / 2)
    vy = sp.Rational(3, 4) * sp.sin(2 * sp.pi * y / side)
    lymph = sp.Rational(1, 5) * (1 + sp.cos(sp.pi * x / side) / 2)
    filtered = sp.diff(vx, x) + sp.diff(vy, y) + lymph
    cp = sp.Float(DOSE / 10.0) * sp.exp(-sp.Float(KE) * t)
    fields: list[list[Callable[..., Any]]] = [[], [], [], []]
    sources: list[list[Callable[..., Any]]] = [[], [], [], []]
    for tissue in range(2):
        shape = bend.subs(w, (x - cut) / sp.Float(DIFFUSIVITY[0, tissue])) * waves
        c = [
            1 + shape * sp.exp(-t / 2) / 2,
            2 - shape * sp.exp(-t / 3) / 2,
        ]
        amount = [
            phi * c[0],
            phi * c[1],
            sp.Rational(3, 5) + shape * sp.cos(t) / 5,
            sp.Rational(4, 5) + shape * sp.sin(t) / 5,
        ]
        rate = []
        for s, seen in ((0, sp.Float(0.25) * cp), (1, sp.Float(0.75) * cp)):
            d = sp.Float(DIFFUSIVITY[s, tissue])
            fx = -phi * d * sp.diff(c[s], x) + vx * c[s]
            fy = -phi * d * sp.diff(c[s], y) + vy * c[s]
            drag, ps = filtered * (1 - sp.Float(SIGMA[s])), sp.Float(WALL[s]) * surface
            pe = drag / ps
            exchange = drag * seen + ps * (seen - c[s]) * pe / (sp.exp(pe) - 1) - lymph * c[s]
            rate.append(-sp.diff(fx, x) - sp.diff(fy, y) + exchange)
        link = sp.Float(FORTH) * amount[0] - sp.Float(BACK) * amount[1]
        q = amount[2] / sp.Float(CELLS)
        cells = sp.Float(CELLS * V_MAX) * (c[0] / (c[0] + sp.Float(IN)) - q / (q + sp.Float(OUT)))
        receptor = sp.Float(K_ON) * (sp.Float(CAPACITY) - amount[3]) * c[0] - sp.Float(K_OFF) * amount[3]
        rate[0] += -link - cells - receptor - sp.Float(LOSS) * amount[0]
        rate[1] += link
        rate += [cells, receptor]
        for s in range(4):
            fields[s].append(sp.lambdify((x, y, t), amount[s], "numpy", cse=True))
            sources[s].append(sp.lambdify((x, y, t), sp.diff(amount[s], t) - rate[s], "numpy", cse=True))
    maps = {"phi": phi, "surface": surface, "vx": vx, "vy": vy, "lymph": lymph, "filtered": filtered}
    return {
        **{name: sp.lambdify((x, y), value, "numpy") for name, value in maps.items()},
        "fields": fields, "sources": sources,
    }  # fmt: skip


class Problem:
    """The manufactured problem on n x n voxels."""

    def __init__(self, n: int) -> None:
        h = SIDE / n
        shape = (1, n, n)  # long rows: the kernels work along the last axis
        centre = (np.arange(n) + 0.5) * h
        labels = np.where(centre > CUT, 2, 1)[None, :, None] * np.ones(shape, dtype=int)
        mask = np.ones(shape, dtype=bool)
        mask[0, n // 2 :, n // 2 :] = False
        self.faces = assemble(Grid(shape, (h, h, h)), mask, labels, {"a": 1, "b": 2})
        self.maps = manufactured()
        _, self.x, self.y = (self.faces.grid.points(mask) + 0.5 * h).T
        edge = np.arange(n + 2) * h - h
        middle = edge + 0.5 * h
        vx, vy = np.zeros(self.faces.box), np.zeros(self.faces.box)
        vx[:, :, : n + 2] = self.maps["vx"](edge[:, None], middle[None, :])
        vy[:, :, : n + 2] = self.maps["vy"](middle[:, None], edge[None, :])
        for axis, v in ((1, vx), (2, vy)):
            v[self.faces.face_group[axis] == 0] = 0.0
        one = np.ones(self.faces.n)
        flow = Flow(
            one, (np.zeros(self.faces.box), vx, vy), self.at("filtered"), self.at("lymph"), 0 * one, 0 * one,
            0 * one, 0.0, 0,
        )  # fmt: skip
        self.tissue = Tissue(self.faces, 0 * one, self.at("phi"), flow=flow, surface=self.at("surface"))

    def at(self, name: str) -> np.ndarray:
        """A map at the cells' centres."""
        return np.broadcast_to(self.maps[name](self.x, self.y), self.x.shape).copy()

    def values(self, name: str, t: float) -> np.ndarray:
        """Fields or sources at the centres, (4, n)."""
        return np.array(
            [np.where(self.x < CUT, *(f(self.x, self.y, t) for f in two)) for two in self.maps[name]]
        )

    def stepper(self, scheme: str, change: float) -> Stepper:
        """The transport model's own."""
        return Stepper(self.tissue, drug(), plan(), SCHEMES[scheme], change=change)


def space(sizes: list[int], scheme: str) -> list[list[float]]:
    """Mean absolute error of every species at the end per grid, the step so fine that its error is far smaller."""
    found = []
    for n in sizes:
        problem = Problem(n)
        steps = round(20 * (n / 16) ** 2)
        got = forced_species(
            problem.stepper(scheme, 0.1), problem.values("fields", 0.0), partial(problem.values, "sources"), END, steps
        )  # fmt: skip
        found.append(np.abs(got - problem.values("fields", END)).mean(axis=1).tolist())
    return found


def time(counts: list[int]) -> list[float]:
    """Largest error where space is exact: the source is made with the discrete operator itself."""
    problem = Problem(12)
    early, late = problem.values("fields", 0.3), problem.values("fields", 1.1)
    stepper = problem.stepper("upwind", 1e9)
    moved_early, moved_late = _moved(stepper, early), _moved(stepper, late)

    def mix(t: float) -> tuple[float, float]:
        return float(np.cos(0.7 * t) ** 2), float(np.sin(0.7 * t) ** 2)

    def field(t: float) -> np.ndarray:
        a, b = mix(t)
        return np.asarray(a * early + b * late)

    def source(t: float) -> np.ndarray:
        a, b = mix(t)
        slope = 0.7 * float(np.sin(1.4 * t)) * (late - early)
        return np.asarray(slope - a * moved_early - b * moved_late - _local(problem, field(t), t))

    def error(count: int) -> float:
        got = forced_species(problem.stepper("upwind", 1e9), field(0.0), source, 1.0, count)
        return float(np.abs(got - field(1.0)).max())

    return [error(count) for count in counts]


def _moved(stepper: Stepper, amount: np.ndarray) -> np.ndarray:
    """The discrete transport operator on all species, (4, n)."""
    tissue, out = stepper.tissue, np.zeros_like(amount)
    for s in range(2):
        rate = np.zeros(tissue.faces.box)
        convection.transport_rate(
            tissue.faces.boxed(amount[s] / tissue.phi), stepper.g[s], stepper.v, tissue.pace, True, tissue.faces.face_group,
            tissue.faces.rows, stepper.scheme, rate,
        )  # fmt: skip
        out[s] = rate.ravel()[tissue.faces.place]
    return out


def _local(problem: Problem, amount: np.ndarray, t: float) -> np.ndarray:
    """Local kinetics written out, (4, n)."""
    phi, surface, lymph = problem.at("phi"), problem.at("surface"), problem.at("lymph")
    cp = DOSE / 10.0 * np.exp(-KE * t)
    out = []
    for s, share in ((0, 0.25), (1, 0.75)):
        drag, ps, c = problem.at("filtered") * (1.0 - SIGMA[s]), WALL[s] * surface, amount[s] / phi
        pe = drag / ps
        out.append(drag * share * cp + ps * (share * cp - c) * pe / np.expm1(pe) - lymph * c)
    link = FORTH * amount[0] - BACK * amount[1]
    c, q = amount[0] / phi, amount[2] / CELLS
    cells = CELLS * V_MAX * (c / (c + IN) - q / (q + OUT))
    receptor = K_ON * (CAPACITY - amount[3]) * c - K_OFF * amount[3]
    out[0] = out[0] - link - cells - receptor - LOSS * amount[0]
    out[1] = out[1] + link
    return np.array([*out, cells, receptor])


_MMS = "manufactured solution, forcing by SymPy (Roache 2002); a quarter cut away, D jumps by four, phi and S/V vary"


def _space(sizes: list[int], scheme: str, within: float) -> Result:
    errors = space(sizes, scheme)
    spacing = [SIDE / n for n in sizes]
    result: dict[str, Any] = {"cells_per_side": sizes}
    good = True
    for s, name in enumerate(SPECIES):
        mine = [e[s] for e in errors]
        orders = observed_orders(spacing, mine)
        good &= abs(orders[-1] - 2.0) <= within
        result |= {f"error_{name}": mine, f"order_{name}": orders}
    return good, result


@check(
    "transport.mms.coupled.central",
    "Four coupled species with flow, drag, lymph, saturable binding and uptake converge at second order in space",
    "order 2 within 0.1 for every species on the two finest of at least four grids",
    _MMS,
)
def central(quick: bool) -> Result:
    """Central convection."""
    return _space([16, 24, 32, 48] if quick else [16, 24, 32, 48, 64], "central", 0.1)


@check(
    "transport.mms.coupled.limited",
    "The same with limited (van Leer) convection",
    "order 2 within 0.2 for every species on the two finest of at least four grids",
    _MMS,
)
def limited(quick: bool) -> Result:
    """Van Leer."""
    return _space([16, 24, 32, 48] if quick else [16, 24, 32, 48, 64], "van_leer", 0.2)


@check(
    "transport.mms.coupled.time",
    "The coupled system converges at second order in time where its kinetics are not stiff",
    "order 2 within 0.1 on the two finest of at least four steps",
    "manufactured solution that is exact in space: the source uses the discrete operator",
)
def in_time(quick: bool) -> Result:
    """No halving of steps by the saturable kinetics."""
    counts = [10, 20, 40, 80] if quick else [10, 20, 40, 80, 160]
    errors = time(counts)
    orders = observed_orders([1.0 / c for c in counts], errors)
    return abs(orders[-1] - 2.0) <= 0.1, {"steps": counts, "max_error": errors, "order": orders}
