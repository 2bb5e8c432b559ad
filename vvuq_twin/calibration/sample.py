"""NUTS by PyMC on a likelihood in JAX: the bridge between the two, and the sampling itself."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ..domain.errors import RunFailed
from ..domain.keys import generator, integer
from ..ensemble.beside import Begin
from .coordinates import Coordinates
from .likelihood import Likelihood

Progress = Callable[[int, int], None]
Density = Callable[[np.ndarray], tuple[float, np.ndarray]]


@cache
def _op_class() -> type:
    """The PyTensor operation (built on first use: PyTensor is slow to import)."""
    import pytensor.tensor as pt
    from pytensor.gradient import DisconnectedType
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op

    class LogDensity(Op):
        """Value and gradient of a log density in one evaluation.

        The gradient is an output, and the pullback multiplies by it: a sampler that asks for the value
        and the gradient runs the model once, forwards and backwards.
        """

        def __init__(self, density: Density) -> None:
            self.density = density

        def make_node(self, *inputs: Any) -> Any:
            return Apply(
                self, [pt.as_tensor_variable(inputs[0], dtype="float64")], [pt.dscalar(), pt.dvector()]
            )

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            value, gradient = self.density(inputs[0])
            outputs[0][0] = np.asarray(value)
            outputs[1][0] = gradient

        def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> Any:
            if not isinstance(cotangents[1].type, DisconnectedType):
                raise TypeError("second derivatives of the density are not available")
            return [cotangents[0] * outputs[1]]

        def connection_pattern(self, node: Any) -> list[list[bool]]:
            return [[True, False]]

    return LogDensity


def log_likelihood_op(likelihood: Likelihood) -> Any:
    """A PyTensor operation ``z -> (log-likelihood, gradient)`` of the whitened scores, for use in any PyMC model."""
    return _op_class()(likelihood)


def pymc_model(likelihood: Likelihood, coordinates: Coordinates) -> Any:
    """The PyMC model: the posterior of the coordinates ``x`` (shape (p,)) as a potential."""
    import pymc as pm

    with pm.Model() as model:
        x = pm.Flat("x", shape=likelihood.space.size)
        density = partial(coordinates.posterior, likelihood)
        pm.Potential("posterior", _op_class()(density)(x)[0])
    return model


@dataclass(frozen=True)
class Chains:
    """What the sampler drew.

    Parameters
    ----------
    z : ndarray, shape (chains, draws, p)
        Whitened scores.
    diverging : ndarray of bool, shape (chains, draws)
    energy : ndarray, shape (chains, draws)
    at_limit : ndarray of bool, shape (chains, draws)
        Whether the tree reached its greatest depth.
    evaluations, bad : int
        Gradient evaluations, and those whose value was not finite.
    seconds : float
    """

    z: np.ndarray
    diverging: np.ndarray
    energy: np.ndarray
    at_limit: np.ndarray
    evaluations: int
    bad: int
    seconds: float

    @staticmethod
    def joined(parts: Sequence[Chains], together: bool = False) -> Chains:
        """Chains side by side; ``together`` if they ran at the same time."""
        seconds = [c.seconds for c in parts]
        return Chains(
            np.concatenate([c.z for c in parts]),
            np.concatenate([c.diverging for c in parts]),
            np.concatenate([c.energy for c in parts]),
            np.concatenate([c.at_limit for c in parts]),
            sum(c.evaluations for c in parts),
            sum(c.bad for c in parts),
            max(seconds) if together else sum(seconds),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(n) for n in ("pymc", "pymc.sampling.mcmc", "pymc.stats.convergence")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)


@dataclass(frozen=True)
class Sampling:
    """Settings of NUTS.

    Parameters
    ----------
    draws, tune : int
    target_accept : float
    max_treedepth : int
    stage : int
        Names the draws, so that a second call gives others.
    """

    draws: int = 500
    tune: int = 150
    target_accept: float = 0.65
    max_treedepth: int = 8
    stage: int = 0

    @property
    def iterations(self) -> int:
        """Of one chain."""
        return self.draws + self.tune


def nuts(
    likelihood: Likelihood,
    coordinates: Coordinates,
    seed: int,
    chains: int = 2,
    how: Sampling | None = None,
    progress: Progress | None = None,
    begin: Begin | None = None,
) -> Chains:
    """Draw from the posterior.

    NUTS moves in coordinates in which the posterior looks like a standard normal, so that trees stay short and
    tuning has only the step size to find. Chains start apart: one and a half standard deviations from the middle
    in keyed directions.

    Parameters
    ----------
    likelihood : Likelihood
    coordinates : Coordinates
    seed : int
    chains : int
    how : Sampling, optional
    progress : callable, optional
        ``progress(iterations done, iterations in all)``; of chains elsewhere as far as the one here.
    begin : Begin, optional
        Where all chains but the first run (:func:`vvuq_twin.ensemble.beside`); here, one after another, if absent.

    Raises
    ------
    RunFailed
        If the sampler could not draw.
    """
    how = how or Sampling()
    noise = generator(seed, "calibration", "initial", how.stage).standard_normal(
        (chains, likelihood.space.size)
    )
    starts = 1.5 * noise

    def told(chain: int) -> Callable[[int], None] | None:
        if progress is None:
            return None
        behind, pace = (chain, 1) if begin is None else (0, chains)
        return lambda seen: progress(behind * how.iterations + pace * seen, chains * how.iterations)

    if begin is None:
        return Chains.joined(
            [one_chain(likelihood, coordinates, seed, c, starts[c], how, told(c)) for c in range(chains)]
        )
    others = [begin(one_chain, likelihood, coordinates, seed, c, starts[c], how) for c in range(1, chains)]
    first = one_chain(likelihood, coordinates, seed, 0, starts[0], how, told(0))
    return Chains.joined([first, *(wait() for wait in others)], together=True)


def one_chain(
    likelihood: Likelihood,
    coordinates: Coordinates,
    seed: int,
    chain: int,
    start: np.ndarray,
    how: Sampling,
    told: Callable[[int], None] | None = None,
) -> Chains:
    """One chain of :func:`nuts` from coordinates ``start``, shape (p,); its draws are keyed by its number alone."""
    import pymc as pm
    import pytensor
    from pymc.step_methods.hmc.quadpotential import QuadPotentialDiag

    began, before, bad = time.perf_counter(), likelihood.evaluations, likelihood.bad
    seen = 0

    def watch(trace: Any, draw: Any) -> None:
        nonlocal seen
        seen += 1
        if told is not None:
            told(seen)

    mode = pytensor.compile.mode.Mode(linker="py", optimizer="fast_compile")
    with _quiet(), pymc_model(likelihood, coordinates) as model:
        rng = integer(seed, "calibration", "potential", how.stage, chain)
        step = pm.NUTS(
            model.value_vars,
            potential=QuadPotentialDiag(np.ones(len(start)), rng=rng),
            target_accept=how.target_accept,
            max_treedepth=how.max_treedepth,
            early_max_treedepth=how.max_treedepth,
            step_scale=len(start)
            ** 0.25,  # the first step is 1: the coordinates have made the posterior round
            initial_point={"x": start},
            compile_kwargs={"mode": mode},
        )
        try:
            tree = pm.sample(
                how.draws,
                tune=how.tune,
                chains=1,
                cores=1,
                step=step,
                initvals=[{"x": start}],
                random_seed=[integer(seed, "calibration", "chain", how.stage, chain)],
                progressbar=False,
                quiet=True,
                compute_convergence_checks=False,
                discard_tuned_samples=True,
                callback=watch,
                compile_kwargs={"mode": mode},
            )
        except (ValueError, RuntimeError, pm.exceptions.SamplingError) as error:
            raise RunFailed(
                f"the calibration's sampler could not draw ({' '.join(str(error).split())[:200]})"
            ) from error
    if seen < how.iterations:
        # PyMC swallows an interrupt
        raise KeyboardInterrupt
    stats = tree["sample_stats"]
    return Chains(
        coordinates.scores(tree["posterior"]["x"].values),
        np.asarray(stats["diverging"].values, dtype=bool),
        np.asarray(stats["energy"].values, dtype=float),
        np.asarray(stats["reached_max_treedepth"].values, dtype=bool),
        likelihood.evaluations - before,
        likelihood.bad - bad,
        time.perf_counter() - began,
    )
