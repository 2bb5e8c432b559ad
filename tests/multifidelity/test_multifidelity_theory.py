"""Estimators and allocation against closed forms, and against many repetitions."""

from __future__ import annotations

import numpy as np
import pytest
from multifidelity_cases import COSTS, MODELS, exact

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.multifidelity import Moments, Plan, Scheme, allocate, candidates, combine, moments

SCHEMES = {
    "multi-fidelity Monte Carlo": Scheme((0, 1, 2), (0, 1)),
    "approximate control variates": Scheme((0, 1, 2), (0, 0)),
    "weighted multilevel": Scheme((0, 1, 2), (0, 1), nested=False),
    "Monte Carlo": Scheme((0,), ()),
}


def test_sample_moments_are_numpys() -> None:
    y = generator(1, "moments").standard_normal((50, 3, 2)) @ np.array([[1.0, 0.4], [0.0, 2.0]])
    m = moments(y)
    for q in range(2):
        np.testing.assert_allclose(m.covariance[:, :, q], np.cov(y[:, :, q].T), rtol=1e-12)
        squares = (y[:, :, q] - y[:, :, q].mean(axis=0)) ** 2
        np.testing.assert_allclose(m.squares[:, :, q], np.cov(squares.T), rtol=1e-12)
        np.testing.assert_allclose(m.correlation[:, q], np.corrcoef(y[:, :, q].T)[0], rtol=1e-12)


def test_an_output_that_does_not_vary_has_no_correlation() -> None:
    y = np.full((10, 2, 1), 0.1)
    assert moments(y).correlation.tolist() == [[0.0], [0.0]] and not moments(y).moving.any()


def test_variance_of_the_sample_variance_of_a_normal_is_the_textbooks() -> None:
    sigma, n = 1.7, 13
    normal = Moments(np.full((1, 1, 1), sigma**2), np.full((1, 1, 1), 2 * sigma**4))
    found = Scheme((0,), ()).covariance(np.array([n]), normal, "variance")[0, 0, 0]
    assert found == pytest.approx(2 * sigma**4 / (n - 1), rel=1e-12)


@pytest.mark.parametrize("rho", [0.7, 0.95, 0.9999])
def test_two_models_reach_the_optimum_in_closed_form(rho: float) -> None:
    """Peherstorfer, Willcox & Gunzburger 2016: sigma^2 / B (sqrt(1 - rho^2) + sqrt(w rho^2))^2."""
    w, budget, sigma = 0.01, 5000.0, 2.0
    c = sigma**2 * np.array([[1.0, rho], [rho, 1.0]])[:, :, None]
    plan = allocate(Moments(c, c**2), (1.0, w), budget, ("mean",))
    best = sigma**2 / budget * (np.sqrt(1 - rho**2) + np.sqrt(w * rho**2)) ** 2
    assert plan.variance["mean"][0] == pytest.approx(best, rel=5e-3)
    assert plan.weights["mean"][0, 0] == pytest.approx(-rho, rel=1e-6)
    assert plan.cost <= budget and plan.runs[0] >= 8
    assert plan.gain("mean")[0] == pytest.approx(sigma**2 / budget / best, rel=5e-3)


def test_a_chain_of_three_reaches_the_optimum_in_closed_form() -> None:
    """Theorem 3.4 of the same: ratios r_i^2 = w_0 (rho_i^2 - rho_(i+1)^2) / (w_i (1 - rho_1^2))."""
    rho, w, budget = np.array([1.0, 0.99, 0.9, 0.0]), np.array([1.0, 0.02, 0.001]), 2000.0
    c = np.array([[1.0, 0.99, 0.9], [0.99, 1.0, 0.9], [0.9, 0.9, 1.0]])[:, :, None]
    r = np.sqrt(w[0] * (rho[:-1] ** 2 - rho[1:] ** 2) / (w * (1 - rho[1] ** 2)))
    n = budget / (w @ r) * r
    best = 1 / n[0] - sum((1 / n[i - 1] - 1 / n[i]) * rho[i] ** 2 for i in (1, 2))
    plan = allocate(Moments(c, c**2), w, budget, ("mean",), [SCHEMES["multi-fidelity Monte Carlo"]])
    assert plan.variance["mean"][0] == pytest.approx(best, rel=1e-2)
    # choosing freely among all trees cannot be worse
    assert (
        allocate(Moments(c, c**2), w, budget, ("mean",)).variance["mean"][0]
        <= 1.001 * plan.variance["mean"][0]
    )


