"""Functions whose indices are known."""

from __future__ import annotations

import numpy as np

from vvuq_twin.domain.parameters import LogNormal, Normal, Parameter, ParameterSpace, Uniform

ISHIGAMI = ParameterSpace(tuple(Parameter(f"x{i}", "1", Uniform(-np.pi, np.pi)) for i in (1, 2, 3)))


def ishigami(x, a=7.0, b=0.1):
    return np.sin(x[:, 0]) + a * np.sin(x[:, 1]) ** 2 + b * x[:, 2] ** 4 * np.sin(x[:, 0])


def ishigami_indices(a=7.0, b=0.1):
    """First and total indices and variance in closed form (Ishigami & Homma 1990)."""
    v1 = 0.5 * (1 + b * np.pi**4 / 5) ** 2
    v2, v13 = a**2 / 8, b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    v = v1 + v2 + v13
    return np.array([v1, v2, 0]) / v, np.array([v1 + v13, v2, v13]) / v, v, v13 / v


G_COEFFICIENTS = np.array([0.0, 1.0, 4.5, 9.0, 99.0])
G_SPACE = ParameterSpace(tuple(Parameter(f"g{i}", "1", Uniform(0, 1)) for i in range(5)))


def g_function(x, a=G_COEFFICIENTS):
    return np.prod((np.abs(4 * x - 2) + a) / (1 + a), axis=1)


def g_indices(a=G_COEFFICIENTS):
    """Sobol's g-function (Saltelli & Sobol 1995)."""
    vi = 1 / (3 * (1 + a) ** 2)
    v = np.prod(1 + vi) - 1
    total = np.array([vi[i] * np.prod(1 + np.delete(vi, i)) for i in range(len(a))]) / v
    return vi / v, total, v


LINEAR_SPACE = ParameterSpace(
    (
        Parameter("a", "1", Normal(2.0, 0.5)),
        Parameter("b", "1", Normal(-1.0, 2.0)),
        Parameter("c", "1", Normal(0, 1)),
    )
)


def linear_field(theta, n=11):
    """A field over n points that is linear in normal parameters, and its indices at every point."""
    s = np.linspace(0, 1, n)
    weights = np.stack([1 - s, s, np.sin(np.pi * s)])
    part = (weights * np.array([0.5, 2.0, 1.0])[:, None]) ** 2
    return theta @ weights + 3.0, part / part.sum(axis=0), part.sum(axis=0)


MIXED_SPACE = ParameterSpace(
    (
        Parameter("rate", "1/day", LogNormal(0.1, 0.4)),
        Parameter("mode_1", "1", Normal(0, 1)),
        Parameter("mode_2", "1", Normal(0, 1)),
        Parameter("share", "1", Uniform(0.2, 0.8)),
    )
)
