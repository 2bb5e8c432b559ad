"""Bayesian calibration: mode, NUTS, diagnostics and predictive check in one call."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.evidence import Evidence
from ..domain.observations import Observations
from ..domain.parameters import ParameterSpace, posterior_space
from ..ensemble.beside import Begin
from .coordinates import Coordinates
from .diagnostics import Limits, checks, per_parameter
from .laplace import Laplace, laplace
from .likelihood import Likelihood, Predict
from .predictive import predictive_check
from .sample import Chains, Progress, Sampling, nuts


@dataclass(frozen=True)
class CalibrationResult:
    """A posterior sample, and whether it may be trusted.

    Parameters
    ----------
    space : ParameterSpace
        The prior.
    z, theta : ndarray, shape (chains, draws, p)
        Whitened scores and parameter values.
    laplace : Laplace
        Mode and curvature, in scores.
    chains : Chains
        Sampler statistics of the draws kept.
    parameters : dict
        Summary and diagnostics by name (:func:`vvuq_twin.calibration.diagnostics.per_parameter`).
    checks : dict
        Each criterion with value, limit and verdict.
    predictive : dict
        :func:`vvuq_twin.calibration.predictive.predictive_check`.
    limits : Limits
    seed : int
    seconds : float
    evaluations : int
        Gradient evaluations of the sampler, those for draws not kept included.
    rounds : int
        1, or 2 if the first sample did not pass and more was drawn.
    """

    space: ParameterSpace
    z: np.ndarray
    theta: np.ndarray
    laplace: Laplace
    chains: Chains
    parameters: dict[str, dict[str, float]]
    checks: dict[str, dict[str, Any]]
    predictive: dict[str, Any]
    limits: Limits
    seed: int
    seconds: float
    evaluations: int
    rounds: int = 1

    @property
    def passed(self) -> bool:
        """Whether every convergence criterion holds (the predictive check is judged apart)."""
        return all(c["passed"] for c in self.checks.values())

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """Draws by parameter name, each of shape (chains, draws)."""
        return {name: self.theta[:, :, i] for i, name in enumerate(self.space.names)}

    @property
    def mode(self) -> dict[str, float]:
        """Parameter values at the posterior mode in score space."""
        return self.space.as_dict(np.asarray(self.space.from_gaussian(self.laplace.mode)))

    def sample(self) -> np.ndarray:
        """All draws, shape (chains * draws, p)."""
        return self.theta.reshape(-1, self.space.size)

    def next_prior(self) -> ParameterSpace:
        """The posterior as a parameter space, to be the prior of what follows."""
        return posterior_space(self.space, self.sample())

    def datatree(self) -> Any:
        """The draws as ArviZ reads them (an xarray DataTree), for its plots and comparisons."""
        from arviz_base import from_dict

        stats = {"diverging": self.chains.diverging, "energy": self.chains.energy}
        return from_dict({"posterior": dict(self.draws), "sample_stats": stats})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON (without the draws)."""
        return {
            "method": "NUTS (PyMC) in whitened scores",
            "chains": int(self.z.shape[0]),
            "draws": int(self.z.shape[1]),
            "parameters": self.parameters,
            "units": {p.name: p.unit for p in self.space.parameters},
            "checks": self.checks,
            "passed": self.passed,
            "predictive": self.predictive,
            "mode": self.mode,
            "laplace_log_evidence": self.laplace.log_evidence,
            "gradient_evaluations": self.evaluations,
            "not_finite_evaluations": self.chains.bad,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "seed": self.seed,
        }

    def evidence(self, provenance: dict[str, Any] | None = None) -> list[Evidence]:
        """Convergence of the sampler, and the predictive check."""
        p = self.predictive["p_value"]
        return [
            Evidence(
                id="calibration.nuts.convergence",
                factor="numerical_solver_error",
                claim="The posterior sample has converged.",
                acceptance=self.limits.sentence(),
                result={k: v["value"] for k, v in self.checks.items()} | {"draws": len(self.sample())},
                status="passed" if self.passed else "failed",
                provenance={"seed": self.seed, **(provenance or {})},
            ),
            Evidence(
                id="calibration.predictive",
                factor="model_form",
                claim="Data drawn from the calibrated model look like the observations.",
                acceptance="posterior predictive p-value of the misfit between 0.01 and 0.99",
                result=dict(self.predictive),
                status="passed" if 0.01 <= p <= 0.99 else "failed",
                provenance={"seed": self.seed, **(provenance or {})},
            ),
        ]


