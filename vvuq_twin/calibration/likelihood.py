"""Gaussian likelihood of a model in JAX, with the three-part observation error, in whitened scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.observations import Observations
from ..domain.parameters import ParameterSpace
from ..reduction.backend import jax, jnp

Predict = Callable[[Any], Any]

BAD = -1.0e10
"""Log-likelihood where the model gives no finite value: finite, so that a sampler turns back."""


class Likelihood:
    """``log p(y | theta(z))`` with its gradient in the whitened scores ``z``, both always finite.

    Parameters
    ----------
    space : ParameterSpace
    predict : callable
        JAX function from parameter values, shape (p,), to predictions of all observations, shape (m,).
    observations : Observations
        NaN marks a missing one; its prediction is not used.
    scale : str, optional
        A parameter that multiplies every standard deviation of the error (an unknown noise level:
        give an ``error`` of size one).

    Raises
    ------
    BadInput
        If nothing was observed, the scale is not a parameter, or the prediction has another length.

    Notes
    -----
    With ``R = D + U U^T``, ``D = diag(sd^2)`` and ``C C^T = I + U^T D^-1 U``, Woodbury's identity gives
    ``r^T R^-1 r = |r/sd|^2 - |C^-1 U^T D^-1 r|^2`` and ``log det R = 2 sum log sd + 2 sum log diag C``:
    O(m k) work and nothing m x m. The compiled function takes the data as arguments: other
    observations of the same shape do not compile it again (:meth:`with_observations`).
    """

    def __init__(
        self, space: ParameterSpace, predict: Predict, observations: Observations, scale: str | None = None
    ) -> None:
        self.space, self.predict, self.scale = space, predict, scale
        if scale is not None and scale not in space.names:
            raise BadInput(f"the scale '{scale}' is not a parameter", "calibration")
        self._setup(observations)
        expected = len(observations.y)
        shape = jax.eval_shape(predict, jax.ShapeDtypeStruct((space.size,), jnp.float64)).shape
        if shape != (expected,):
            raise BadInput(f"the model predicts {shape} values, {expected} were observed", "calibration")
        scale_at = None if scale is None else space.index(scale)

        def value(z: Any, data: dict[str, Any]) -> Any:
            theta = space.from_gaussian(z, jnp)
            s = 1.0 if scale_at is None else theta[scale_at]
            white = (data["y"] - predict(theta)[data["rows"]]) / data["sd"]
            quadratic = jnp.sum(white**2) - jnp.sum((data["reduced"] @ white) ** 2)
            size = data["y"].shape[0]
            return -0.5 * (quadratic / s**2 + data["constant"]) - size * jnp.log(s)

        self._value_and_grad = jax.jit(jax.value_and_grad(value))
        self._batch = jax.jit(jax.vmap(lambda z: predict(space.from_gaussian(z, jnp))))

    def _setup(self, observations: Observations) -> None:
        rows = np.flatnonzero(np.isfinite(observations.y))
        if not len(rows):
            raise BadInput("nothing was observed", "calibration")
        self.given, self.observations = observations, observations.present()
        error = self.observations.error
        scaled = error.factor / error.voxel[:, None]
        core = np.linalg.cholesky(np.eye(scaled.shape[1]) + scaled.T @ scaled)
        determinant = 2 * np.log(error.voxel).sum() + 2 * np.log(np.diag(core)).sum()
        self._data = {
            "y": jnp.asarray(self.observations.y),
            "rows": jnp.asarray(rows),
            "sd": jnp.asarray(error.voxel),
            "reduced": jnp.asarray(np.linalg.solve(core, scaled.T)),
            "constant": jnp.asarray(determinant + len(rows) * np.log(2 * np.pi)),
        }
        self.rows = rows
        self.evaluations = 0
        self.bad = 0

    def with_observations(self, observations: Observations) -> Likelihood:
        """The same model with other data; nothing is compiled again if the shapes are the same."""
        other = object.__new__(Likelihood)
        other.__dict__.update(self.__dict__)
        other._setup(observations)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """Compiled functions stay behind: another process compiles its own."""
        return Likelihood, (self.space, self.predict, self.given, self.scale)

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Log-likelihood and its gradient; ``BAD`` and zeros where the model's value is not finite."""
        self.evaluations += 1
        value, gradient = self._value_and_grad(np.asarray(z, dtype=float), self._data)
        number, slope = float(value), np.array(gradient, dtype=float)
        if not np.isfinite(number) or number < BAD:
            self.bad += 1
            return BAD, np.zeros_like(slope)
        # leapfrog steps with any force that depends on the position alone still leave the posterior unchanged
        slope[~np.isfinite(slope)] = 0.0
        return number, slope

    def posterior(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Log posterior density in ``z``, up to a constant, with its gradient."""
        value, gradient = self(z)
        return value - 0.5 * float(z @ z), gradient - z

    def predictions(self, z: np.ndarray, chunk: int = 64) -> np.ndarray:
        """Predictions of what was observed, shape (n, p) to (n, m)."""
        z = np.asarray(z, dtype=float)
        out = []
        for start in range(0, len(z), chunk):
            part = z[start : start + chunk]
            filled = np.concatenate([part, np.repeat(part[-1:], chunk - len(part), axis=0)])
            out.append(np.asarray(self._batch(filled))[: len(part), self.rows])
        return np.concatenate(out)
