"""Code to code: pressure and transport against finite elements by scikit-fem, assembled from the equations' weak forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.linalg import splu

from vvuq_twin.domain.grid import Grid
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, course, rate_matrix
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.interstitium import Interstitium
from vvuq_twin.physics.pressure import Boundary, interstitial_flow
from vvuq_twin.physics.tissue import Drug, Tissue
from vvuq_twin.physics.transport import transport

skfem = pytest.importorskip("skfem")
SIDE = 8.0


def box(shape, spacing):
    return assemble(Grid(shape, spacing), np.ones(shape, bool), np.ones(shape, int), {"tumour": 1})


def conductivity(x):
    return 1.0 + 0.5 * np.sin(np.pi * x[0] / SIDE) * np.cos(np.pi * x[1] / SIDE)


def test_pressure_is_that_of_finite_elements():
    """A cube at fixed pressure 0 all round, K varies twofold: the difference is that of voxels, and falls as h^2."""
    b, p_e = 0.3, 10.0
    mesh = skfem.MeshHex.init_tensor(*(np.linspace(0.0, SIDE, 7),) * 3)
    basis = skfem.Basis(mesh, skfem.ElementHex2())

    @skfem.BilinearForm
    def left(u, v, w):
        return conductivity(w.x) * sum(u.grad[i] * v.grad[i] for i in range(3)) + b * u * v

    @skfem.LinearForm
    def right(v, w):
        return b * p_e * v

    theirs = skfem.solve(*skfem.condense(left.assemble(basis), right.assemble(basis), D=basis.get_dofs()))
    apart = []
    for n in (8, 16):
        faces = box((n, n, n), (SIDE / n,) * 3)
        points = (faces.grid.points(faces.mask) + 0.5 * SIDE / n).T
        one = np.ones(faces.n)
        tissue = Interstitium(faces, conductivity(points), b * one, p_e * one, 0 * one, 0 * one)
        ours = interstitial_flow(tissue, Boundary(array=0.0)).pressure
        at_centres = basis.probes(points) @ theirs
        apart.append(float(np.sqrt(np.mean((ours - at_centres) ** 2)) / at_centres.max()))
    assert apart[1] < 0.015 and apart[0] / apart[1] > 3.0, apart


def test_transport_is_that_of_finite_elements():
    """Diffusion, a swirl, exchange that varies, plasma that decays: an hour, trapezoidal steps of 36 s over there."""
    n, phi, d, unbound, end = 48, 0.3, 1.2, 0.5, 1.0
    h = SIDE / n
    faces = box((1, n, n), (h, h, h))
    _, x, y = (faces.grid.points(faces.mask) + 0.5 * h).T

    def ktrans(x, y):
        return 0.5 * (1.0 + 0.6 * np.cos(np.pi * x / SIDE) * np.cos(np.pi * y / SIDE))

    def flow(x, y):
        k = np.pi / SIDE
        return 0.5 * np.sin(k * x) * np.cos(k * y), -0.5 * np.cos(k * x) * np.sin(k * y)

    edge = np.arange(n + 2) * h - h
    vx, vy = np.zeros(faces.box), np.zeros(faces.box)
    vx[:, :, : n + 2] = flow(edge[:, None], edge[None, :] + 0.5 * h)[0]
    vy[:, :, : n + 2] = flow(edge[:, None] + 0.5 * h, edge[None, :])[1]
    tissue = Tissue(faces, ktrans(x, y), np.full(faces.n, phi), velocity=(np.zeros(faces.box), vx, vy))
    model = PlasmaModel(("central",), rate_matrix(("central",), {("central", "out"): 0.8}), 10.0, unbound)
    plan = course(model, [Dose(0.0, 20.0)])
    ours = transport(tissue, Drug(np.array([d])), plan, np.array([end]), 0.01).amount[0, 0] / phi

    mesh = skfem.MeshQuad.init_tensor(*(np.linspace(0.0, SIDE, 17),) * 2)
    basis = skfem.Basis(mesh, skfem.ElementQuad2())

    @skfem.BilinearForm
    def mass(u, v, w):
        return phi * u * v

    @skfem.BilinearForm
    def rate(u, v, w):
        a, b = flow(*w.x)
        spread = -phi * d * (u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1])
        return spread + u * (a * v.grad[0] + b * v.grad[1]) - ktrans(*w.x) * u * v

    @skfem.LinearForm
    def feed(v, w):
        return ktrans(*w.x) * v

    m, a, f = mass.assemble(basis).tocsc(), rate.assemble(basis).tocsc(), feed.assemble(basis)
    steps = 100
    dt = end / steps
    solve = splu((m - 0.5 * dt * a).tocsc()).solve
    c = np.zeros(m.shape[0])
    for i in range(steps):
        # the plasma's mean over the step
        cp = unbound * 2.0 * (np.exp(-0.8 * i * dt) - np.exp(-0.8 * (i + 1) * dt)) / (0.8 * dt)
        c = solve((m + 0.5 * dt * a) @ c + dt * cp * f)
    theirs = basis.probes(np.array([x, y])) @ c
    assert np.abs(ours - theirs).max() < 2e-3 * theirs.max()
    assert theirs.max() > 1.3 * theirs.min() > 0
