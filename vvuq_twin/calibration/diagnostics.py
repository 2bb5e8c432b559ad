"""Did the sampler converge? ArviZ's diagnostics of every parameter, against stated limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .sample import Chains


@dataclass(frozen=True)
class Limits:
    """What a calibration must reach, after Vehtari et al. 2021 (doi:10.1214/20-BA1221).

    Parameters
    ----------
    rhat : float
        Largest rank-normalised split R-hat.
    ess_bulk, ess_tail : float
        Least effective sample size of the centre and of the 5 % and 95 % quantiles, all chains together.
    divergences : int
        Most divergent transitions.
    bfmi : float
        Least Bayesian fraction of missing information of a chain (Betancourt 2016).
    at_limit : float
        Largest share of trajectories cut at the greatest tree depth.
    """

    rhat: float = 1.01
    ess_bulk: float = 400.0
    ess_tail: float = 400.0
    divergences: int = 0
    bfmi: float = 0.3
    at_limit: float = 0.05

    def sentence(self) -> str:
        """The limits in words, for the record."""
        return (
            f"R-hat below {self.rhat:g}, bulk and tail effective sample size above {self.ess_bulk:g} and "
            f"{self.ess_tail:g} for every parameter, at most {self.divergences} divergent transitions, "
            f"BFMI above {self.bfmi:g}, at most {self.at_limit:.0%} of trajectories at the tree limit"
        )


def _arviz() -> Any:
    """ArviZ's diagnostics on plain arrays (chains, draws)."""
    import arviz_stats.base

    return arviz_stats.base.array_stats  # type: ignore[attr-defined]


def per_parameter(names: tuple[str, ...], theta: np.ndarray, z: np.ndarray) -> dict[str, dict[str, float]]:
    """Summary and diagnostics of each parameter.

    Parameters
    ----------
    names : tuple of str
    theta : ndarray, shape (chains, draws, p)
        Values.
    z : ndarray, shape (chains, draws, p)
        Whitened scores, whose prior standard deviation is 1.

    Returns
    -------
    dict
        By name: mean, sd, q05, q50, q95, mcse_mean, rhat, ess_bulk, ess_tail, and contraction (one minus
        the posterior variance of the score: 0 where the data said nothing).
    """
    stats = _arviz()
    out: dict[str, dict[str, float]] = {}
    for i, name in enumerate(names):
        draws = np.ascontiguousarray(theta[:, :, i])
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
        out[name] = {
            "mean": float(draws.mean()),
            "sd": float(draws.std(ddof=1)),
            "q05": float(low),
            "q50": float(middle),
            "q95": float(high),
            "mcse_mean": float(stats.mcse(draws, method="mean")),
            "rhat": float(stats.rhat(draws, method="rank")),
            "ess_bulk": float(stats.ess(draws, method="bulk")),
            "ess_tail": float(stats.ess(draws, method="tail", prob=(0.05, 0.95))),
            "contraction": float(1.0 - z[:, :, i].var(ddof=1)),
        }
    return out


def checks(
    parameters: dict[str, dict[str, float]], chains: Chains, limits: Limits
) -> dict[str, dict[str, Any]]:
    """Each criterion with its value, limit and verdict; what cannot be computed has not passed."""
    stats = _arviz()

    def worst(key: str, largest: bool) -> float:
        values = [p[key] for p in parameters.values()]
        if not np.isfinite(values).all():
            return float("inf") if largest else 0.0
        return max(values) if largest else min(values)

    bfmi = float(np.min(np.atleast_1d(stats.bfmi(chains.energy))))
    rows = {
        "rhat": (worst("rhat", True), limits.rhat, "below"),
        "ess_bulk": (worst("ess_bulk", False), limits.ess_bulk, "above"),
        "ess_tail": (worst("ess_tail", False), limits.ess_tail, "above"),
        "divergences": (float(chains.diverging.sum()), float(limits.divergences), "at most"),
        "bfmi": (bfmi, limits.bfmi, "above"),
        "at_limit": (float(chains.at_limit.mean()), limits.at_limit, "at most"),
    }
    passes = {"below": lambda v, c: v < c, "above": lambda v, c: v > c, "at most": lambda v, c: v <= c}
    return {
        name: {"value": value, "limit": limit, "must be": how, "passed": bool(passes[how](value, limit))}
        for name, (value, limit, how) in rows.items()
    }
