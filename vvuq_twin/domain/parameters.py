"""Uncertain parameters: one definition for sampling, sensitivity, calibration and the filters.

Every prior is the image of a standard normal under a monotone map (its *Gaussian map*), written once
for NumPy and JAX alike: ensemble filters and samplers work in the Gaussian space, where nothing is
bounded, and the model sees values that always lie in the prior's support.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from scipy import special, stats

from .errors import BadInput
from .keys import integer


def _cdf(z: Any, xp: Any) -> Any:
    """Standard normal distribution function in the array namespace ``xp``."""
    if xp is np:
        return special.ndtr(z)
    from jax.scipy.special import ndtr

    return ndtr(z)


@runtime_checkable
class Prior(Protocol):
    """A distribution given by its Gaussian map and the inverse."""

    def from_gaussian(self, z: Any, xp: Any = np) -> Any: ...
    def to_gaussian(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Normal:
    """Normal distribution with mean and standard deviation."""

    mean: float
    sd: float

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.mean + self.sd * z

    def to_gaussian(self, value: Any) -> Any:
        return (np.asarray(value) - self.mean) / self.sd


@dataclass(frozen=True)
class LogNormal:
    """Log-normal distribution with median and standard deviation of the natural logarithm."""

    median: float
    sd_log: float

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.median * xp.exp(self.sd_log * z)

    def to_gaussian(self, value: Any) -> Any:
        return np.log(np.asarray(value) / self.median) / self.sd_log


@dataclass(frozen=True)
class Uniform:
    """Uniform distribution on [low, high]."""

    low: float
    high: float

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.low + (self.high - self.low) * _cdf(z, xp)

    def to_gaussian(self, value: Any) -> Any:
        return special.ndtri((np.asarray(value) - self.low) / (self.high - self.low))


@dataclass(frozen=True)
class LogUniform:
    """Uniform distribution of the logarithm on [low, high]."""

    low: float
    high: float

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.low * xp.exp(np.log(self.high / self.low) * _cdf(z, xp))

    def to_gaussian(self, value: Any) -> Any:
        return special.ndtri(np.log(np.asarray(value) / self.low) / np.log(self.high / self.low))


@dataclass(frozen=True)
class LogitNormal:
    """Logit-normal distribution scaled to [low, high]: low + (high - low) expit(location + scale z)."""

    low: float
    high: float
    location: float = 0.0
    scale: float = 1.0

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.low + (self.high - self.low) / (1.0 + xp.exp(-(self.location + self.scale * z)))

    def to_gaussian(self, value: Any) -> Any:
        return (
            special.logit((np.asarray(value) - self.low) / (self.high - self.low)) - self.location
        ) / self.scale


@dataclass(frozen=True)
class Tabulated:
    """A distribution given by its quantiles at fixed standard-normal scores (an empirical marginal).

    Parameters
    ----------
    scores : tuple of float
        Increasing standard-normal scores.
    values : tuple of float
        The values at these scores, strictly increasing; linear between, linearly continued outside.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return _piecewise(z, np.asarray(self.scores), np.asarray(self.values), xp)

    def to_gaussian(self, value: Any) -> Any:
        return _piecewise(np.asarray(value), np.asarray(self.values), np.asarray(self.scores), np)


@dataclass(frozen=True)
class Warped:
    """Another prior with its standard-normal scores moved: its support is kept, whatever the move.

    Parameters
    ----------
    prior : Prior
        Where the support comes from.
    table : Tabulated
        From the new score to the prior's score.
    """

    prior: Prior
    table: Tabulated

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        return self.prior.from_gaussian(self.table.from_gaussian(z, xp), xp)

    def to_gaussian(self, value: Any) -> Any:
        return self.table.to_gaussian(self.prior.to_gaussian(value))


def _piecewise(x: Any, knots: np.ndarray, values: np.ndarray, xp: Any) -> Any:
    """Piecewise linear interpolation that continues its end slopes."""
    slopes = np.diff(values) / np.diff(knots)
    i = xp.clip(xp.searchsorted(xp.asarray(knots), x) - 1, 0, len(slopes) - 1)
    return xp.asarray(values)[i] + xp.asarray(slopes)[i] * (x - xp.asarray(knots)[i])


@dataclass(frozen=True)
class Parameter:
    """One uncertain input.

    Parameters
    ----------
    name : str
    unit : str
        As pint reads it; "1" for none.
    prior : Prior
    description : str
    source : str
        Where the prior comes from; say "recalled" where it was not read.
    """

    name: str
    unit: str
    prior: Prior
    description: str = ""
    source: str = ""


