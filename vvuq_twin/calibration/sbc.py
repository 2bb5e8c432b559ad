"""Simulation-based calibration: over draws from the prior, the truth's rank in its posterior is uniform.

Talts et al. 2018 (arXiv:1804.06788). A sampler, a likelihood or a prior that disagree with each other
show as ranks that are not uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..domain.errors import BadInput
from ..domain.evidence import Evidence
from ..domain.keys import member_normals
from ..domain.observations import Observations
from ..domain.parameters import ParameterSpace
from .coordinates import Coordinates
from .laplace import laplace
from .likelihood import Likelihood, Predict
from .sample import Progress, Sampling, nuts


@dataclass(frozen=True)
class SbcResult:
    """Ranks and their test.

    Parameters
    ----------
    names : tuple of str
    ranks : ndarray of int, shape (repeats, p)
        Posterior draws (of ``draws``) below the truth.
    draws : int
    p_values : ndarray, shape (p,)
        Chi-square test of uniformity of each parameter's ranks.
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    draws: int
    p_values: np.ndarray

    def evidence(self, level: float = 0.01) -> Evidence:
        """Passed unless some parameter's ranks are too far from uniform (Bonferroni over parameters)."""
        smallest = float(self.p_values.min())
        return Evidence(
            id="calibration.sbc",
            factor="numerical_code_verification",
            claim="The calibration recovers parameters drawn from its prior with the stated uncertainty.",
            acceptance=f"smallest p-value of rank uniformity, times the parameters, at least {level:g}",
            result={
                "p_values": dict(zip(self.names, self.p_values.tolist())),
                "repeats": len(self.ranks),
                "draws": self.draws,
            },
            status="passed" if smallest * len(self.names) >= level else "failed",
        )


def uniformity(ranks: np.ndarray, draws: int, bins: int | None = None) -> np.ndarray:
    """P-value of a chi-square test per column that ranks in 0..draws are uniform.

    Bins are as equal as ``draws + 1`` values allow; their expected counts are exact.
    """
    ranks = np.atleast_2d(ranks)
    bins = bins or max(2, min(20, len(ranks) // 8, draws + 1))
    edges = np.floor(np.linspace(0, draws + 1, bins + 1)).astype(int)
    expected = np.diff(edges) * len(ranks) / (draws + 1)
    counts = np.stack([np.histogram(column, bins=edges - 0.5)[0] for column in ranks.T], axis=1)
    statistic = ((counts - expected[:, None]) ** 2 / expected[:, None]).sum(axis=0)
    return np.asarray(stats.chi2.sf(statistic, bins - 1))


def simulation_based_calibration(
    space: ParameterSpace,
    predict: Predict,
    template: Observations,
    seed: int,
    repeats: int = 200,
    draws: int = 50,
    thin: int = 2,
    scale: str | None = None,
    progress: Progress | None = None,
) -> SbcResult:
    """Rank the truth in its posterior for ``repeats`` keyed draws from prior and error.

    Parameters
    ----------
    space : ParameterSpace
    predict : callable
        JAX function from parameter values to predictions.
    template : Observations
        Where, when and with what error; its values are replaced (NaN stays missing).
    seed : int
    repeats, draws, thin : int
        Fits, posterior draws kept in each, and sampler iterations per draw kept.
    scale : str, optional
    progress : callable, optional

    Raises
    ------
    BadInput
        If there are too few repeats for the test.
    """
    if repeats < 20:
        raise BadInput(
            f"simulation-based calibration needs 20 repeats at least, not {repeats}", "calibration"
        )
    base = Likelihood(space, predict, template, scale)
    error = template.error
    truth = space.gaussian_sample(repeats, seed, "sbc-truth")
    normals = member_normals(seed, "sbc-error", range(repeats), len(template.y) + error.factor.shape[1])
    theta = np.asarray(space.from_gaussian(truth))
    width = theta[:, space.index(scale)] if scale else np.ones(repeats)
    clean: Any = np.stack([np.asarray(predict(row)) for row in theta])
    data = clean + error.perturbations(normals) * width[:, None]
    data[:, ~np.isfinite(template.y)] = np.nan
    ranks = np.empty((repeats, space.size), dtype=int)
    for i in range(repeats):
        seen = Observations(data[i], error, template.coords, template.ids, template.time)
        likelihood = base.with_observations(seen)
        how = Sampling(draws * thin, 100, stage=3 + i)
        coordinates = Coordinates.of_laplace(laplace(likelihood, seed, starts=1))
        chain = nuts(likelihood, coordinates, seed, 1, how)
        ranks[i] = (chain.z[0, ::thin] < truth[i]).sum(axis=0)
        if progress is not None:
            progress(i + 1, repeats)
    return SbcResult(space.names, ranks, draws, uniformity(ranks, draws))
