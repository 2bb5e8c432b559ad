"""Pressure and transport together: every species' balance over two days, positivity, symmetry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..domain.grid import Grid
from ..kinetics.plasma import Dose
from ..physics.agents import load_agent
from ..physics.tissue import Tissue
from ..physics.transport import transport
from ..twin.delivery import Catheter, Delivery, deliver
from ..virtual.glioma import make_patient
from .registry import Result, check, largest

#: Output times (h) and longest steps between them.
TIMES, STEPS = np.array([1.0, 4.0, 12.0, 24.0, 48.0]), [1.0 / 60.0, 1.0 / 30.0, 0.1, 0.25, 0.5]


@check(
    "delivery.patient",
    "Over 48 h of doxorubicin on the virtual patient every species' balance closes, and no amount is negative",
    "each species' residual relative to all it gained below 1e-12 at every time; no negative amount; fluid balance 1e-9",
    "conservation of mass",
)
def patient(quick: bool) -> Result:
    """Pressure, flow, solvent drag, lymph, protein binding, saturable uptake, a catheter for some hours."""
    scans = make_patient(1, 8.0 if quick else 4.0, 1).scans
    tumour = scans.visits[0].tumour & scans.brain
    centre = np.argwhere(tumour)[int(tumour.sum()) // 2] * np.asarray(scans.grid.spacing)
    tip = (float(centre[0]), float(centre[1]), float(centre[2]))
    agent = load_agent("doxorubicin")
    assert scans.perfusion is not None
    found = deliver(
        scans.grid, scans.brain, tumour, agent, [Dose(0.0, 90.0, duration=0.25)], TIMES, STEPS,
        perfusion=scans.perfusion.ktrans, interstitium=scans.perfusion.ve, catheter=Catheter(tip, 200.0, 50.0, 2.0, 8.0),
    )  # fmt: skip
    ledger = found.run.ledger
    result: dict[str, Any] = {
        "voxels": found.faces.n,
        "species": list(ledger.names),
        "residual": np.abs(ledger.residual).max(axis=0).tolist(),
        "least_amount": float(found.run.amount.min()),
        "fluid_residual": found.flow.residual,
        "given_mg": float(ledger.of("given")[-1, 0]),
        "in_cells_mg": ledger.present[:, 2].tolist(),
    }
    passed = (
        largest(result["residual"]) < 1e-12
        and result["least_amount"] >= 0
        and result["fluid_residual"] < 1e-9
    )
    # 200 mm3/h of 50 mg/L for 6 h
    return passed and abs(result["given_mg"] - 0.06) < 1e-12, result


def lump(order: tuple[int, int, int] = (0, 1, 2)) -> Delivery:
    """A tumour without any symmetry on voxels that are not cubes, axes in another order."""
    grid = Grid((9, 8, 7), (1.0, 1.4, 0.8))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    tumour = ((x - 3.3) / 2.2) ** 2 + ((y - 5.1) / 2.8) ** 2 + ((z - 2.4 - 0.2 * x) / 1.5) ** 2 < 1.0
    organ = (x + y + z) < 17.0
    shape, spacing = (tuple(v[i] for i in order) for v in (grid.shape, grid.spacing))
    return deliver(
        Grid(shape, spacing), organ.transpose(order), tumour.transpose(order), load_agent("doxorubicin"),  # type: ignore[arg-type]
        [Dose(0.0, 90.0)], np.array([0.5]), 0.05,
    )  # fmt: skip


@check(
    "delivery.axes",
    "Pressure and transport do not depend on the order of the axes",
    "largest difference of any species relative to its largest value below 1e-9",
    "symmetry of the equations",
)
def axes(quick: bool) -> Result:
    """Three other orders of the axes; quickly the one that moves all of them."""
    base = lump()
    fields = base.faces.scatter(base.run.amount[0])
    result = {}
    for order in ((1, 2, 0),) if quick else ((1, 0, 2), (2, 1, 0), (1, 2, 0)):
        turned = lump(order)
        back = turned.faces.scatter(turned.run.amount[0]).transpose(0, *(1 + np.argsort(order)))
        worst = np.abs(back - fields).max(axis=(1, 2, 3)) / fields.max(axis=(1, 2, 3))
        result["".join("xyz"[i] for i in order)] = float(worst.max())
    return largest(result.values()) < 1e-9, dict(result)


@check(
    "delivery.units",
    "Transport does not depend on the unit of length",
    "largest difference relative to the largest value below 1e-11",
    "dimensional analysis: lengths a tenth, diffusivities a hundredth, speeds a tenth",
)
def units(quick: bool) -> Result:
    """The free and bound drug of the same lump, in cm."""
    base = lump()
    faces = base.faces
    x, y, z = faces.grid.spacing
    small = replace(faces, grid=Grid(faces.grid.shape, (0.1 * x, 0.1 * y, 0.1 * z)))
    vx, vy, vz = base.flow.velocity
    flow = replace(base.flow, velocity=(0.1 * vx, 0.1 * vy, 0.1 * vz))
    assert base.tissue.surface is not None
    tissue = Tissue(small, base.tissue.ktrans, base.tissue.phi, flow=flow, surface=10.0 * base.tissue.surface)
    slow = tuple(
        replace(e, permeability=0.1 * e.permeability) if e.permeability is not None else e
        for e in base.drug.exchange
    )
    drug = replace(base.drug, diffusivity=0.01 * base.drug.diffusivity, exchange=slow)
    got = transport(tissue, drug, base.plan, base.run.times, 0.05).amount
    worst = float(np.abs(got - base.run.amount).max() / base.run.amount.max())
    return worst < 1e-11, {"difference": worst}
