"""Small problems whose posterior is known."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations
from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from vvuq_twin.reduction.backend import jax, jnp


def observations(y, error):
    return Observations(np.asarray(y, float), error, np.zeros((len(y), 0)), ["case"], 0.0)


@dataclass(frozen=True)
class Conjugate:
    """A linear model with normal prior and the three-part error: the posterior is normal, in closed form."""

    p: int = 4
    m: int = 40
    seed: int = 1

    def build(self):
        rng = generator(self.seed, "conjugate")
        design = rng.normal(size=(self.m, self.p)) * np.linspace(0.2, 3, self.p)
        space = ParameterSpace(tuple(Parameter(f"p{i}", "1", Normal(1.0, 0.5 + i)) for i in range(self.p)))
        ones = np.ones((self.m, 1))
        error = ObservationError(
            rng.uniform(0.5, 1.5, self.m), 0.8 * ones, np.sin(np.linspace(0, 3, self.m))[:, None]
        )
        truth = space.from_gaussian(rng.normal(size=self.p))
        y = design @ truth + error.perturbations(rng.normal(size=(1, self.m + 2)))[0]
        matrix = jnp.asarray(design)
        prior_mean, prior_sd = np.ones(self.p), 0.5 + np.arange(self.p)
        covariance = np.diag(error.voxel**2) + error.factor @ error.factor.T
        precision = design.T @ np.linalg.solve(covariance, design) + np.diag(prior_sd**-2)
        mean = np.linalg.solve(
            precision, design.T @ np.linalg.solve(covariance, y) + prior_mean / prior_sd**2
        )
        marginal = covariance + design @ np.diag(prior_sd**2) @ design.T
        r = y - design @ prior_mean
        evidence = -0.5 * (
            r @ np.linalg.solve(marginal, r) + np.linalg.slogdet(marginal)[1] + self.m * np.log(2 * np.pi)
        )
        return (
            space,
            (lambda theta: matrix @ theta),
            observations(y, error),
            mean,
            np.linalg.inv(precision),
            evidence,
        )


def one_compartment_oral(dose, times):
    """Concentration after an oral dose: first-order absorption and elimination, one compartment.

    Parameters (k_a 1/h, CL L/h/kg, V L/kg); dose in mg/kg; concentration in mg/L.
    """

    def concentration(theta, xp=jnp):
        ka, clearance, volume = theta[..., 0:1], theta[..., 1:2], theta[..., 2:3]
        ke = clearance / volume
        return dose * ka / (volume * (ka - ke)) * (xp.exp(-ke * times) - xp.exp(-ka * times))

    return concentration


PHARMACOKINETICS = ParameterSpace(
    (
        Parameter("k_a", "1/h", LogNormal(1.5, 1.0)),
        Parameter("CL", "L/h/kg", LogNormal(0.04, 1.0)),
        Parameter("V", "L/kg", LogNormal(0.5, 1.0)),
        Parameter("sigma", "mg/L", LogNormal(0.7, 0.7)),
    )
)


def theophylline(folder: Path, subject: int):
    with open(folder / "pharmacokinetics" / "theoph.csv") as source:
        rows = [r for r in csv.DictReader(source) if int(r["Subject"]) == subject]
    times = np.array([float(r["Time"]) for r in rows])
    return float(rows[0]["Dose"]), times, np.array([float(r["conc"]) for r in rows])


@dataclass(frozen=True)
class HalfCauchy:
    """Half-Cauchy prior with scale 1, as a map of a standard normal."""

    def from_gaussian(self, z: Any, xp: Any = np) -> Any:
        tail = ndtr(-z) if xp is np else jax.scipy.special.ndtr(-z)
        return 1.0 / xp.tan(0.5 * np.pi * tail)

    def to_gaussian(self, value: Any) -> Any:
        return -ndtri(np.arctan2(1.0, np.asarray(value)) * 2 / np.pi)
