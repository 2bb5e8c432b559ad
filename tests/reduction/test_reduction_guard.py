"""Members the reduced order is not accurate for are run at full order, and held on the longer basis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vvuq_twin.physics.growth import advance
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.guard import Guarded, run_guarded
from vvuq_twin.reduction.propagate import DIVERGED, NOT_FINITE
from vvuq_twin.reduction.training import Trained
from vvuq_twin.reduction.validation import judge, least_norm, relative_error, validate

TOLERANCE = 1.5e-3


def wide(case: GrowthCase, n: int, seed: int) -> np.ndarray:
    """Draws from a prior widened by a half, so that some are beyond the reduced order."""
    return np.asarray(case.space.from_gaussian(1.5 * case.space.gaussian_sample(n, seed, "guard")))


def true_error(case: GrowthCase, trained: Trained, theta: np.ndarray, found: Guarded) -> np.ndarray:
    """Worst visit's relative error of every member against the full order, (N,)."""
    values = case.values(theta)
    first = case.initial(values.initial)
    states, _ = advance(case.faces, first, case.parameters(values), case.timeline, case.exposure)
    least = least_norm(case)
    worst = []
    for i, truth in enumerate(states):
        twin = trained.reduced.reconstruct(found.coefficients[i])
        pairs = zip(truth, twin)
        worst.append(max(relative_error(t, w, case.n_detect, first[i], least) for t, w in pairs))
    return np.array(worst)


def test_the_basis_goes_on_beyond_what_the_model_moves_in(trained: Trained) -> None:
    model = trained.reduced
    used = np.flatnonzero((model.vectors**2).sum(axis=0))
    v = model.vectors[:, used]
    assert len(used) > model.rank == 40 and model.size == 40
    np.testing.assert_allclose(v.T @ v, np.eye(len(used)), atol=1e-12)


def test_no_member_is_left_with_a_large_error(case: GrowthCase, trained: Trained) -> None:
    theta = wide(case, 40, 71)
    alone = run_guarded(trained.reduced, trained.probe, case, theta, np.inf)
    guarded = run_guarded(trained.reduced, trained.probe, case, theta, TOLERANCE)
    before = true_error(case, trained, theta, alone)
    after = true_error(case, trained, theta, guarded)
    # some need it, not all get it
    assert not alone.full.any() and (before > TOLERANCE).any()
    assert 0 < guarded.full.sum() < 40
    assert after.max() < TOLERANCE
    assert (guarded.error <= TOLERANCE).all() and (guarded.status == 0).all()
    # what the full order's coefficients leave out is measured, but for its longer steps' own error
    assert np.abs(guarded.error - after)[guarded.full].max() < 5e-4
    kept = ~guarded.full
    assert np.array_equal(guarded.coefficients[kept], alone.coefficients[kept])
    assert not guarded.coefficients[kept, :, trained.reduced.size :].any()


def test_a_member_the_reduced_order_cannot_run_is_run(case: GrowthCase, trained: Trained) -> None:
    theta = case.space.sample(6, 72, "guard")
    narrow = replace(trained.reduced, limit=0.9 * np.linalg.norm(case.initial(case.values(theta).initial)[0]))
    _, status = narrow.run(case, theta)
    assert (status == DIVERGED).any()
    found = run_guarded(narrow, trained.probe, case, theta, 1.0)
    assert (found.status == 0).all() and found.full[status == DIVERGED].all()
    assert true_error(case, trained, theta, found)[found.full].max() < 0.01


def test_a_member_neither_order_can_run_keeps_its_code(case: GrowthCase, trained: Trained) -> None:
    theta = case.space.sample(3, 73, "guard")
    theta[1, case.space.index("k")] = np.nan
    found = run_guarded(trained.reduced, trained.probe, case, theta, 1.0)
    assert found.status[1] == NOT_FINITE and (found.status[[0, 2]] == 0).all()
    assert np.isinf(found.error[1]) and np.isfinite(found.coefficients).all()


def test_the_validation_judges_with_the_guard(case: GrowthCase, trained: Trained) -> None:
    unseen = wide(case, 24, 74)
    compared = [validate(trained.reduced, trained.probe, case, unseen)]
    strict, lax = (judge(compared, t) for t in (TOLERANCE, np.inf))
    assert lax.guarded_worst == lax.worst and lax.guarded_share == 0.0
    assert 0.0 < strict.guarded_share < 1.0
    assert strict.guarded_worst < min(strict.worst, TOLERANCE)
    assert max(strict.guarded_total_sd) <= max(strict.total_sd)
    # an estimate that nobody else calibrated cannot be trusted
    alone = [validate(trained.reduced, trained.probe, case, unseen[:1])]
    assert judge(alone, TOLERANCE).guarded_share == 1.0


def test_the_guards_cost_is_part_of_the_timings(trained: Trained) -> None:
    cost, share = trained.timings, trained.validation.guarded_share
    # the estimate costs something, and so does every member at full order
    assert cost.guarded > cost.own + share * cost.full
    assert cost.as_dict()["speed_up_guarded"] < cost.as_dict()["speed_up_own_steps"]


def test_cells_count_where_thin_tumour_grows_fast(case: GrowthCase) -> None:
    """Under Gompertz's law the thinnest tail grows fastest: no cell may be left out."""
    gompertz = replace(case, saturation=0.0)
    theta = case.space.sample(1, 75, "guard")
    start = np.where(case.mean > 0.3, case.mean, 0.0)
    values = gompertz.values(theta)
    whole, _ = gompertz.solve(start, values)
    part, _ = gompertz.solve(start, values, negligible=1e-3)
    assert np.array_equal(whole, part)
    some, _ = case.solve(start, case.values(theta), negligible=1e-3)
    assert not np.array_equal(case.solve(start, case.values(theta))[0], some)
