"""How splitting transport from local kinetics converges: where kinetics are slow, and where they are stiff."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..domain.grid import Grid
from ..kinetics.plasma import Course, Dose, course
from ..physics.agents import load_agent
from ..physics.drug import Drug
from ..physics.faces import assemble
from ..physics.interstitium import Interstitium, load_fluid_tissues
from ..physics.pressure import Boundary, interstitial_flow
from ..physics.tissue import Tissue
from ..physics.transport import transport
from .gci import observed_orders
from .registry import Result, check

#: Steps in seconds, the published one among them, and the one that stands for the limit.
STEPS, FINEST, END = [240.0, 120.0, 60.0, 30.0], 3.75, 1.0


def rim() -> Tissue:
    """A row of voxels of 0.1 mm across a tumour's rim, with its pressure and flow."""
    n = 60
    grid = Grid((n, 1, 1), (0.1, 0.1, 0.1))
    labels = np.where(np.arange(n) < n // 2, 1, 2)[:, None, None]
    faces = assemble(grid, np.ones(grid.shape, bool), labels, {"tumour": 1, "normal": 2})
    table = load_fluid_tissues()
    return Tissue.of(faces, table, interstitial_flow(Interstitium.of(faces, table), Boundary()))


def smooth() -> Tissue:
    """The same row inside a tumour whose vessels and pressure vary smoothly, flat at both ends."""
    n = 60
    grid = Grid((n, 1, 1), (0.1, 0.1, 0.1))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"tumour": 1})
    table = load_fluid_tissues()
    wave = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    fluid = replace(Interstitium.of(faces, table), effective_pressure=10.0 + 3.0 * wave)
    tissue = Tissue.of(faces, table, interstitial_flow(fluid, Boundary()))
    assert tissue.surface is not None
    return replace(tissue, surface=tissue.surface * (1.0 + 0.5 * wave), velocity=None)


def agent(slower: float, tissues: tuple[str, ...]) -> tuple[Drug, Course]:
    """Doxorubicin, free and bound to protein, its binding and exchange slowed down by a factor."""
    found = load_agent("doxorubicin")
    drug = found.drug(tissues)
    exchange = tuple(
        replace(e, permeability=e.permeability / slower) for e in drug.exchange if e.permeability is not None
    )
    linear = Drug(drug.diffusivity, drug.reactions[:2, :2] / slower, drug.names[:2], exchange=exchange)
    return linear, course(found.plasma_model(), [Dose(0.0, 90.0)])


def errors(tissue: Tissue, slower: float) -> list[float]:
    """Largest error of the free drug at the end relative to its largest value, per step."""
    drug, plan = agent(slower, tissue.faces.names)

    def run(step: float) -> np.ndarray:
        return np.asarray(
            transport(tissue, drug, plan, np.array([END]), step / 3600.0, "upwind").amount[0, 0]
        )

    exact = run(FINEST)
    return [float(np.abs(run(s) - exact).max() / exact.max()) for s in STEPS]


@check(
    "transport.splitting",
    "Splitting is of second order where kinetics are slow; with doxorubicin's protein binding at a 60 s step it is not, and "
    "its order is stated",
    "smooth data: order 2 within 0.1 with kinetics 1e4 times slower; stiff: errors at 60 s below 1 % on smooth data and "
    "3 % at a tumour's rim, falling with an order of at least 0.8",
    "the same problem at a step of 3.75 s",
    factor="numerical_solver_error",
)
def splitting(quick: bool) -> Result:
    """Binding 0.833 and 0.278 per second; voxels of 0.1 mm with flow, an hour after a bolus."""
    found = {
        "slow": errors(smooth(), 1e4),
        "stiff": errors(smooth(), 1.0),
        "stiff_rim": errors(rim(), 1.0),
    }
    orders = {name: observed_orders(STEPS, e) for name, e in found.items()}
    passed = (
        abs(orders["slow"][-1] - 2.0) <= 0.1 and found["stiff"][2] < 0.01 and found["stiff_rim"][2] < 0.03
    )
    passed &= all(orders[name][-1] >= 0.8 for name in ("stiff", "stiff_rim"))
    return passed, {
        "step_s": STEPS,
        **{f"error_{name}": e for name, e in found.items()},
        **{f"order_{name}": o for name, o in orders.items()},
    }
