"""What both orders of the growth model solve: domain, initial field, exposure, schedule and parameters.

A :class:`GrowthCase` turns a parameter vector (the uncertain ones, by name) and a mapping of fixed
values into the arrays that drive the full order and the reduced order alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.parameters import ParameterSpace
from ..physics.faces import Faces
from ..physics.growth import GrowthParameters, Heterogeneity, advance
from ..physics.timeline import Timeline


@dataclass(frozen=True)
class GrowthNoise:
    """Process noise of the growth rate: ``k(t) = k exp(path(t))``, piecewise constant on equal intervals.

    The path is a stationary first-order autoregression with standard deviation ``sd`` and correlation
    time ``correlation``, written with independent standard normal scores.

    Parameters
    ----------
    sd : float
        Of the logarithm of the growth rate.
    correlation : float
        Days over which the correlation falls to 1/e.
    edges : tuple of float
        Ends of the K intervals, equally spaced, days; before and after, the nearest interval's value holds.
    """

    sd: float
    correlation: float
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        steps = np.diff(self.edges)
        if len(steps) < 1 or (steps <= 0).any() or not np.allclose(steps, steps[0], rtol=1e-6):
            raise BadInput("the intervals of the growth noise are not equal and increasing", "growth noise")
        if not (np.isfinite(self.sd) and self.sd >= 0 and self.correlation > 0):
            raise BadInput("the growth noise needs sd >= 0 and a positive correlation time", "growth noise")

    @property
    def size(self) -> int:
        """Number of intervals and of scores."""
        return len(self.edges) - 1

    @cached_property
    def factor(self) -> np.ndarray:
        """``L`` with path = scores @ L.T: the Cholesky factor of the autoregression's covariance."""
        lag = np.abs(np.subtract.outer(np.arange(self.size), np.arange(self.size)))
        correlation = np.exp(-lag * (self.edges[1] - self.edges[0]) / self.correlation)
        return self.sd * np.linalg.cholesky(correlation + 1e-14 * np.eye(self.size))

    def path(self, scores: Any, xp: Any = np) -> Any:
        """Logarithm of the growth factor per interval from standard normal scores, (N, K) to (N, K)."""
        return scores @ xp.asarray(self.factor.T)


class GrowthValues(NamedTuple):
    """Physical parameters of N members.

    Parameters
    ----------
    diffusivity : array, shape (N, L)
        Per tissue, mm2/day.
    growth : array, shape (N, S)
        Growth rate over each step, 1/day.
    alpha_rt, alpha_beta : array, shape (N,)
        1/Gy and Gy.
    alpha_drug, beta_drug, exposure_weight : array, shape (N,)
    initial : array, shape (N, q)
        Scores of the initial modes.
    """

    diffusivity: Any
    growth: Any
    alpha_rt: Any
    alpha_beta: Any
    alpha_drug: Any
    beta_drug: Any
    exposure_weight: Any
    initial: Any

    def of(self, i: int) -> GrowthValues:
        """Those of member i alone, N = 1."""
        return GrowthValues(*(v[i : i + 1] for v in self))