def test_an_unrelated_model_is_not_used() -> None:
    c = np.array([[1.0, 0.0], [0.0, 1.0]])[:, :, None]
    plan = allocate(Moments(c, 2 * c), (1.0, 0.1), 100.0)
    assert plan.scheme.models == (0,) and plan.runs == {0: 100}
    np.testing.assert_allclose(plan.gain("mean"), 1.0)


@pytest.mark.parametrize("name", SCHEMES)
def test_estimates_are_unbiased_and_vary_as_predicted(name: str) -> None:
    """2000 keyed repetitions of small experiments; the jackknife's intervals cover."""
    mean, known = exact()
    plan = allocate(known, COSTS, 40.0, schemes=[SCHEMES[name]])
    assert plan.scheme.name == name
    repeats = 2000
    z = generator(3, "repeat", name).standard_normal((repeats, plan.length, 2))
    y = [MODELS[m](z.reshape(-1, 2)).reshape(repeats, plan.length, 2) for m in plan.scheme.models]
    for statistic, target in (("mean", mean[0]), ("variance", known.covariance[0, 0])):
        values, errors, hits = [], [], 0
        for r in range(repeats):
            one = combine(plan, [x[r] for x in y], statistic)
            values.append(one.value)
            se, low, high = one.interval(0.95, positive=statistic == "variance")
            errors.append(se**2)
            hits += (low <= target) & (target <= high)
        found, theory = np.array(values), plan.variance[statistic]
        assert (np.abs(found.mean(axis=0) - target) < 4 * np.sqrt(theory / repeats)).all()
        # fourth moments of these estimators stay near those of a normal: 2/R, doubled for safety
        np.testing.assert_allclose(found.var(axis=0, ddof=1), theory, rtol=4 * np.sqrt(4 / repeats))
        np.testing.assert_allclose(np.mean(errors, axis=0), theory, rtol=0.25)
        least = 0.92 if statistic == "mean" else 0.80
        assert (hits / repeats > least).all() and (hits / repeats < 0.995).all()


def test_many_cheap_runs_pay() -> None:
    _, known = exact()
    plan = allocate(known, COSTS, 40.0)
    assert plan.gain("mean").min() > 4 and plan.gain("variance").min() > 2
    assert plan.runs[0] < 40


def test_every_scheme_of_three_models_is_a_tree() -> None:
    found = candidates(np.array([1.0, 0.9, 0.5]))
    assert len(found) == 1 + 2 * (1 + 1 + 3) and len(set(found)) == len(found)
    assert all(s.parents[0] in (0, 2) for s in found if len(s.parents) == 2)


def test_apart_sets_share_no_input() -> None:
    plan = Plan(Scheme((0, 1), (0,), nested=False), np.array([8, 20]), {}, {}, {}, 0.0)
    assert plan.members(0).tolist() == list(range(8)) and plan.members(1).tolist() == list(range(28))
    assert plan.length == 28 and plan.rows(1)[0] == 8


@pytest.mark.parametrize(
    ("costs", "budget", "word"),
    [((1.0, 0.0, 0.1), 40.0, "not one positive number"), ((1.0, 0.1), 40.0, "not one positive"), (COSTS, 5.0, "does not pay")],
)  # fmt: skip
def test_bad_costs_and_budgets_are_refused(costs, budget, word) -> None:
    with pytest.raises(BadInput, match=word):
        allocate(exact()[1], costs, budget)


def test_a_problem_without_variation_is_refused() -> None:
    still = Moments(np.zeros((2, 2, 1)), np.zeros((2, 2, 1)))
    with pytest.raises(BadInput, match="no output of the first model varies"):
        allocate(still, (1.0, 0.1), 40.0)


def test_too_few_or_broken_pilot_runs_are_refused() -> None:
    with pytest.raises(BadInput, match="more pilot members"):
        moments(np.zeros((3, 2, 1)))
    with pytest.raises(BadInput, match="not finite"):
        moments(np.full((9, 2, 1), np.nan))
