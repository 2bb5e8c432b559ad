"""Estimators and surrogates against models whose means, variances and polynomials are known."""

from __future__ import annotations

import numpy as np

from ..domain.keys import generator
from ..domain.parameters import Normal, Parameter, ParameterSpace
from ..multifidelity import Moments, Scheme, allocate, combine
from ..reduction.surrogate import fit_surrogate
from ..reduction.surrogate_fits import Polynomials
from ..reduction.surrogate_runs import compress_runs, join_runs
from .registry import Result, check

RHO, PRICE = 0.95, 0.01


def pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two quadratic models of standard normals x and y with means 1.5 and 9 and variances 1.5 and 24 / 25."""
    return 1.0 + x + 0.5 * x**2, 9.0 + 0.8 * x + 0.2 * (x**2 - 1.0) + np.sqrt(0.24) * y


#: Of ``pair``: covariances, and those of the squared deviations by quadrature.
MEAN, VARIANCE = 1.5, 1.5


def quadrature_moments() -> Moments:
    """Moments of the pair by a product rule that is exact for polynomials."""
    nodes, w = np.polynomial.hermite_e.hermegauss(12)
    w = w / w.sum()
    values = np.stack(pair(nodes[:, None] + 0 * nodes, nodes + 0 * nodes[:, None])).reshape(2, -1)
    weight = np.outer(w, w).ravel()
    d = values - (values @ weight)[:, None]
    s = d**2 - (d**2 @ weight)[:, None]
    return Moments(np.einsum("n,an,bn->ab", weight, d, d)[..., None], np.einsum("n,an,bn->ab", weight, s, s)[..., None])  # fmt: skip


@check(
    "multifidelity.unbiased",
    "Multi-fidelity means and variances are unbiased and vary as predicted",
    "over repeated experiments the mean within four standard errors of the truth, the variance within 25 % of the prediction",
    "two quadratic models of normals, moments in closed form",
)
def unbiased(quick: bool) -> Result:
    """Nested sets, and sets apart; the cheap model is biased by 7.5."""
    repeats = 1000 if quick else 4000
    known = quadrature_moments()
    result: dict[str, float] = {}
    passed = True
    for nested in (True, False):
        plan = allocate(known, (1.0, 0.05), 30.0, schemes=[Scheme((0, 1), (0,), nested)])
        normals = generator(1, "verify", "multifidelity", int(nested)).standard_normal(
            (2, repeats, plan.length)
        )
        y = [v[..., None] for v in pair(*normals)]
        for statistic, truth in (("mean", MEAN), ("variance", VARIANCE)):
            values = np.array([combine(plan, [v[r] for v in y], statistic).value[0] for r in range(repeats)])  # type: ignore[arg-type]
            predicted = float(plan.variance[statistic][0])  # type: ignore[index]
            gap = abs(values.mean() - truth) / np.sqrt(predicted / repeats)
            ratio = values.var(ddof=1) / predicted
            passed &= bool(gap < 4 and abs(ratio - 1) < 0.25)
            label = f"{statistic}, {'nested' if nested else 'apart'}"
            result |= {f"{label}: error in standard errors": float(gap), f"{label}: variance over predicted": float(ratio)}  # fmt: skip
    return passed, result


@check(
    "multifidelity.allocation",
    "The allocation of runs reaches the least variance for its cost",
    "variance within 1 % of the closed form",
    "Peherstorfer, Willcox & Gunzburger 2016: B^-1 (sqrt(1 - rho^2) + sqrt(w rho^2))^2",
)
def allocation(quick: bool) -> Result:
    """Two models with correlation 0.95, prices 1 and 0.01."""
    c = np.array([[1.0, RHO], [RHO, 1.0]])[:, :, None]
    budget = 5000.0
    plan = allocate(Moments(c, 2 * c**2), (1.0, PRICE), budget, ("mean",))
    best = (np.sqrt(1 - RHO**2) + np.sqrt(PRICE * RHO**2)) ** 2 / budget
    # within the budget, and no better than is possible
    ratio = float(plan.variance["mean"][0] / best)
    return bool(0.999 < ratio < 1.01 and plan.cost <= budget), {"variance over the closed form": ratio}


@check(
    "surrogate.polynomial",
    "A polynomial surrogate of fields reproduces a polynomial field",
    "largest relative error on unseen parameters below 1e-6",
    "fields of degree two in two normal parameters",
)
def polynomial(quick: bool) -> Result:
    """Three visits, 200 voxels, 32 runs in two batches."""
    space = ParameterSpace(tuple(Parameter(n, "1", Normal(0.0, 1.0)) for n in "ab"))
    x = np.linspace(0.0, 1.0, 200)

    def fields(z: np.ndarray) -> np.ndarray:
        a, b = z.T
        parts = np.stack([2.0 + 0.4 * a, 0.3 * b + 0.2 * a * b, 0.1 * (b**2 - a)])
        return np.einsum(
            "in,ix,t->ntx", parts, np.stack([np.exp(-x), np.sin(4 * x), x]), np.array([1.0, 1.3, 1.9])
        )

    z = space.gaussian_sample(32, 1, "verify-surrogate", "sobol")
    batches = [compress_runs(part, fields(part), np.zeros(16)) for part in (z[:16], z[16:])]
    found = fit_surrogate(
        space, join_runs(batches, 1e-8, 50), np.array([0.0, 1.0, 2.0]), len(x), Polynomials()
    )
    unseen = 0.8 * space.gaussian_sample(16, 2, "verify-surrogate")
    inside = ((unseen >= found.low) & (unseen <= found.high)).all(axis=1)
    coefficients, status = found.predict(unseen[inside])
    truth = fields(unseen[inside])
    got = np.stack([found.reconstruct(coefficients[:, v]) for v in range(3)], axis=1)
    e = float((np.linalg.norm(got - truth, axis=2) / np.linalg.norm(truth, axis=2)).max())
    return bool(e < 1e-6 and (status == 0).all()), {"relative error": e, "members": int(inside.sum())}
