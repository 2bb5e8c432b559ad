"""The transport kernel on boxes that divide into runs in every way. Its orders are in the verification suite."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics import convection
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.tissue import Tissue, transport_terms

D = np.array([0.3, 1.1])
#: A row longer than a run, planes of several runs, gaps wider than those that are bridged, and single cells.
BOXES = [((3, 2, 1100), 1.0), ((4, 40, 40), 1.0), ((3, 30, 90), 0.01), ((5, 9, 40), 0.6), ((2, 1, 1), 1.0)]


def rough(shape: tuple[int, int, int], fill: float) -> Tissue:
    rng = np.random.default_rng(3)
    mask = rng.random(shape) < fill
    labels = rng.integers(1, 3, shape)
    faces = assemble(Grid(shape, (1.0, 2.0, 1.5)), mask, labels, {"white": 1, "grey": 2})
    velocity = (rng.normal(size=faces.box), rng.normal(size=faces.box), rng.normal(size=faces.box))
    return Tissue(faces, np.zeros(faces.n), 0.2 + 0.3 * rng.random(faces.n), velocity=velocity)


def rate_of(tissue: Tissue, c: np.ndarray, scheme: int) -> np.ndarray:
    f, out = tissue.faces, np.zeros(tissue.faces.box)
    convection.transport_rate(
        f.boxed(c), tissue.face_conductance(D), tissue.face_speed(), tissue.pace, True, f.face_group, f.rows, scheme, out
    )  # fmt: skip
    assert np.count_nonzero(out) == np.count_nonzero(out.ravel()[f.place])
    return np.asarray(out.ravel()[f.place])


@pytest.mark.parametrize(("shape", "fill"), BOXES)
def test_upwind_rate_is_the_assembled_operators(shape, fill):
    tissue = rough(shape, fill)
    amount = np.random.default_rng(4).random(tissue.faces.n)
    terms = transport_terms(tissue)
    expected = (terms.matrix(tissue.faces.conductance(D)) - terms.exchange) @ amount
    got = rate_of(tissue, amount / tissue.phi, convection.UPWIND)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max())


@pytest.mark.parametrize("scheme", [convection.UPWIND, convection.VAN_LEER, convection.CENTRAL])
@pytest.mark.parametrize(("shape", "fill"), BOXES)
def test_what_leaves_a_cell_enters_its_neighbour(shape, fill, scheme):
    tissue = rough(shape, fill)
    rate = rate_of(tissue, np.random.default_rng(5).random(tissue.faces.n), scheme)
    assert abs(rate.sum()) <= 1e-14 * np.abs(rate).sum()


def test_limited_values_are_van_leers_on_a_line():
    """Harmonic mean of the slopes where they agree, upwind at extremes and next to a closed face."""
    faces = assemble(
        Grid((1, 1, 6), (1.0, 1.0, 1.0)), np.ones((1, 1, 6), bool), np.ones((1, 1, 6), int), {"a": 1}
    )
    c = np.array([1.0, 2.0, 5.0, 4.0, 4.5, 6.5])
    for sign in (1.0, -1.0):
        velocity = (np.zeros(faces.box), np.zeros(faces.box), np.full(faces.box, sign))
        tissue = Tissue(faces, np.zeros(6), np.ones(6), velocity=velocity)
        out = np.zeros(faces.box)
        convection.transport_rate(
            faces.boxed(c if sign > 0 else c[::-1]), tissue.face_conductance(np.zeros(1)), tissue.face_speed(),
            tissue.pace, True, faces.face_group, faces.rows, convection.VAN_LEER, out,
        )  # fmt: skip
        flux = np.array([0.0, 1.0, 2.0 + 1.0 * 3.0 / 4.0, 5.0, 4.0, 4.5 + 0.5 * 2.0 / 2.5, 0.0])
        got = out.ravel()[faces.place]
        np.testing.assert_allclose(got if sign > 0 else got[::-1], flux[:-1] - flux[1:], rtol=1e-14)
