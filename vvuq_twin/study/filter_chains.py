"""The posterior that the smoothers of a growth study approximate, sampled: NUTS on all their scans at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calibration.coordinates import Coordinates
from ..calibration.diagnostics import per_parameter
from ..calibration.laplace import laplace
from ..calibration.likelihood import Likelihood
from ..calibration.sample import Sampling, nuts
from ..domain.observations import stack
from ..reduction.backend import jax, jnp
from ..reduction.growth import ReducedGrowth
from .growth_problem import ADC_SCALE, GrowthProblem, VisitScan, until

#: Scale of the logistic function of cellularity by which counted voxels get a slope; an outline's width spans it.
EDGE = 0.02
#: What the sampler's steps are tuned to accept.
ACCEPT = 0.8


def scans_likelihood(
    problem: GrowthProblem, reduced: ReducedGrowth, visits: int, counted: bool = True
) -> Likelihood:
    """The likelihood of the scans after the first, up to ``visits``, that a smoother assumes.

    Parameters
    ----------
    problem : GrowthProblem
    reduced : ReducedGrowth
    visits : int
    counted : bool
        The visible volume counts voxels, as :meth:`VisitScan.predict` does, so that the density has small
        steps; its gradient is that of a smooth count, which is all a sampler's leapfrog steps need to leave the
        posterior as it is. If not, the volume is the smooth count: for a search of the mode.

    Notes
    -----
    The value is that of :meth:`GrowthProblem.predict` with the whole error of the observations, to round-off; a
    member that the reduced model could not run has no finite prediction.
    """
    cut = until(problem, visits)
    scans = problem.scans[1:visits]
    parts = [(scan.visit, _readout(scan, problem, reduced, counted)) for scan in scans]

    def predict(theta: Any) -> Any:
        coefficients, status = reduced.run(cut.case, theta[None, :], jnp)
        seen = jnp.concatenate([read(theta, coefficients[0, visit]) for visit, read in parts])
        return jnp.where(status[0] == 0, seen, jnp.nan)

    return Likelihood(problem.space, predict, stack([scan.observations for scan in scans]))


def _readout(
    scan: VisitScan, problem: GrowthProblem, reduced: ReducedGrowth, counted: bool
) -> Callable[[Any, Any], Any]:
    """:meth:`VisitScan.predict` from one member's parameters (p,) and coefficients (size,), traceable."""
    water = ADC_SCALE * problem.spec.observation.adc_water_mm2_per_s
    detection = problem.spec.model.detection
    floor = problem.space.index("adc_min")
    place = np.minimum(np.searchsorted(reduced.rows, scan.cells), len(reduced.rows) - 1)
    there = reduced.rows[place] == scan.cells
    vectors = np.where(there[:, None], reduced.moving[place], 0.0)
    size = np.bincount(scan.block)
    # inside, the mean of a block is linear in the coefficients; no block has voxels on both sides
    mean = np.zeros((len(size), reduced.size))
    np.add.at(mean, scan.block, vectors / size[scan.block, None])
    inside = np.zeros(len(size), dtype=bool)
    inside[scan.block[scan.inside]] = True
    block, share = scan.block, 1.0 / size
    vectors_, mean_ = jnp.asarray(vectors), jnp.asarray(mean)

    def read(theta: Any, coefficients: Any) -> Any:
        span = water - ADC_SCALE * theta[floor]
        cellularity = vectors_ @ coefficients
        excess = share * jax.ops.segment_sum(jnp.maximum(cellularity - detection, 0.0), block, len(share))
        means = jnp.where(inside, water - span * (mean_ @ coefficients), span * excess)
        volume = jax.nn.sigmoid((cellularity - detection) / EDGE).sum()
        if counted:
            volume += jax.lax.stop_gradient((cellularity >= detection).sum() - volume)
        return jnp.concatenate([means, volume[None] / scan.volume_unit])

    return read


@dataclass(frozen=True)
class Sampled:
    """Draws of the posterior and what tells whether they may be trusted.

    Parameters
    ----------
    z : ndarray, shape (D, p)
        Whitened scores, all chains.
    r_hat : float
        Largest rank-normalised split R-hat of any score.
    ess_bulk, ess_tail : float
        Least effective sample sizes of any score.
    gradients : int
        Evaluations of all chains, those of the pilot included.
    failed : int
        Runs of the model among them that gave nothing finite.
    divergent : int
        Transitions to the draws kept. A trajectory that meets a failed run ends as one.
    """

    z: np.ndarray
    r_hat: float
    ess_bulk: float
    ess_tail: float
    gradients: int
    failed: int
    divergent: int


def sample_scans(
    problem: GrowthProblem,
    reduced: ReducedGrowth,
    visits: int,
    seed: int,
    chains: int,
    pilot: int,
    tune: int,
    draws: int,
) -> Sampled:
    """Sample the posterior given the scans after the first, up to ``visits``.

    The chains start apart round the mode; a pilot in the coordinates of the curvature there shapes those of the draws
    (:mod:`vvuq_twin.calibration.coordinates`).

    Parameters
    ----------
    problem : GrowthProblem
    reduced : ReducedGrowth
    visits : int
    seed : int
    chains, pilot, tune, draws : int
        Chains, and of each the draws of the pilot, the iterations that tune (for the pilot and again after it), and
        the draws kept.

    Raises
    ------
    RunFailed
        If the model cannot be run near the middle of the prior, or the sampler could not draw.
    """
    found = laplace(scans_likelihood(problem, reduced, visits, counted=False), seed)
    likelihood = scans_likelihood(problem, reduced, visits)
    first = nuts(
        likelihood, Coordinates.of_laplace(found), seed, chains, Sampling(pilot, tune, ACCEPT, stage=1)
    )
    fitted = Coordinates.of_draws(first.z, found)
    drawn = nuts(likelihood, fitted, seed, chains, Sampling(draws, tune, ACCEPT))
    told = per_parameter(problem.space.names, drawn.z, drawn.z).values()
    return Sampled(
        drawn.z.reshape(-1, problem.space.size),
        max(one["rhat"] for one in told),
        min(one["ess_bulk"] for one in told),
        min(one["ess_tail"] for one in told),
        first.evaluations + drawn.evaluations,
        first.bad + drawn.bad,
        int(drawn.diverging.sum()),
    )
