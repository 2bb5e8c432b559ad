"""Kill given as integrals over half steps, and Gompertz's law."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics.effect import Hill, Linear
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.growth import GrowthParameters, Heterogeneity, Kill, advance
from vvuq_twin.physics.timeline import timeline


@pytest.fixture(scope="module")
def faces():
    grid = Grid((6, 5, 9), (2.0, 2.0, 2.0))
    return assemble(
        grid, np.random.default_rng(1).random(grid.shape) < 0.9, np.ones(grid.shape, int), {"white": 1}
    )


def test_kill_terms_are_what_the_timelines_drug_is(faces):
    """The decaying drug of the timeline, given as integrals of its course."""
    line = timeline(0.0, [4.0, 9.0], [(1.0, 1.0), (3.5, 2.0)], dt_max=0.7)
    alpha, beta = 0.2, 1.3
    w = 0.5 + np.random.default_rng(2).random(faces.n)
    start = np.full(faces.n, 0.3)
    d, k = [0.15], 0.05
    exact, _ = advance(faces, start, GrowthParameters.of(d, k, alpha, beta, 1.0), line, w)

    def area(t):
        return sum(
            m * (1 - np.exp(-beta * np.maximum(t - s, 0.0))) / beta for s, m in ((1.0, 1.0), (3.5, 2.0))
        )

    middle = line.t + 0.5 * line.dt
    halves = np.stack([area(middle) - area(line.t), area(line.t + line.dt) - area(middle)], axis=1)
    none = timeline(0.0, [4.0, 9.0], dt_max=0.7, breaks=[1.0, 3.5])
    np.testing.assert_allclose(none.dt[: none.used], line.dt[: line.used])
    kill = Kill(halves[:, :, None], w[None, :], np.array([[alpha]]))
    got, status = advance(faces, start, GrowthParameters.of(d, k), none, kill=kill)
    assert status.tolist() == [0]
    np.testing.assert_allclose(got, exact, rtol=1e-12)


def test_terms_add_and_members_have_their_strengths(faces):
    line = timeline(0.0, [2.0], dt_max=1.0)
    amount = np.zeros((line.steps, 2, 2))
    amount[1:3, 0, 0], amount[1:3, 1, 1] = 0.5, 0.25  # the first step is empty
    maps = np.array([np.ones(faces.n), np.linspace(0, 1, faces.n)])
    kill = Kill(amount, maps, np.array([[1.0, 0.0], [1.0, 2.0]]))
    states, _ = advance(
        faces, np.full(faces.n, 0.4), GrowthParameters.of([[0.0], [0.0]], 0.0), line, kill=kill
    )
    np.testing.assert_allclose(states[0, 0], 0.4 * np.exp(-1.0), rtol=1e-14)
    np.testing.assert_allclose(states[1, 0], 0.4 * np.exp(-1.0 - maps[1]), rtol=1e-14)


def test_bad_kills_are_sentences(faces):
    line = timeline(0.0, [2.0], dt_max=1.0)
    good = np.zeros((line.steps, 2, 1))
    with pytest.raises(BadInput, match="amount of the kill"):
        Kill(good - 1.0, np.ones((1, faces.n)), np.ones((1, 1)))
    with pytest.raises(BadInput, match="not of the same terms"):
        Kill(good, np.ones((2, faces.n)), np.ones((1, 2)))
    with pytest.raises(BadInput, match="the kill is of"):
        advance(
            faces, np.ones(faces.n), GrowthParameters.of([0.1], 0.1), line,
            kill=Kill(good, np.ones((1, faces.n - 1)), np.ones((1, 1))),
        )  # fmt: skip


def test_gompertz_is_the_limit_of_the_generalised_law(faces):
    start = 0.05 + 0.8 * np.random.default_rng(3).random(faces.n)
    line = timeline(0.0, [30.0], dt_max=0.5)
    p = GrowthParameters.of([0.1], 0.05)
    gompertz, _ = advance(faces, start, p, line, heterogeneity=Heterogeneity(exponent=0.0))
    gap = []
    for nu in (0.02, 0.01):
        near, _ = advance(faces, start, p, line, heterogeneity=Heterogeneity(exponent=nu))
        gap.append(np.abs(near - gompertz).max())
    assert gap[1] < 5e-3
    assert gap[0] / gap[1] == pytest.approx(2.0, abs=0.1)


def test_effects():
    c = np.array([-1.0, 0.0, 2.0, 1e12])
    np.testing.assert_allclose(Linear(0.5).rate(c), [0, 0, 1.0, 5e11])
    np.testing.assert_allclose(Hill(0.3, 2.0).rate(c), [0, 0, 0.15, 0.3])
    np.testing.assert_allclose(Hill(0.3, 2.0, 3.0).rate(np.array([1.0])), 0.3 / 9)
    with pytest.raises(BadInput, match="ec50 of the effect"):
        Hill(0.3, 0.0)
    with pytest.raises(BadInput, match="slope of the effect"):
        Linear(-1.0)