@dataclass(frozen=True)
class GrowthCase:
    """One patient's growth problem.

    Parameters
    ----------
    faces : Faces
        The organ's active voxels and their faces.
    timeline : Timeline
    space : ParameterSpace
        The uncertain parameters, by the names ``D_<tissue>``, ``k``, ``alpha_rt``, ``alpha_beta``,
        ``alpha_drug``, ``beta_drug``, ``exposure_weight``, ``initial_1..q``, ``growth_noise_1..K``
        (others, such as ``adc_min``, are the observation's).
    mean : ndarray, shape (n,)
        Mean initial cellularity, 0 to 1.
    modes : ndarray, shape (q, n)
        Modes of its uncertainty, one standard deviation each.
    n_detect : float
        Cellularity above which a voxel counts as tumour.
    fixed : mapping of str to float
        Parameters that are not uncertain.
    exposure : ndarray, shape (n,), optional
        Local over mean drug exposure ``w``.
    noise : GrowthNoise, optional
    saturation : float
        Exponent nu of the growth law ``(k / nu) N (1 - N^nu)``: 1 is logistic, 0 Gompertz's.

    Raises
    ------
    BadInput
        If an array has the wrong size or is not finite, a parameter is missing, one is both
        uncertain and fixed, or the exponent is negative.

    Notes
    -----
    The initial field is ``clip(mean + sum_q z_q modes_q, 0, 1)``: a negative cellularity would grow
    without bound. :meth:`clipped` tells how much that changed.
    """

    faces: Faces
    timeline: Timeline
    space: ParameterSpace
    mean: np.ndarray
    modes: np.ndarray
    n_detect: float
    fixed: Mapping[str, float] = field(default_factory=dict)
    exposure: np.ndarray | None = None
    noise: GrowthNoise | None = None
    saturation: float = 1.0

    def __post_init__(self) -> None:
        n = self.faces.n
        if not (np.isfinite(self.saturation) and self.saturation >= 0):
            raise BadInput(
                f"the exponent of the growth law is {self.saturation:g}",
                "growth case",
                "0 is Gompertz, 1 logistic",
            )
        modes = (
            np.asarray(self.modes, dtype=float).reshape(-1, n) if np.size(self.modes) else np.zeros((0, n))
        )
        object.__setattr__(self, "modes", modes)
        arrays = [("mean", self.mean), ("modes", modes)]
        arrays += [("exposure", self.exposure)] if self.exposure is not None else []
        for name, array in arrays:
            if np.shape(array)[-1] != n:
                raise BadInput(
                    f"the {name} has {np.shape(array)[-1]} values for {n} active voxels", "growth case"
                )
            if not np.isfinite(array).all():
                raise BadInput(f"the {name} has values that are not finite", "growth case")
        if self.exposure is not None and np.min(self.exposure) < 0:
            raise BadInput("the exposure map has negative values", "growth case")
        for name in self.fixed:
            if name in self.space.names:
                raise BadInput(f"'{name}' is both uncertain and fixed", "growth case", "keep one of the two")
        known = {*self.space.names, *self.fixed}
        for name in self.needed:
            if name not in known:
                hint = near(name, known) if known else "give it"
                raise BadInput(f"the parameter '{name}' is neither uncertain nor fixed", "growth case", hint)

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Names of the parameters this case cannot do without."""
        names = [f"D_{tissue}" for tissue in self.faces.names] + ["k"]
        if np.any(self.timeline.dose > 0):
            names += ["alpha_rt", "alpha_beta"]
        if np.any(self.timeline.drug_jump > 0):
            names += ["alpha_drug", "beta_drug"] + (["exposure_weight"] if self.exposure is not None else [])
        names += [f"initial_{i + 1}" for i in range(len(self.modes))]
        names += [f"growth_noise_{i + 1}" for i in range(self.noise.size)] if self.noise is not None else []
        return tuple(names)

    def on(self, timeline: Timeline) -> GrowthCase:
        """The same case on another schedule."""
        return replace(self, timeline=timeline)

    def value(self, theta: Any, name: str, default: float | None = None) -> Any:
        """Values (N,) of one parameter, uncertain or fixed."""
        if name in self.space.names:
            return theta[:, self.space.index(name)]
        if name in self.fixed:
            return 0.0 * theta[:, 0] + float(self.fixed[name])
        if default is None:
            raise BadInput(f"the parameter '{name}' is neither uncertain nor fixed", "growth case")
        return 0.0 * theta[:, 0] + default

    def values(self, theta: Any, xp: Any = np) -> GrowthValues:
        """Physical parameters of the members.

        Parameters
        ----------
        theta : array, shape (N, p)
            In the order of ``space``.
        xp : numpy or jax.numpy
        """

        def several(names: list[str]) -> Any:
            if not names:
                return xp.zeros((theta.shape[0], 0))
            return xp.stack([self.value(theta, x) for x in names], axis=1)

        growth = self.value(theta, "k")[:, None] * xp.ones((1, self.timeline.steps))
        if self.noise is not None:
            scores = several([f"growth_noise_{i + 1}" for i in range(self.noise.size)])
            which = self.timeline.rate(np.asarray(self.noise.edges))
            growth = growth * xp.exp(self.noise.path(scores, xp))[:, which]
        return GrowthValues(
            several([f"D_{x}" for x in self.faces.names]),
            growth,
            self.value(theta, "alpha_rt", 0.0),
            self.value(theta, "alpha_beta", 1.0),
            self.value(theta, "alpha_drug", 0.0),
            self.value(theta, "beta_drug", 1.0),
            self.value(theta, "exposure_weight", 1.0 if self.exposure is not None else 0.0),
            several([f"initial_{i + 1}" for i in range(len(self.modes))]),
        )

    def parameters(self, values: GrowthValues) -> GrowthParameters:
        """The full order's parameters."""
        return GrowthParameters(
            values.diffusivity,
            values.growth,
            values.alpha_drug,
            values.beta_drug,
            values.exposure_weight,
            values.alpha_rt,
            values.alpha_beta,
        )

    @property
    def law(self) -> Heterogeneity | None:
        """The growth law for the full order; None for the logistic one."""
        return None if self.saturation == 1.0 else Heterogeneity(exponent=self.saturation)

    def solve(
        self,
        start: np.ndarray,
        values: GrowthValues,
        timeline: Timeline | None = None,
        negligible: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The full order of N members from ``start``, (N, n) or (n,): see :func:`~vvuq_twin.physics.growth.advance`.

        ``negligible`` is for logistic growth: by laws that grow faster the thinner a tumour is, all cells count.
        """
        line = self.timeline if timeline is None else timeline
        negligible = negligible if self.saturation >= 1.0 else 0.0
        return advance(
            self.faces, start, self.parameters(values), line, self.exposure, self.law, negligible=negligible
        )

    def log_survival(self, values: GrowthValues) -> Any:
        """``-alpha d (1 + d / (alpha/beta))`` summed over the fractions at each step's end, (N, S)."""
        dose, dose_sq = self.timeline.dose[None, :], self.timeline.dose_sq[None, :]
        return -values.alpha_rt[:, None] * (dose + dose_sq / values.alpha_beta[:, None])

    @cached_property
    def occupied(self) -> np.ndarray:
        """Where the initial field can differ from zero, bool of shape (n,)."""
        return np.asarray((self.mean > 0) | (self.modes != 0).any(axis=0))

    def initial(self, scores: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Initial cellularity (N, len(rows)) from the modes' scores (N, q), clipped to [0, 1]."""
        return np.clip(self.mean[rows] + scores @ self.modes[:, rows], 0.0, 1.0)

    def clipped(self, scores: np.ndarray) -> np.ndarray:
        """Relative change of the total initial cellularity by the clipping, shape (N,)."""
        raw = self.mean + scores @ self.modes
        return np.abs(np.clip(raw, 0.0, 1.0) - raw).sum(axis=1) / np.maximum(np.abs(raw).sum(axis=1), 1e-300)
