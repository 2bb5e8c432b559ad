"""Polynomial chaos against polynomials it must reproduce, closed forms, and brute leave-one-out."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import sensitivity_cases as cases

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from vvuq_twin.reduction.polynomials import basis, families, multi_indices
from vvuq_twin.sensitivity import chaos_evidence, fit_chaos

NORMALS = ParameterSpace(tuple(Parameter(n, "1", Normal(0, 1)) for n in "abc"))


def test_the_basis_is_orthonormal():
    indices = multi_indices(2, 4)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    u, v = np.polynomial.legendre.leggauss(12)
    from scipy.special import ndtri

    z = np.stack(np.meshgrid(nodes, ndtri((u + 1) / 2), indexing="ij"), -1).reshape(-1, 2)
    w = np.outer(weights / weights.sum(), v / 2).ravel()
    psi = basis(z, indices, ("hermite", "legendre"))
    np.testing.assert_allclose(psi.T @ (psi * w[:, None]), np.eye(len(indices)), atol=1e-10)
    np.testing.assert_array_equal(psi[:, 0], 1)


def test_multi_indices_are_the_hyperbolic_set():
    for degree, q in ((3, 1.0), (4, 0.75), (5, 0.5)):
        grid = np.stack(np.meshgrid(*[range(degree + 1)] * 3), -1).reshape(-1, 3)
        wanted = grid[(grid.astype(float) ** q).sum(axis=1) ** (1 / q) <= degree + 1e-9]
        found = multi_indices(3, degree, q)
        assert {tuple(i) for i in found} == {tuple(i) for i in wanted}
        assert len(found) == len(wanted) and (found[0] == 0).all()


def test_a_polynomial_is_reproduced_and_its_indices_are_exact():
    z = NORMALS.gaussian_sample(120, 1, "training")

    def model(z):
        a, b, c = z.T
        return np.stack([1 + 2 * a + (b**2 - 1) + 3 * a * c, c**3], axis=1)

    chaos = fit_chaos(NORMALS, z, model(z), degrees=(1, 2, 3), hyperbolic=(1.0,))
    unseen = NORMALS.gaussian_sample(50, 2, "unseen")
    np.testing.assert_allclose(chaos.predict(unseen), model(unseen), atol=1e-10)
    np.testing.assert_allclose(chaos(NORMALS.from_gaussian(unseen)), model(unseen), atol=1e-10)
    assert chaos.degree == 3 and (chaos.error < 1e-20).all()
    np.testing.assert_allclose(chaos.mean, [1, 0], atol=1e-10)
    np.testing.assert_allclose(chaos.variance, [4 + 2 + 9, 15], rtol=1e-10)
    found = chaos.sobol()
    np.testing.assert_allclose(found.first[:, 0], np.array([4, 2, 0]) / 15, atol=1e-12)
    np.testing.assert_allclose(found.total[:, 0], np.array([13, 2, 9]) / 15, atol=1e-12)
    np.testing.assert_allclose(found.total[:, 1], [0, 0, 1], atol=1e-12)
    together = chaos.sobol({"ac": ["a", "c"]})
    assert together.names == ("ac", "b")
    np.testing.assert_allclose(together.first[:, 0], np.array([13, 2]) / 15, atol=1e-12)
    json.dumps(found.to_dict(), allow_nan=False), json.dumps(chaos.to_dict(), allow_nan=False)


def test_ishigami_converges_with_legendre_polynomials():
    z = cases.ISHIGAMI.gaussian_sample(1024, 3, "training", "sobol")
    chaos = fit_chaos(
        cases.ISHIGAMI,
        z,
        cases.ishigami(cases.ISHIGAMI.from_gaussian(z)),
        degrees=(4, 8, 12),
        hyperbolic=(1.0,),
    )
    first, total, variance, _ = cases.ishigami_indices()
    found = chaos.sobol()
    assert families(cases.ISHIGAMI) == ("legendre",) * 3 and chaos.degree == 12
    np.testing.assert_allclose(found.first, first, atol=1e-4)
    np.testing.assert_allclose(found.total, total, atol=1e-4)
    assert chaos.variance == pytest.approx(variance, rel=1e-4)


def test_g_function_within_its_own_error():
    z = cases.G_SPACE.gaussian_sample(1024, 4, "training", "sobol")
    chaos = fit_chaos(
        cases.G_SPACE,
        z,
        cases.g_function(cases.G_SPACE.from_gaussian(z)),
        degrees=(6, 10),
        hyperbolic=(0.5,),
    )
    first, total, _ = cases.g_indices()
    found = chaos.sobol()
    np.testing.assert_allclose(found.first, first, atol=0.02)
    np.testing.assert_allclose(found.total, total, atol=0.02)
    assert 1e-4 < chaos.error < 0.05


def test_a_linear_field_has_the_known_indices_at_each_point():
    z = cases.LINEAR_SPACE.gaussian_sample(30, 5, "training")
    field, indices, variance = cases.linear_field(cases.LINEAR_SPACE.from_gaussian(z))
    chaos = fit_chaos(cases.LINEAR_SPACE, z, field, degrees=(1,))
    found = chaos.sobol()
    np.testing.assert_allclose(found.first, indices, atol=1e-12)
    np.testing.assert_allclose(found.total, indices, atol=1e-12)
    np.testing.assert_allclose(chaos.variance, variance, rtol=1e-10)


def test_a_lognormal_product_has_indices_in_closed_form():
    space = ParameterSpace((Parameter("a", "1", LogNormal(1, 0.3)), Parameter("b", "1", LogNormal(1, 0.6))))
    z = space.gaussian_sample(512, 6, "training", "sobol")
    chaos = fit_chaos(space, z, space.from_gaussian(z).prod(axis=1), degrees=(6, 8), hyperbolic=(1.0,))
    grown = np.exp(np.array([0.3, 0.6]) ** 2) - 1
    variance = np.prod(1 + grown) - 1
    np.testing.assert_allclose(chaos.sobol().first, grown / variance, atol=1e-3)
    np.testing.assert_allclose(chaos.sobol().total, grown * (1 + grown[::-1]) / variance, atol=1e-3)


def test_leave_one_out_from_the_leverages_is_leave_one_out():
    z = NORMALS.gaussian_sample(25, 7, "training")
    y = np.exp(z[:, 0]) + z[:, 1] * z[:, 2]
    chaos = fit_chaos(NORMALS, z, y, degrees=(2,), hyperbolic=(1.0,))
    psi = basis(z, chaos.indices, chaos.kinds)
    errors = []
    for i in range(25):
        keep = np.arange(25) != i
        errors.append(y[i] - psi[i] @ np.linalg.lstsq(psi[keep], y[keep], rcond=None)[0])
    assert chaos.error == pytest.approx(np.mean(np.square(errors)) / y.var(ddof=1), rel=1e-9)


def test_noise_does_not_raise_the_degree_and_the_error_is_that_on_unseen_points():
    degrees, claimed, found = [], [], []
    unseen = NORMALS.gaussian_sample(2000, 8, "unseen")
    for repeat in range(8):
        z = NORMALS.gaussian_sample(80, repeat, "training")
        noise = NORMALS.gaussian_sample(80, repeat, "noise")[:, 0]
        chaos = fit_chaos(NORMALS, z, z @ [1.0, 2.0, 3.0] + 0.5 * noise, degrees=(1, 2, 3, 4))
        degrees.append(chaos.degree)
        claimed.append(chaos.error * 14.25)
        found.append(np.mean((chaos.predict(unseen) - unseen @ [1.0, 2.0, 3.0]) ** 2) + 0.25)
    assert np.mean(np.equal(degrees, 1)) > 0.5
    assert np.mean(claimed) == pytest.approx(np.mean(found), rel=0.2)


def test_many_outputs_take_little_memory():
    z = NORMALS.gaussian_sample(200, 10, "training")
    y = np.sin(z @ np.random.Generator(np.random.Philox(1)).normal(size=(3, 10_000)) * 0.3)
    tracemalloc.start()
    chaos = fit_chaos(NORMALS, z, y, degrees=(3,), hyperbolic=(1.0,))
    chaos.sobol()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chaos.coefficients.shape == (20, 10_000) and peak < 150e6


def test_failed_rows_are_left_out_and_still_outputs_have_zero_indices():
    z = NORMALS.gaussian_sample(80, 11, "training")
    y = np.stack([z @ [1.0, 0, 0], np.full(80, 0.3)], axis=1)
    y[3, 0], status = np.nan, np.zeros(80, int)
    status[5], y[5] = 4, 1e9
    chaos = fit_chaos(NORMALS, z, y, degrees=(1,), status=status)
    assert chaos.training == 78
    found = chaos.sobol()
    np.testing.assert_allclose(found.total, [[1, 0], [0, 0], [0, 0]], atol=1e-12)
    assert chaos.error[1] == 0


def test_bad_input_is_refused():
    z = NORMALS.gaussian_sample(30, 12, "training")
    for call, word in (
        ((NORMALS, z[:, :2], z[:, 0]), "do not fit"),
        ((NORMALS, z[:5], z[:5, 0]), "too few"),
    ):
        with pytest.raises(BadInput, match=word):
            fit_chaos(*call)
    with pytest.raises(BadInput, match="names"):
        fit_chaos(NORMALS, z, z, outputs=("one",))
    with pytest.raises(RunFailed, match="do not determine"):
        fit_chaos(NORMALS, np.repeat(z[:2], 20, axis=0), np.ones(40))


def test_evidence_passes_and_fails():
    z = cases.ISHIGAMI.gaussian_sample(300, 13, "training")
    y = cases.ishigami(cases.ISHIGAMI.from_gaussian(z))
    assert chaos_evidence(fit_chaos(cases.ISHIGAMI, z, y, degrees=(1,))).status == "failed"
    good = chaos_evidence(fit_chaos(cases.ISHIGAMI, z, y, degrees=(7, 8)))
    assert good.status == "passed" and good.result["worst_relative_error"] < 0.05
