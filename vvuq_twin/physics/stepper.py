"""The state of one transport run, and how a step advances it."""

from __future__ import annotations

import numpy as np
from scipy.linalg import expm

from ..domain.errors import BadInput
from ..kinetics.plasma import Course
from . import convection, saturable, smallexp
from .drug import Binding, Drug, Uptake
from .ledger import LITRE_PER_MM3, WAYS, flows_of
from .tissue import Tissue

#: Kinds of voxels that may share their propagators; beyond, every voxel has its own.
KINDS = 4096
#: Voxels that are sorted into kinds at once, so that no copy of all coefficients is made.
BLOCK = 1 << 18


class Stepper:
    """The state of one run and its cached propagators.

    Parameters
    ----------
    tissue : Tissue
    drug : Drug
    plan : Course
        Of one member.
    scheme : int
        Of ``physics.convection``.
    precision : numpy type
        Of the fields.
    change : float
        See :func:`~vvuq_twin.physics.transport.transport`.
    """

    def __init__(
        self,
        tissue: Tissue,
        drug: Drug,
        plan: Course,
        scheme: int,
        precision: type = np.float64,
        change: float = 0.005,
    ) -> None:
        if plan.matrix.ndim != 2:
            raise BadInput("the plasma model is of more than one member", "transport", "run them one by one")
        faces = tissue.faces
        self.drug, self.plan, self.scheme = drug, plan, scheme
        self.precision, self.change = precision, change
        box = faces.box
        self.c: np.ndarray = np.zeros(box, precision)
        self.first = self.c.copy()
        self.species: np.ndarray = np.zeros((faces.n, drug.size), precision)
        self.integrals = self.species.copy()
        links: tuple[Binding | Uptake, ...] = (*drug.binding, *drug.uptake)
        self.moved = np.zeros((faces.n, len(links), 2))
        self.plasma = np.zeros(2 * plan.size)
        self.rows = drug.inputs(plan)
        self.flow_of_plasma: dict[float, np.ndarray] = {}
        self.past = np.zeros((drug.size, len(WAYS)))
        self.given = np.zeros(drug.size)
        self.parts = 0
        self._links = _tables(links, len(faces.names))
        self._enter(tissue)

    def _enter(self, tissue: Tissue) -> None:
        """Take the coefficients of a tissue."""
        drug, faces = self.drug, tissue.faces
        self.tissue = tissue
        self.rates = tissue.exchange(drug)
        supply = np.zeros((0, 0)) if tissue.supply is None else np.atleast_2d(tissue.supply).astype(float)
        if 0 < len(supply) < drug.moving:
            supply = np.vstack([supply, np.zeros((drug.moving - len(supply), faces.n))])
        if len(supply) > drug.moving:
            raise BadInput("the supply has more rows than there are moving species", "tissue")
        self.supply = supply
        self.out = np.ascontiguousarray(self.rates.out(tissue.phi).T)
        self.gain = np.ascontiguousarray(self.rates.gain.T)
        self.reactions = np.ascontiguousarray(
            drug.reactions if drug.reactions.ndim == 3 else drug.reactions[None]
        )
        self.which = faces.label if len(self.reactions) > 1 else np.zeros(faces.n, np.int64)
        if not drug.saturable:  # before the faces' arrays: its temporary ones would be the peak of the memory
            self._sort_kinds()
        self.flow = tissue.velocity is not None
        self.inverse_phi: np.ndarray = faces.boxed(1.0 / tissue.phi).astype(self.precision, copy=False)
        self.v: tuple[np.ndarray, ...] = tuple(
            x.astype(self.precision, copy=False) for x in tissue.face_speed()
        )
        self.g: list[tuple[np.ndarray, ...]] = []
        self.bound: list[float] = []
        for s in range(drug.moving):
            g: tuple[np.ndarray, ...] = tuple(
                x.astype(self.precision, copy=False) for x in tissue.face_conductance(drug.diffusivity_of(s))
            )
            self.g.append(g)
            self.bound.append(
                convection.transport_bound(
                    g, self.v, tissue.pace, self.inverse_phi, faces.rows, self.flow, self.scheme
                )
            )
        self.maps: dict[float, np.ndarray] = {}
        self.hours = 0.0
        self._area0 = self.plasma[self.plan.size :].copy()
        self._integrals0: np.ndarray | None = None

    def enter(self, tissue: Tissue) -> None:
        """Go on with another tissue on the same cells."""
        self.past = self.flows()
        self.given[:] = 0.0
        self._enter(tissue)
        self._integrals0, self.moved[:] = self.integrals.copy(), 0.0

    def _sort_kinds(self) -> None:
        """Voxels of equal coefficients share their propagators; then only one of each is kept."""
        n, m = self.tissue.faces.n, self.drug.moving
        kind, count = np.zeros(n, np.int32), 0
        table, rows = np.full(4 * KINDS, -1, np.int64), np.zeros((KINDS, 2 * m + 1))
        for start in range(0, n, BLOCK):
            part = slice(start, start + BLOCK)
            values = np.column_stack([self.out[part], self.gain[part], self.which[part].astype(float)])
            count = smallexp.kinds(values, table, rows, count, kind[part])
            if count < 0:
                break
        self.kind = np.zeros(0, np.int32)
        if 0 < count < n:
            self.kind = kind
            self.out, self.gain = rows[:count, :m].copy(), rows[:count, m : 2 * m].copy()
            self.which = rows[:count, 2 * m].astype(np.int64)

    def jump(self, time: float) -> None:
        """Doses given at ``time``."""
        for jump in self.plan.jumps[self.plan.times == time]:
            self.plasma[: self.plan.size] += jump

    def inject(self, species: int, amount: np.ndarray) -> None:
        """Drug put into the tissue, per volume."""
        self.species[:, species] += amount
        self.given[species] += float(np.sum(amount)) * self._litres

    @property
    def _litres(self) -> float:
        return self.tissue.faces.grid.voxel_volume * LITRE_PER_MM3

    def flows(self) -> np.ndarray:
        """What moved by every way so far, shape (s, 8), see :mod:`~vvuq_twin.physics.ledger`."""
        since = self.integrals if self._integrals0 is None else self.integrals - self._integrals0
        area = self.rows @ (self.plasma[self.plan.size :] - self._area0)
        now = flows_of(self.tissue, self.drug, self.rates, since, area, self.moved, self.hours)
        total = self.past + now
        total[:, WAYS.index("given")] += self.given
        return np.asarray(total)

    def present(self) -> np.ndarray:
        """Amount of each species in the tissue, shape (s,)."""
        return np.asarray(self.species.sum(axis=0, dtype=np.float64) * self._litres)

    def _plasma_flow(self, key: float, dt: float) -> np.ndarray:
        """Propagator of the plasma states and their integrals."""
        if key not in self.flow_of_plasma:
            p = self.plan.size
            augmented = np.zeros((2 * p, 2 * p))
            augmented[:p, :p], augmented[p:, :p] = self.plan.matrix, np.eye(p)
            self.flow_of_plasma[key] = expm(augmented * dt)
        return self.flow_of_plasma[key]

    def local(self, dt: float) -> None:
        """Local kinetics and plasma for ``dt``: exact where they are linear."""
        key = round(dt, 11)  # steps that differ by round-off share their maps
        p = self.plan.size
        flow = self._plasma_flow(key, dt)
        if self.drug.saturable:
            self._saturable(key, dt)
        else:
            if key not in self.maps:
                self.maps[key] = self._linear_maps(dt, flow[p:, :p])
            smallexp.apply_maps(
                self.maps[key], self.kind, self.plasma[:p], self.supply, self.species, self.integrals
            )
        self.plasma = flow @ self.plasma
        self.hours += dt

    def _linear_maps(self, dt: float, area: np.ndarray) -> np.ndarray:
        extra = self.drug.moving if self.supply.size else 0
        maps = np.empty((len(self.out), 2 * self.drug.size, self.drug.size + self.plan.size + extra))
        smallexp.local_maps(
            self.out, self.gain, self.which, self.reactions, self.plan.matrix, np.ascontiguousarray(area), self.rows, dt,
            bool(extra), maps,
        )  # fmt: skip
        return maps.astype(self.precision, copy=False)

    def _saturable(self, key: float, dt: float) -> None:
        p, parts = self.plan.size, saturable.PARTS
        step = self._plasma_flow(key / parts, dt / parts)
        courses, now = np.zeros((parts + 1, self.drug.moving)), self.plasma.copy()
        for i in range(parts):
            now = step @ now
            courses[i + 1] = self.rows @ (now[p:] - self.plasma[p:])
        kind, source, target, value = self._links
        cells = np.zeros(0) if self.tissue.cells is None else np.asarray(self.tissue.cells, float)
        self.parts += saturable.saturable_step(
            self.species, self.integrals, self.moved, self.out, self.gain, self.supply, self.reactions, self.which,
            self.tissue.phi, cells, kind, source, target, value, self.tissue.faces.label, courses, dt, self.change,
        )  # fmt: skip

    def move(self, dt: float) -> None:
        """Diffusion and convection of the moving species for ``dt``."""
        faces = self.tissue.faces
        flat = self.c.ravel()
        for s in range(self.drug.moving):
            if self.bound[s] <= 0:
                continue
            convection.concentrate(self.species[:, s], self.tissue.phi, faces.place, flat)
            substeps = max(1, int(np.ceil(dt * self.bound[s] - 1e-12)))
            convection.transport_step(
                self.c, self.g[s], self.v, self.tissue.pace, self.flow, faces.face_group, self.inverse_phi, faces.rows,
                self.scheme, dt, substeps, self.first,
            )  # fmt: skip
            convection.collect(flat, self.tissue.phi, faces.place, self.species[:, s])

    def step(self, dt: float) -> None:
        """One symmetric step."""
        self.march(dt, 1)

    def march(self, dt: float, count: int) -> None:
        """``count`` symmetric steps of ``dt``; the half steps between two of them are taken as one."""
        if not any(b > 0 for b in self.bound):
            for _ in range(count):
                self.local(dt)
            return
        self.local(0.5 * dt)
        for i in range(count):
            self.move(dt)
            self.local(dt if i < count - 1 else 0.5 * dt)


def _tables(
    links: tuple[Binding | Uptake, ...], tissues: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Saturable reactions as arrays for :func:`~vvuq_twin.physics.saturable.saturable_step`."""
    value = np.zeros((tissues, len(links), 4))
    for q, x in enumerate(links):
        if isinstance(x, Binding):
            value[:, q, 0], value[:, q, 1] = x.on, x.capacity
        else:
            value[:, q, 0], value[:, q, 1], value[:, q, 2], value[:, q, 3] = (
                x.rate,
                x.half_in,
                x.half_out,
                x.cells,
            )
    kind = np.array(
        [saturable.BINDING if isinstance(x, Binding) else saturable.UPTAKE for x in links], np.int64
    )
    source = np.array([x.source for x in links], np.int64)
    return kind, source, np.array([x.target for x in links], np.int64), value
