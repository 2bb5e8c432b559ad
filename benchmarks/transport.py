"""Transport in tissue: the full-order kernel against copying memory and against py-pde; memory of a large run.

The kernel's problem is a closed box of 64^3 voxels with diffusion, without and with a swirl; its numbers are held
against the same two stages with the sparse operator. py-pde takes explicit Euler steps of diffusion on the same grid,
compared per evaluation of the operator (it has no upwind scheme, so without flow); its answer differs by the order of
the time step.

The bound is the time to move what two sweeps cannot avoid moving, counted in arrays over the active rows: a stage reads
the concentration, three face arrays (six with flow) and 1/phi and writes the next one, the second also reads the old
concentration: 6 + 7 without flow, 9 + 10 with it.

Last, members of convection, diffusion and first-order loss: ours by one call, each with its own diffusivity, speed and
rate, with all that a run keeps (time integrals, a balance); py-pde's explicit Euler steps (one evaluation of the operator
where ours takes two) of one expression in a loop. Its convection is central and not conservative; the first member's
answers are compared, which differ by the order of the grid and the step. To compile the expression, which py-pde does
again for every set of parameters, is not counted but told in the notes.
"""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import time

import common
import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Course, Dose, PlasmaModel, course, rate_matrix
from vvuq_twin.physics import convection
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.tissue import Drug, Tissue
from vvuq_twin.physics.transport import Injection, transport, transport_members

SMALL = {"n": 12, "steps": 4, "repeats": 1, "memory": 0, "members": 2, "long": 4}
D, PHI, DT, LOSS = 1.2, 0.3, 0.05, 0.1


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
    """py-pde's compiled explicit Euler steps with our boundary, compiled once.

    Of diffusion, or also of convection by the swirl and loss.
    """

    def __init__(self, n: int, swirl: tuple[np.ndarray, ...] = ()) -> None:
        import pde

        grid = pde.CartesianGrid([[0, n]] * 3, n, periodic=False)
        self.field = pde.ScalarField(grid, 1.0)
        right, consts = f"{D} * laplace(c)", {}
        if swirl:
            right += f" - vx * d_dx(c) - vy * d_dy(c) - {LOSS} * c"
            consts = {name: pde.ScalarField(grid, v) for name, v in zip(("vx", "vy"), swirl)}
        equation = pde.PDE({"c": right}, bc={"derivative": 0}, consts=consts)
        begin = time.perf_counter()
        self.step = pde.EulerSolver(equation).make_stepper(self.field, dt=DT)
        self.step(self.field, 0.0, DT)
        self.compiled = time.perf_counter() - begin

    def run(self, start: np.ndarray, steps: int) -> np.ndarray:
        self.field.data[...] = start.reshape(self.field.data.shape)
        self.step(self.field, 0.0, steps * DT)
        return np.asarray(self.field.data).ravel()


class Members:
    """Runs of convection, diffusion and loss without plasma, the first at the nominal parameters."""

    def __init__(self, tissue: Tissue, start: np.ndarray, count: int, scheme: str) -> None:
        self.tissue, self.count, self.scheme = tissue, count, scheme
        self.start = Injection(0.0, PHI * start)
        self.plan = _plasma([])

    def member(self, i: int) -> tuple[Tissue, Drug, Course]:
        t, factor = self.tissue, 1.0 + 0.02 * i
        x, y, z = t.velocity or t.face_speed()
        own = Tissue(t.faces, t.ktrans, t.phi, velocity=(factor * x, factor * y, z))
        return own, Drug(np.array([D * factor]), np.array([[-LOSS * factor]])), self.plan

    def run(self, steps: int) -> np.ndarray:
        """Concentrations after the steps, (N, n)."""
        end = np.array([steps * DT])
        found = transport_members(
            self.tissue.faces, self.member, self.count, end, DT, self.scheme, [self.start]
        ).sound()
        return found.amount[:, 0, 0] / PHI


def _plasma(doses: list[Dose]) -> Course:
    names = ("central",)
    return course(PlasmaModel(names, rate_matrix(names, {("central", "out"): 0.3}), 10.0), doses)


def peak_of_run(n: int) -> float:
    """Peak resident memory of a process that makes one member's run with flow on n^3 voxels, MiB."""
    done = subprocess.run(
        [sys.executable, __file__, "--member", str(n)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def member(n: int) -> None:
    """One step of a tracer with flow on n^3 voxels, float64; prints the peak resident memory in MiB."""
    plan = _plasma([Dose(0.0, 5.0)])
    tissue = box(n)[0]
    tissue.ktrans[:] = 0.1
    run = transport(tissue, Drug(np.array([D])), plan, np.array([0.1]), 0.1)
    assert abs(run.balance.residual[-1]) < 1e-12
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0)


def against_loop(
    tissue: Tissue, start: np.ndarray, members: int, steps: int, repeats: int
) -> list[common.Row]:
    """Members by one call against py-pde's loop, for two of our schemes."""
    n = tissue.faces.grid.shape[0]
    middle, wave = np.arange(n) + 0.5, 2.0 * np.pi / n
    across = 0.2 / PHI * np.sin(wave * middle)[:, None] * np.cos(wave * middle)[None, :]
    vx = np.repeat(across[:, :, None], n, axis=2)
    peer = PyPde(n, (vx, -vx.transpose(1, 0, 2)))
    note = f"py-pde took {peer.compiled:.0f} s to compile the expression, once, not counted"

    def loop() -> None:
        for _ in range(members):
            peer.run(start, steps)

    rows = []
    for scheme in ("central", "upwind"):
        ours = Members(tissue, start, members, scheme)
        difference = float(np.abs(ours.run(steps)[0] - peer.run(start, steps)).max())
        each = members * steps
        mine, other, ratio = common.alternate(lambda o=ours: o.run(steps), loop, repeats, (each, each))
        what = f"step of a member, {scheme} flow, diffusion and loss, {members} of {n}^3, {steps} steps"
        rows.append(
            common.Row(what, mine, "py-pde, an Euler step", other, ratio, "100", difference, notes=note)
        )
    return rows


def measure(
    n: int = 64, steps: int = 40, repeats: int = 5, memory: int = 256, members: int = 8, long: int = 100
) -> list[common.Row]:
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

    def copy() -> None:  # as often as the kernel steps: the first copy would find its arrays out of the cache
        for _ in range(steps):
            np.copyto(sink, source)

    cells = int((tissue.faces.rows[:, 3] - tissue.faces.rows[:, 2]).sum())
    for name, kernel, arrays in (
        ("diffusion", still, 13), ("diffusion and upwind flow", moving, 19), ("diffusion and limited flow", limited, 19),
    ):  # fmt: skip
        moved = steps * 2 * size / (arrays * cells)
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
        rows += against_loop(tissue, start, members, long, repeats)
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
