"""The growth and transport steps with a manufactured source, composed from the very same kernels.

The source is one more half step on either side of the symmetric splitting, its time integral by Simpson's
rule, so that the hot kernels need not know of it. Without a source these drivers are the models' own
loops, which a check shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kinetics.plasma import Course
from ..physics import kernels
from ..physics.faces import Faces
from ..physics.tissue import Drug, Tissue
from ..physics.transport import SCHEMES, Stepper

Source = Callable[[float], np.ndarray]


def _impulse(source: Source, t0: float, t1: float) -> np.ndarray:
    """Integral of the source over [t0, t1] by Simpson's rule."""
    return (t1 - t0) / 6.0 * (source(t0) + 4.0 * source(0.5 * (t0 + t1)) + source(t1))


def forced_growth(
    faces: Faces,
    initial: np.ndarray,
    diffusivity: np.ndarray,
    rate: float,
    source: Source,
    end: float,
    steps: int,
    exponent: float = 1.0,
) -> np.ndarray:
    """``dN/dt = div(D grad N) + k N (1 - N) + S(x, t)`` from 0 to ``end``; ``exponent`` 0 for Gompertz's law.

    Returns
    -------
    ndarray, shape (n,)
    """
    dt = end / steps
    u = faces.boxed(initial)
    flat = u.ravel()
    g = [np.empty(faces.box) for _ in range(3)]
    for axis in range(3):
        kernels.face_values(
            faces.face_group[axis],
            faces.conductance(diffusivity),
            1.0 / faces.grid.spacing[axis] ** 2,
            g[axis],
        )
    bound = kernels.spectral_bound(*g, faces.rows)
    work, tmp = np.zeros((4, *faces.box)), np.zeros(faces.box[2])
    e = float(np.exp(0.5 * rate * dt))
    ones, scratch = np.ones(faces.box), np.zeros((4, faces.box[2]))

    def grow() -> None:
        if exponent == 1.0:
            kernels.moebius(u, faces.rows, e, e - 1.0)
        else:
            kernels.grow(u, faces.rows, 0.5 * rate * dt, ones, exponent, scratch)

    for i in range(steps):
        t = i * dt
        flat[faces.place] += _impulse(source, t, t + 0.5 * dt)
        grow()
        kernels.diffuse(u, *g, faces.rows, dt, bound, work, tmp)
        grow()
        flat[faces.place] += _impulse(source, t + 0.5 * dt, t + dt)
    return flat[faces.place].copy()


def forced_transport(
    tissue: Tissue,
    drug: Drug,
    plan: Course,
    initial: np.ndarray,
    source: Source,
    end: float,
    steps: int,
    scheme: str,
) -> np.ndarray:
    """Free drug C with a source, from 0 to ``end``, doses at time 0 only; shape (n,)."""
    stepper = Stepper(tissue, drug, plan, SCHEMES[scheme])
    stepper.species[:, 0] = initial
    stepper.jump(0.0)
    dt = end / steps
    for i in range(steps):
        t = i * dt
        stepper.species[:, 0] += _impulse(source, t, t + 0.5 * dt)
        stepper.step(dt)
        stepper.species[:, 0] += _impulse(source, t + 0.5 * dt, t + dt)
    return stepper.species[:, 0].copy()


def forced_species(
    stepper: Stepper, initial: np.ndarray, source: Source, end: float, steps: int
) -> np.ndarray:
    """All species (s, n) with a source (s, n), from 0 to ``end``, doses at time 0 only; shape (s, n)."""
    stepper.species[:] = initial.T
    stepper.jump(0.0)
    dt = end / steps
    at, middle = source(0.0), source(0.25 * dt)
    for i in range(steps):
        t = i * dt
        half, late, after = source(t + 0.5 * dt), source(t + 0.75 * dt), source(t + dt)
        stepper.species += (dt / 12.0 * (at + 4.0 * middle + half)).T
        stepper.step(dt)
        stepper.species += (dt / 12.0 * (half + 4.0 * late + after)).T
        at, middle = after, source(t + 1.25 * dt)
    return np.asarray(stepper.species.T.copy())
