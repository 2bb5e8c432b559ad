"""Surrogates of fields: exact where they can be, honest where they cannot, and the contract of the forward model."""

from __future__ import annotations

import numpy as np
import pytest
from surrogate_cases import SPACE, TIMES, Front, Quadratic, X

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.reduction.polynomials import basis
from vvuq_twin.reduction.surrogate import NOT_FINITE, NOT_OWN, OK, OUTSIDE
from vvuq_twin.reduction.surrogate_fits import GaussianProcesses, Polynomials
from vvuq_twin.reduction.surrogate_runs import compress_runs, training_scores
from vvuq_twin.twin.model import Trajectory
from vvuq_twin.twin.observe import Cellularity
from vvuq_twin.twin.surrogate import SurrogateTwin, train_surrogate, training_runs

FITTERS = {"polynomials": Polynomials(), "processes": GaussianProcesses()}


@pytest.fixture(scope="module", params=sorted(FITTERS))
def twin(request) -> SurrogateTwin:
    return train_surrogate(Front(), training_scores(SPACE, 80, 3), FITTERS[request.param])


def relative(model, twin: SurrogateTwin, theta: np.ndarray) -> np.ndarray:
    """True relative L2 error (N, V)."""
    truth = model.trajectory(theta).values
    found = twin.trajectory(theta).values
    fields = np.stack([twin.model.reconstruct(found[:, v]) for v in range(found.shape[1])], axis=1)
    return np.linalg.norm(fields - truth, axis=2) / np.linalg.norm(truth, axis=2)


def test_polynomials_reproduce_a_polynomial_field() -> None:
    twin = train_surrogate(Quadratic(), training_scores(SPACE, 40, 3), Polynomials())
    theta = SPACE.sample(30, 9, "unseen")
    assert relative(Quadratic(), twin, theta).max() < 1e-6
    assert twin.model.errors["worst"] < 1e-6 and twin.model.errors["degree"] == 2
    assert twin.fields(twin.trajectory(theta).values[:, 1]).at(np.array([299])).max() == 0.0


def test_fields_whose_size_spans_decades_are_regressed_by_their_logarithm() -> None:
    """exp(z) times one shape: exact in the logarithm with degree one, out of reach of a low degree without it."""

    class Exponential:
        space = SPACE

        def trajectory(self, theta):
            z = SPACE.to_gaussian(theta)
            sizes = np.exp(1.0 * z[:, :1] - 0.5 * z[:, 1:2] + 0.1 * TIMES)
            return Trajectory(sizes[:, :, None] * np.exp(-X), np.zeros(len(z), dtype=int), TIMES)

    twin = train_surrogate(Exponential(), training_scores(SPACE, 32, 3), Polynomials())
    assert twin.model.errors["logarithm"] and twin.model.errors["worst"] < 1e-6
    assert relative(Exponential(), twin, SPACE.sample(20, 9, "unseen")).max() < 1e-6
    assert not train_surrogate(Quadratic(), training_scores(SPACE, 64, 3), Polynomials()).model.errors[
        "logarithm"
    ]


def test_leave_one_out_of_polynomials_is_that_of_fitting_again() -> None:
    z = SPACE.gaussian_sample(25, 1, "loo")
    y = np.stack([np.exp(0.3 * z[:, 0]), z[:, 1] * z[:, 2]], axis=1)
    fit = Polynomials(degrees=(2,), hyperbolic=(1.0,))(SPACE, z, y)
    psi = basis(z, fit.indices, fit.kinds)
    for i in (0, 7, 24):
        keep = np.arange(25) != i
        again = np.linalg.lstsq(psi[keep], y[keep], rcond=None)[0]
        np.testing.assert_allclose(fit.left_out[i], psi[i] @ again - y[i], rtol=1e-8, atol=1e-13)


def test_a_gaussian_process_with_a_known_kernel_is_the_textbooks() -> None:
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    z = SPACE.gaussian_sample(20, 1, "gp")
    y = np.stack([np.sin(z[:, 0]), z[:, 1] ** 2], axis=1)
    y = y / y.std(axis=0)
    fit = GaussianProcesses(RBF(1.3, "fixed") + WhiteKernel(0.01, "fixed"))(SPACE, z, y)

    def rbf(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / (2 * 1.3**2))

    k = rbf(z, z) + 0.01 * np.eye(20)
    new = SPACE.gaussian_sample(5, 2, "gp")
    cross = rbf(new, z)
    np.testing.assert_allclose(fit.predict(new), cross @ np.linalg.solve(k, y), rtol=1e-8)
    variance = 1.01 - np.einsum("ij,ij->i", cross, np.linalg.solve(k, cross.T).T)
    np.testing.assert_allclose(fit.spread(new)[:, 0], np.sqrt(variance), rtol=1e-8)
    for i in (0, 11):
        keep = np.arange(20) != i
        again = k[np.ix_([i], keep)] @ np.linalg.solve(k[np.ix_(keep, keep)], y[keep])
        np.testing.assert_allclose(fit.left_out[i], again[0] - y[i], rtol=1e-8)


def test_cross_validated_error_is_that_on_unseen_runs(twin: SurrogateTwin) -> None:
    # the training reaches beyond the prior: its own errors are larger than those of prior draws
    unseen = np.asarray(SPACE.from_gaussian(training_scores(SPACE, 200, 77)[80:]))
    inside = twin.trajectory(unseen).status == OK
    true = relative(Front(), twin, unseen[inside])
    worst = true.max(axis=1)
    errors = twin.model.errors
    assert 0.4 < np.median(worst) / errors["median"] < 2.5
    assert errors["median"] < 0.02
    estimate = twin.error_estimate(unseen[inside])
    assert estimate.shape == true.shape
    covered = (estimate.max(axis=1) >= worst).mean()
    assert covered > errors["level"] - 0.06
    assert np.median(estimate.max(axis=1) / worst) < 30