def calibrate(
    space: ParameterSpace,
    predict: Predict,
    observations: Observations,
    seed: int,
    chains: int = 2,
    draws: int = 500,
    tune: int = 150,
    scale: str | None = None,
    limits: Limits | None = None,
    starts: int = 3,
    pilot: int = 150,
    rounds: int = 2,
    predictive_draws: int = 200,
    progress: Progress | None = None,
    target_accept: float = 0.65,
    begin: Begin | None = None,
) -> CalibrationResult:
    """Sample the posterior of the parameters given observations.

    Parameters
    ----------
    space : ParameterSpace
        The prior.
    predict : callable
        JAX function from parameter values, shape (p,), to predictions, shape (m,); differentiable.
    observations : Observations
        With the three-part error; NaN is missing.
    seed : int
    chains, draws, tune : int
    scale : str, optional
        A parameter that multiplies the whole observation error.
    limits : Limits, optional
    starts : int
        Starts of the search for the mode.
    pilot : int
        Draws of each chain that shape the sampler's coordinates and are then thrown away; 0 for none (the
        coordinates are those of the Laplace approximation).
    rounds : int
        If 2 and the first sample fails a criterion: as many chains more; or, where transitions diverged or trees
        were cut, the chains anew with smaller steps. The verdict is on what is returned.
    predictive_draws : int
    progress : callable, optional
        ``progress(iterations done, iterations in all)``.
    target_accept : float
        What the step size is tuned to. 0.65 is cheapest where the posterior is nearly normal in scores; a
        curved ridge needs 0.9 or more.
    begin : Begin, optional
        Workers for all chains but the first (:func:`vvuq_twin.ensemble.beside`). The draws are the same without.

    Raises
    ------
    BadInput
        If data, model and parameters do not fit together, or a number is out of range.
    RunFailed
        If the model gives no finite values near the middle of the prior, or the sampler could not draw.

    Notes
    -----
    A value of the model that is not finite counts as a log-likelihood of -1e10 and is
    counted in ``not_finite_evaluations``; it never raises.
    """
    if chains < 2 or draws < 20 or tune < 20 or 0 < pilot < 20 or pilot < 0:
        raise BadInput(
            "a calibration needs 2 chains, 20 draws, 20 tuning steps and a pilot of 20 draws at least, or of none",
            "calibration",
        )
    limits = limits or Limits()
    began = time.perf_counter()
    likelihood = Likelihood(space, predict, observations, scale)
    found = laplace(likelihood, seed, starts)
    coordinates = Coordinates.of_laplace(found)
    how = Sampling(draws, tune, target_accept)
    expected = chains * (how.iterations + (pilot + tune if pilot else 0))
    spent = evaluations = 0

    def sampled(settings: Sampling) -> Chains:
        nonlocal spent, evaluations
        before = spent

        def told(done: int, _of: int) -> None:
            if progress is not None:
                progress(before + done, expected)

        drawn = nuts(likelihood, coordinates, seed, chains, settings, told, begin)
        spent += chains * settings.iterations
        evaluations += drawn.evaluations
        return drawn

    def judged(chain: Chains) -> tuple[np.ndarray, dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
        theta = np.asarray(space.from_gaussian(chain.z))
        parameters = per_parameter(space.names, theta, chain.z)
        return theta, parameters, checks(parameters, chain, limits)

    if pilot:
        coordinates = Coordinates.of_draws(sampled(replace(how, draws=pilot, stage=1)).z, found)
    drawn = sampled(how)
    theta, parameters, verdicts = judged(drawn)
    used = 1
    if rounds > 1 and not all(c["passed"] for c in verdicts.values()):
        used = 2
        rough = not (verdicts["divergences"]["passed"] and verdicts["at_limit"]["passed"])
        more = replace(how, stage=2)
        if rough:
            more = replace(more, tune=2 * tune, target_accept=max(target_accept, 0.9), max_treedepth=10)
        expected += chains * more.iterations
        again = sampled(more)
        drawn = again if rough else Chains.joined([drawn, again])
        theta, parameters, verdicts = judged(drawn)
    predictive = predictive_check(likelihood, drawn.z.reshape(-1, space.size), seed, predictive_draws)
    return CalibrationResult(
        space, drawn.z, theta, found, drawn, parameters, verdicts, predictive, limits, seed,
        time.perf_counter() - began, evaluations, used,
    )  # fmt: skip
