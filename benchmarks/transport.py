"""Transport in tissue: the full-order kernel against copying memory and against py-pde; memory of a large run.

The kernel's problem is a closed box of 64^3 voxels with diffusion, without and with a swirl; its numbers are held
against the same two stages with the sparse operator. py-pde takes explicit Euler steps of diffusion on the same grid,
compared per evaluation of the operator (it has no upwind scheme, so without flow); its answer differs by the order of
the time step.

The bound is the time to move what two stages cannot avoid moving, counted in arrays over the active rows: each stage
reads the concentration and three face arrays (six with flow) and writes the rate, then reads the rate, 1/phi and the
concentration and writes the stage: 2 x 9 without flow, 2 x 12 with it.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys

import common
import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics import convection
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.tissue import Tissue

SMALL = {"n": 12, "steps": 4, "repeats": 1, "memory": 0}
D, PHI, DT = 1.2, 0.3, 0.05


def box(n: int) -> tuple[Tissue, np.ndarray]:
    """A uniform box with a swirl, and a smooth start."""
    shape = (n, n, n)
    faces = assemble(Grid(shape, (1.0, 1.0, 1.0)), np.ones(shape, bool), np.ones(shape, int), {"a": 1})
    edge, middle = np.arange(n + 2) - 1.0, np.arange(n + 2) - 0.5
    wave = 2.0 * np.pi / n
    v = [np.zeros(faces.box) for _ in range(3)]
    v[0][:, : n + 2, : n + 2] = (0.2 * np.sin(wave * edge)[:, None] * np.cos(wave * middle)[None, :])[
        :, :, None
    ]
    v[1][:, : n + 2, : n + 2] = (-0.2 * np.cos(wave * middle)[:, None] * np.sin(wave * edge)[None, :])[
        :, :, None
    ]
    tissue = Tissue(faces, np.zeros(faces.n), np.full(faces.n, PHI), velocity=(v[0], v[1], v[2]))
    x = middle[1:-1]
    start = 1.0 + 0.5 * np.cos(wave * x)[:, None, None] * np.cos(wave * x)[None, :, None] * np.cos(wave * x)
    return tissue, start.ravel()


class Kernel:
    """Sub-steps of the transport kernel."""

    def __init__(self, tissue: Tissue, start: np.ndarray, flow: bool, scheme: int) -> None:
        self.faces, self.flow, self.scheme, self.start = tissue.faces, flow, scheme, start
        self.pace = tissue.pace
        self.g, self.v = tissue.face_conductance(np.array([D])), tissue.face_speed()
        self.inverse = self.faces.boxed(1.0 / tissue.phi)
        self.c, self.first = (np.zeros(self.faces.box) for _ in range(2))

    def run(self, steps: int) -> np.ndarray:
        flat = self.c.ravel()
        flat[self.faces.place] = self.start
        f = self.faces
        convection.transport_step(
            self.c, self.g, self.v, self.pace, self.flow, f.face_group, self.inverse, f.rows, self.scheme, steps * DT, steps,
            self.first,
        )  # fmt: skip
        return flat[f.place].copy()


class PyPde:
    """py-pde's compiled explicit Euler steps of diffusion with our boundary, compiled once."""

    def __init__(self, n: int) -> None:
        import pde

        grid = pde.CartesianGrid([[0, n]] * 3, n, periodic=False)
        self.field = pde.ScalarField(grid, 1.0)
        equation = pde.PDE({"c": f"{D} * laplace(c)"}, bc={"derivative": 0})
        self.step = pde.EulerSolver(equation).make_stepper(self.field, dt=DT)

    def run(self, start: np.ndarray, steps: int) -> np.ndarray:
        self.field.data[...] = start.reshape(self.field.data.shape)
        self.step(self.field, 0.0, steps * DT)
        return np.asarray(self.field.data).ravel()


def peak_of_run(n: int) -> float:
    """Peak resident memory of a process that makes one member's run with flow on n^3 voxels, MiB."""
    done = subprocess.run(
        [sys.executable, __file__, "--member", str(n)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def member(n: int) -> None:
    """One step of a tracer with flow on n^3 voxels, float64; prints the peak resident memory in MiB."""
    from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
    from vvuq_twin.physics.tissue import Drug
    from vvuq_twin.physics.transport import transport

    names = ("central",)
    plan = course(PlasmaModel(names, rate_matrix(names, {("central", "out"): 0.3}), 10.0), [Dose(0.0, 5.0)])
    tissue = box(n)[0]
    tissue.ktrans[:] = 0.1
    run = transport(tissue, Drug(np.array([D])), plan, np.array([0.1]), 0.1)
    assert abs(run.balance.residual[-1]) < 1e-12
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)


def measure(n: int = 64, steps: int = 40, repeats: int = 5, memory: int = 256) -> list[common.Row]:
    tissue, start = box(n)
    rows = []
    still, moving = Kernel(tissue, start, False, 0), Kernel(tissue, start, True, convection.UPWIND)
    limited = Kernel(tissue, start, True, convection.VAN_LEER)
    # the reference of the kernel's numbers: the sparse operator, the same two stages
    from vvuq_twin.physics.tissue import transport_terms

    terms = transport_terms(tissue)
    flux = terms.matrix(tissue.faces.conductance(np.array([D]))) - terms.exchange
    c = start * PHI
    for _ in range(steps):
        stage = c + DT * (flux @ c)
        c = 0.5 * (c + stage + DT * (flux @ stage))
    difference = float(np.abs(moving.run(steps) - c / PHI).max())

    size = 5 * int(np.prod(tissue.faces.box))
    source, sink = np.ones(size), np.zeros(size)

    def copy() -> None:
        np.copyto(sink, source)

    cells = int((tissue.faces.rows[:, 3] - tissue.faces.rows[:, 2]).sum())
    for name, kernel, arrays in (
        ("diffusion", still, 18), ("diffusion and upwind flow", moving, 24), ("diffusion and limited flow", limited, 24),
    ):  # fmt: skip
        moved = 2 * size / (arrays * cells)
        mine, other, ratio = common.alternate(lambda k=kernel: k.run(steps), copy, repeats, (steps, moved))
        rows.append(
            common.Row(
                f"two-stage step, {name}, {n}^3",
                mine,
                f"copying its {arrays} arrays",
                other,
                ratio,
                "0.4 (40 % of copying)",
                difference=difference,
            )
        )
    if importlib.util.find_spec("pde") is None:
        rows[0] = common.Row(
            **{**vars(rows[0]), "notes": "py-pde is not installed (the extra bench): not compared"}
        )
    else:
        peer = PyPde(n)
        apart = float(np.abs(still.run(steps) - peer.run(start, steps)).max())
        mine, other, ratio = common.alternate(
            lambda: still.run(steps), lambda: peer.run(start, steps), repeats, (2 * steps, steps)
        )
        rows.append(
            common.Row(
                f"stage of diffusion, {n}^3",
                mine,
                "py-pde, an Euler step",
                other,
                ratio,
                "100",
                difference=apart,
            )
        )
    if memory:
        used = peak_of_run(memory)
        first = rows[0]
        note = f"one member of {memory}^3 voxels with flow, float64: peak resident {used:.0f} MiB (target: below 3072)"
        rows[0] = common.Row(
            **{**vars(first), "notes": (first.notes + "; " if first.notes else "") + note, "memory": used}
        )
    return rows


if __name__ == "__main__":
    if "--member" in sys.argv:
        member(int(sys.argv[-1]))
    else:
        common.show(measure())