def test_the_estimate_tells_easy_from_hard(twin: SurrogateTwin) -> None:
    centre = np.asarray(SPACE.from_gaussian(np.zeros((1, 3))))
    corner = np.asarray(SPACE.from_gaussian(np.array([[3.0, -2.8, 2.9]])))
    assert twin.error_estimate(corner).max() > 1.2 * twin.error_estimate(centre).max()


def test_outside_the_trained_range_is_flagged_and_said(twin: SurrogateTwin) -> None:
    theta = np.asarray(SPACE.from_gaussian(np.array([[0.0, 0.0, 0.0], [0.0, 6.0, 0.0], [np.nan, 0.0, 0.0]])))
    found = twin.trajectory(theta)
    assert found.status.tolist() == [OK, OUTSIDE, NOT_FINITE] and np.isfinite(found.values).all()
    assert twin.model.outside(theta[:2]) == (
        "1 of 2 members are outside the range the surrogate was trained on, in k"
    )
    assert twin.model.outside(theta[:1]) == ""
    estimate = twin.error_estimate(theta)
    assert np.isfinite(estimate[0]).all() and np.isinf(estimate[1:]).all()


def test_few_prior_draws_are_outside() -> None:
    z = training_scores(SPACE, 128, 3)
    twin = train_surrogate(Quadratic(), z, Polynomials())
    assert (twin.trajectory(SPACE.sample(4000, 5, "prior")).status != OK).mean() < 0.01


@pytest.mark.parametrize("fitter", FITTERS.values(), ids=sorted(FITTERS))
def test_runs_that_diverge_are_dropped_and_counted(fitter) -> None:
    model = Front(diverges_above=0.14)
    z = training_scores(SPACE, 60, 3)
    bad = int((np.asarray(SPACE.from_gaussian(z))[:, 0] > 0.14).sum())
    twin = train_surrogate(model, z, fitter)
    assert twin.model.errors["failed"] == bad > 0 and twin.model.errors["members"] == 60 - bad
    # where the runs failed nothing was learned
    there = np.asarray(SPACE.from_gaussian(np.array([[3.0, 0.0, 0.0]])))
    assert twin.trajectory(there).status.tolist() == [OUTSIDE]
    assert np.isfinite(twin.trajectory(there).values).all()


def test_too_many_failures_and_too_few_runs_are_said() -> None:
    with pytest.raises(RunFailed, match="training runs of the surrogate failed"):
        train_surrogate(Front(diverges_above=0.01), training_scores(SPACE, 20, 3), Polynomials())
    with pytest.raises(BadInput, match="too few for polynomials"):
        train_surrogate(Front(), training_scores(SPACE, 5, 3), Polynomials())
    with pytest.raises(BadInput, match="too few for a Gaussian process"):
        train_surrogate(Front(), training_scores(SPACE, 6, 3), GaussianProcesses())


def test_batches_of_runs_do_not_matter() -> None:
    z = training_scores(SPACE, 24, 3)
    one, times, size = training_runs(Front(), z, batch=24)
    many, _, _ = training_runs(Front(), z, batch=5)
    assert size == 300 and times.tolist() == TIMES.tolist()
    np.testing.assert_allclose(one.norm, many.norm, rtol=1e-4)
    truth = Front().trajectory(np.asarray(SPACE.from_gaussian(z))).values
    for runs in (one, many):
        fields = runs.coefficients @ runs.basis.vectors.T
        assert np.linalg.norm(fields - truth[:, :, runs.rows]) < 1e-3 * np.linalg.norm(truth)


def test_a_batch_without_a_good_run_is_empty() -> None:
    found = compress_runs(np.zeros((2, 3)), np.full((2, 3, 10), np.nan), np.zeros(2))
    assert found.failed == 2 and len(found.z) == 0


def test_it_serves_as_a_forward_model(twin: SurrogateTwin) -> None:
    theta = SPACE.sample(6, 4, "members")
    state = twin.initial(theta)
    assert state.time == 0.0
    later, status = twin.propagate(state, theta, 0.0, 20.0)
    whole = twin.trajectory(theta)
    assert (status == OK).all() and later.time == 20.0
    np.testing.assert_allclose(later.values, whole.values[:, 2])
    cells = np.array([0, 50, 120])
    seen = twin.observe(later, theta, Cellularity(cells))
    np.testing.assert_allclose(seen, Front().trajectory(theta).values[:, 2, cells], atol=0.03)


def test_what_a_surrogate_cannot_do_it_says(twin: SurrogateTwin) -> None:
    theta = SPACE.sample(2, 4, "members")
    state = twin.initial(theta)
    with pytest.raises(BadInput, match="cannot start from a given state"):
        twin.initial(theta, {"values": state.values})
    with pytest.raises(BadInput, match=r"day 7 is not one .* use one of 0, 10, 20"):
        twin.propagate(state, theta, 0.0, 7.0)
    with pytest.raises(BadInput, match="one schedule only"):
        twin.propagate(state, theta, 0.0, 10.0, events=object())  # type: ignore[arg-type]
    state.values[1] += 0.1
    later, status = twin.propagate(state, theta, 0.0, 10.0)
    assert status.tolist() == [OK, NOT_OWN]
    np.testing.assert_array_equal(later.values[1], state.values[1])