@dataclass(frozen=True)
class ParameterSpace:
    """Named parameters with a joint distribution (independent, or a Gaussian copula).

    Parameters
    ----------
    parameters : tuple of Parameter
    correlation : ndarray, shape (p, p), optional
        Correlation of the Gaussian scores; identity if absent.

    Raises
    ------
    BadInput
        If a name occurs twice or the correlation is not positive definite.

    Notes
    -----
    The *Gaussian space* is whitened: independent standard normals ``z``; ``scores = L z`` with
    ``L L^T`` the correlation; each value is its prior's map of its score.
    """

    parameters: tuple[Parameter, ...]
    correlation: np.ndarray | None = None

    def __post_init__(self) -> None:
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"the parameter '{name}' is defined twice", "parameters", "rename one of them")
        if self.correlation is not None:
            try:
                np.linalg.cholesky(self.correlation)
            except np.linalg.LinAlgError as error:
                raise BadInput(
                    "the correlation of the parameters is not positive definite", "parameters"
                ) from error

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @property
    def size(self) -> int:
        return len(self.parameters)

    def index(self, name: str) -> int:
        """Column of a parameter."""
        return self.names.index(name)

    def __add__(self, other: ParameterSpace) -> ParameterSpace:
        """Both spaces side by side, independent of each other."""
        both = self.parameters + other.parameters
        if self.correlation is None and other.correlation is None:
            return ParameterSpace(both)
        corr = np.eye(len(both))
        corr[: self.size, : self.size] = np.eye(self.size) if self.correlation is None else self.correlation
        corr[self.size :, self.size :] = (
            np.eye(other.size) if other.correlation is None else other.correlation
        )
        return ParameterSpace(both, corr)

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        """Values from whitened scores, shape (..., p) to (..., p); ``xp`` is numpy or jax.numpy."""
        if self.correlation is not None:
            z = z @ xp.asarray(np.linalg.cholesky(self.correlation).T)
        return xp.stack(
            [p.prior.from_gaussian(z[..., i], xp) for i, p in enumerate(self.parameters)], axis=-1
        )

    def to_gaussian(self, theta: np.ndarray) -> np.ndarray:
        """Whitened scores of values, the inverse of :meth:`from_gaussian`."""
        theta = np.asarray(theta, dtype=float)
        scores = np.stack(
            [p.prior.to_gaussian(theta[..., i]) for i, p in enumerate(self.parameters)], axis=-1
        )
        if self.correlation is None:
            return scores
        return np.linalg.solve(np.linalg.cholesky(self.correlation), scores[..., None])[..., 0]

    def gaussian_sample(
        self, n: int, seed: int, purpose: str, method: Literal["random", "sobol", "lhs"] = "random"
    ) -> np.ndarray:
        """Whitened scores of ``n`` draws, shape (n, p), keyed by seed and purpose.

        ``random`` keys every member apart, so that the first 100 of 200 members are those of 100.
        """
        if method == "random":
            from .keys import member_normals

            return member_normals(seed, purpose, range(n), self.size)
        maker = {"sobol": stats.qmc.Sobol, "lhs": stats.qmc.LatinHypercube}[method]
        unit = maker(self.size, rng=integer(seed, purpose, method)).random(n)
        return special.ndtri(np.clip(unit, 1e-12, 1 - 1e-12))

    def sample(
        self, n: int, seed: int, purpose: str, method: Literal["random", "sobol", "lhs"] = "random"
    ) -> np.ndarray:
        """Values of ``n`` draws, shape (n, p)."""
        return self.from_gaussian(self.gaussian_sample(n, seed, purpose, method))

    def as_dict(self, theta: np.ndarray) -> dict[str, float]:
        """One parameter vector as a mapping from name to value."""
        return {name: float(v) for name, v in zip(self.names, theta)}

    def vector(self, values: Mapping[str, float]) -> np.ndarray:
        """A mapping from name to value as a vector, shape (p,)."""
        return np.array([values[name] for name in self.names], dtype=float)

    def problem(self) -> dict[str, Any]:
        """The SALib problem on the unit cube, to be mapped by ``from_gaussian(ndtri(u))``."""
        return {"num_vars": self.size, "names": list(self.names), "bounds": [[0.0, 1.0]] * self.size}


