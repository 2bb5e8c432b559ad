"""Parameters, fields, reduced coefficients and scalars as one state of the filter, where nothing is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..domain.errors import BadInput
from ..domain.keys import Label
from ..domain.parameters import ParameterSpace, Prior
from .protocol import Key

#: Score that stands for a value outside the support.
EDGE = 6.0


@dataclass(frozen=True)
class Part:
    """One named block of the joint state.

    Parameters
    ----------
    name : str
    size : int
        Columns.
    bounds : ParameterSpace or Prior, optional
        The Gaussian map (anamorphosis): the filter sees the scores of these values. A ``ParameterSpace`` of
        ``size`` parameters, or one prior for every column (``LogitNormal(0, 1)`` for a volume fraction,
        ``LogNormal`` for a concentration). Absent: the values themselves.
    """

    name: str
    size: int
    bounds: ParameterSpace | Prior | None = None

    def scores(self, values: np.ndarray) -> tuple[np.ndarray, float]:
        """Scores of values (N, size), and the mass by which values outside the support were clipped."""
        if self.bounds is None:
            return values, 0.0
        if isinstance(self.bounds, ParameterSpace):
            priors: list[Prior] = [p.prior for p in self.bounds.parameters]
        else:
            priors = [self.bounds] * self.size
        inside = np.array(values, dtype=float)
        for j in range(self.size):
            prior = priors[j]
            with np.errstate(invalid="ignore", divide="ignore"):
                out = np.isfinite(inside[:, j]) & ~np.isfinite(prior.to_gaussian(inside[:, j]))
            if out.any():
                side = np.where(inside[out, j] < prior.from_gaussian(0.0), -EDGE, EDGE)
                inside[out, j] = prior.from_gaussian(side)
        mass = float(np.sum(np.abs(np.where(np.isfinite(values), inside - values, 0.0))))
        return np.asarray(self.bounds.to_gaussian(inside)), mass

    def values(self, scores: np.ndarray) -> np.ndarray:
        """Values from scores (N, size): always inside the support."""
        return scores if self.bounds is None else np.asarray(self.bounds.from_gaussian(scores))


@dataclass(frozen=True)
class Joint:
    """Named parts side by side.

    Parameters
    ----------
    parts : tuple of Part

    Raises
    ------
    BadInput
        If a name occurs twice, or a parameter space does not have its part's size.

    Examples
    --------
    >>> from vvuq_twin.domain.parameters import LogitNormal
    >>> joint = Joint((Part("rate", 1), Part("fraction", 3, LogitNormal(0.0, 1.0))))
    >>> E, clipped = joint.pack({"rate": np.zeros((2, 1)), "fraction": np.full((2, 3), 0.5)})
    >>> E.shape, clipped, float(joint.unpack(E + 9)["fraction"].max()) < 1
    ((2, 4), {}, True)
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        names = [p.name for p in self.parts]
        if len(set(names)) < len(names):
            raise BadInput("a part of the joint state is named twice", "assimilation", "rename one of them")
        for p in self.parts:
            if isinstance(p.bounds, ParameterSpace) and p.bounds.size != p.size:
                raise BadInput(
                    f"'{p.name}' has {p.size} columns and {p.bounds.size} parameters", "assimilation"
                )

    @property
    def size(self) -> int:
        return sum(p.size for p in self.parts)

    def columns(self, name: str) -> np.ndarray:
        """Columns of a part in the joint state."""
        at = 0
        for p in self.parts:
            if p.name == name:
                return np.arange(at, at + p.size)
            at += p.size
        raise BadInput(f"the joint state has no part '{name}'", "assimilation")

    def pack(self, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, float]]:
        """The members (N, n) that the filter sees, and the mass clipped in each part where there was any."""
        blocks, clipped = [], {}
        for p in self.parts:
            given = np.asarray(values[p.name], dtype=float)
            if given.ndim != 2 or given.shape[1] != p.size:
                raise BadInput(f"'{p.name}' has shape {given.shape}, not (members, {p.size})", "assimilation")
            scores, mass = p.scores(given)
            blocks.append(scores)
            if mass > 0:
                clipped[p.name] = mass
        return np.concatenate(blocks, axis=1), clipped

    def unpack(self, E: np.ndarray) -> dict[str, np.ndarray]:
        """Values of every part, (N, size) each."""
        return {p.name: p.values(E[:, self.columns(p.name)]) for p in self.parts}


@dataclass(frozen=True)
class Persistence:
    """Parameters that stay as they are."""

    def __call__(
        self, z: np.ndarray, days: float, key: Key, members: np.ndarray, *labels: Label
    ) -> np.ndarray:
        """Scores (N, p) after some time."""
        return z


def _elapsed(days: float) -> float:
    if not days >= 0:
        raise BadInput(
            f"parameters evolve over a time of at least 0, not {days:g}",
            "evolution model",
            "put the scans in order of time",
        )
    return days


@dataclass(frozen=True)
class RandomWalk:
    """Parameters that drift: variance ``sd^2`` per unit of time is added to the scores."""

    sd: float

    def __post_init__(self) -> None:
        if not (self.sd >= 0 and np.isfinite(self.sd)):
            raise BadInput(f"the standard deviation of a random walk is at least 0, not {self.sd:g}", "sd")

    def __call__(
        self, z: np.ndarray, days: float, key: Key, members: np.ndarray, *labels: Label
    ) -> np.ndarray:
        """Scores (N, p) after some time."""
        draws = key.normals("random walk", members, z.shape[1], *labels)
        return np.asarray(z + self.sd * np.sqrt(_elapsed(days)) * draws)


@dataclass(frozen=True)
class Autoregressive:
    """Parameters that forget: scores return to their prior N(0, 1) with this memory (time to 1/e)."""

    memory: float

    def __post_init__(self) -> None:
        if not self.memory > 0:
            raise BadInput(f"the memory of the parameters must be above 0, not {self.memory:g}", "memory")

    def __call__(
        self, z: np.ndarray, days: float, key: Key, members: np.ndarray, *labels: Label
    ) -> np.ndarray:
        """Scores (N, p) after some time."""
        keep = np.exp(-_elapsed(days) / self.memory)
        draws = key.normals("autoregressive", members, z.shape[1], *labels)
        return np.asarray(keep * z + np.sqrt(1.0 - keep**2) * draws)


@dataclass(frozen=True)
class KernelSmoothing:
    """Members are drawn anew from the kernel density of themselves: mean and covariance stay (Liu & West 2001).

    Parameters
    ----------
    discount : float
        Above 1/3, at most 1, usually 0.95 to 0.99; ``h^2 = 1 - ((3 discount - 1)/(2 discount))^2``.
    """

    discount: float = 0.98

    def __post_init__(self) -> None:
        if not 1.0 / 3.0 < self.discount <= 1.0:
            raise BadInput(f"the discount must be above 1/3 and at most 1, not {self.discount:g}", "discount")

    def __call__(
        self, z: np.ndarray, days: float, key: Key, members: np.ndarray, *labels: Label
    ) -> np.ndarray:
        """Scores (N, p) after some time."""
        a = (3.0 * self.discount - 1.0) / (2.0 * self.discount)
        mean = z.mean(axis=0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(z.T)))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        draws = key.normals("kernel", members, z.shape[1], *labels) @ root.T
        return np.asarray(a * z + (1.0 - a) * mean + np.sqrt(1.0 - a**2) * draws)