def posterior_space(
    space: ParameterSpace, theta: np.ndarray, weights: np.ndarray | None = None, knots: int = 33
) -> ParameterSpace:
    """The next prior from a (weighted) sample of the last posterior.

    Marginals are the sample's kernel-smoothed quantiles (Gaussian kernel on the scores of the old
    prior, Silverman's width), joined by the Gaussian copula of the sample's normal scores.

    Parameters
    ----------
    space : ParameterSpace
        Where the sample lives; names, units and supports are kept.
    theta : ndarray, shape (n, p)
    weights : ndarray, shape (n,), optional
    knots : int
        Points of each tabulated marginal.

    Raises
    ------
    BadInput
        If there are fewer than ten draws with weight, a value is not finite, or a parameter does not vary.
    """
    theta = np.asarray(theta, dtype=float)
    w = np.full(len(theta), 1.0) if weights is None else np.asarray(weights, dtype=float)
    if theta.shape[1:] != (space.size,) or not np.isfinite(theta).all():
        raise BadInput("the posterior sample has missing or non-finite values", "posterior")
    if (w > 0).sum() < 10:
        raise BadInput("the posterior sample has fewer than ten draws", "posterior", "use a larger ensemble")
    w = w / w.sum()
    scores = np.stack([p.prior.to_gaussian(theta[:, i]) for i, p in enumerate(space.parameters)], axis=-1)
    if not np.isfinite(scores).all():
        bad = space.names[int(np.argmin(np.isfinite(scores).all(axis=0)))]
        raise BadInput(
            f"a value of '{bad}' is not inside its prior's support", "posterior", "widen the prior"
        )
    levels = np.linspace(-3.0, 3.0, knots)
    effective = 1.0 / np.sum(w**2)
    parameters: list[Parameter] = []
    normal = np.empty_like(scores)
    for i, p in enumerate(space.parameters):
        s = scores[:, i]
        mean = float(w @ s)
        sd = float(np.sqrt(w @ (s - mean) ** 2))
        if not sd > 1e-12 * max(1.0, abs(mean)):
            raise BadInput(
                f"'{p.name}' is the same in every draw", "posterior", "fix it, or use a larger ensemble"
            )
        width = 1.06 * sd * effective**-0.2
        # shrinking the points keeps the variance of the smoothed marginal that of the sample
        centre = mean + (s - mean) * np.sqrt(max(1.0 - (width / sd) ** 2, 0.0))
        grid = np.linspace(centre.min() - 5 * width, centre.max() + 5 * width, 2001)
        cdf = special.ndtr((grid[:, None] - centre[None, :]) / width) @ w
        at = np.interp(special.ndtr(levels), cdf, grid)
        root = p.prior
        if isinstance(root, Warped):  # one table however many updates there were
            at, root = root.table.from_gaussian(at), root.prior
        prior = Warped(root, Tabulated(tuple(levels.tolist()), tuple(np.asarray(at).tolist())))
        parameters.append(Parameter(p.name, p.unit, prior, p.description, "posterior of: " + p.source))
        normal[:, i] = special.ndtri(np.clip(np.interp(s, grid, cdf), 1e-9, 1 - 1e-9))
    centred = normal - w @ normal
    cov = (centred * w[:, None]).T @ centred
    d = np.sqrt(np.diag(cov))
    corr = cov / np.outer(d, d)
    # a shrinkage that keeps the copula positive definite when draws are few
    keep = 1.0 - min(0.5, space.size / effective)
    return ParameterSpace(tuple(parameters), keep * corr + (1 - keep) * np.eye(space.size))


def prior_from_spec(spec: Mapping[str, Any], where: str) -> Prior:
    """A prior from a mapping such as ``{"lognormal": {"median": 0.05, "sd_log": 0.5}}``.

    Raises
    ------
    BadInput
        If the distribution or one of its arguments is unknown or out of range.
    """
    from .errors import near

    kinds: dict[str, Any] = {
        "normal": Normal,
        "lognormal": LogNormal,
        "uniform": Uniform,
        "loguniform": LogUniform,
        "logitnormal": LogitNormal,
    }
    if len(spec) != 1:
        raise BadInput(
            "a prior names exactly one distribution", where, "for example lognormal: {median: 1, sd_log: 0.5}"
        )
    name, arguments = next(iter(spec.items()))
    if name not in kinds:
        raise BadInput(f"the distribution '{name}' is not known", where, near(name, kinds))
    try:
        prior: Prior = kinds[name](**{k: float(v) for k, v in arguments.items()})
    except (TypeError, ValueError, AttributeError) as error:
        wanted = ", ".join(kinds[name].__dataclass_fields__)
        raise BadInput(f"'{name}' takes {wanted}", where, "give these and no others") from error
    check_prior(prior, where)
    return prior


def check_prior(prior: Prior, where: str) -> None:
    """Refuse a prior with an empty support, a non-positive width or a non-finite argument."""
    values: Sequence[float] = [v for v in vars(prior).values() if isinstance(v, float | int)]
    if not np.isfinite(values).all():
        raise BadInput("a prior's argument is not finite", where)
    if isinstance(prior, Uniform | LogUniform | LogitNormal) and prior.low >= prior.high:
        raise BadInput(f"low ({prior.low:g}) is not below high ({prior.high:g})", where, "swap them")
    if isinstance(prior, LogUniform) and prior.low <= 0:
        raise BadInput(f"low ({prior.low:g}) must be positive", where)
    if isinstance(prior, LogNormal) and prior.median <= 0:
        raise BadInput(f"the median ({prior.median:g}) must be positive", where)
    width = {Normal: "sd", LogNormal: "sd_log", LogitNormal: "scale"}.get(type(prior))
    if width and getattr(prior, width) <= 0:
        raise BadInput(f"{width} ({getattr(prior, width):g}) must be positive", where)
