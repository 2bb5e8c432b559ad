"""Effect of radiation that comes over time: the Lea-Catcheside factor and the biologically effective dose.

With a dose rate R(t) and sublethal damage that is repaired at the rate mu (Dale 1985, Br. J. Radiol. 58:515),

    log survival = -alpha D - beta G D^2,    G D^2 = 2 int R(t) y(t) dt,    dy/dt = R - mu y,
    BED = D + G D^2 / (alpha/beta).

R is linear between samples, instant fractions and an exponential tail may be added; all integrals are exact
for that curve. G is 1 for one short fraction and lambda/(lambda + mu) for a dose rate that decays at lambda.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True)
class DoseEffect:
    """Dose and its quadratic effect from the first sample to each sample.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Hours; twice in a row where a fraction is given, before and after it.
    dose : ndarray, shape (..., T)
        D, Gy.
    quadratic : ndarray, shape (..., T)
        G D^2, Gy2.
    """

    times: np.ndarray
    dose: np.ndarray
    quadratic: np.ndarray

    @property
    def factor(self) -> np.ndarray:
        """G of the whole course, shape (...)."""
        return np.asarray(self.quadratic[..., -1] / np.maximum(self.dose[..., -1] ** 2, 1e-300))

    def bed(self, alpha_beta: ArrayLike) -> np.ndarray:
        """Biologically effective dose of the whole course, Gy, shape (...)."""
        return np.asarray(self.dose[..., -1] + self.quadratic[..., -1] / np.asarray(alpha_beta, dtype=float))

    def log_survival(self, alpha: float | np.ndarray, beta: float | np.ndarray) -> np.ndarray:
        """Logarithm of the surviving fraction at each time, shape (..., T)."""
        return np.asarray(-alpha * self.dose - beta * self.quadratic)


def dose_effect(
    times: ArrayLike,
    rate: ArrayLike,
    repair: float,
    tail: float | None = None,
    fractions: Iterable[tuple[float, float]] = (),
) -> DoseEffect:
    """Integrate a dose rate.

    Parameters
    ----------
    times : array_like, shape (T,)
        Increasing, hours.
    rate : array_like, shape (..., T)
        Gy/h at these times, linear between them.
    repair : float
        mu, 1/h; 0 is no repair (G = 1).
    tail : float, optional
        Rate at which the dose rate decays after the last sample, 1/h; one more entry, at infinite time, is added.
    fractions : iterable of (hours, Gy)
        Instant doses within the times.

    Raises
    ------
    BadInput
        If times do not increase, a rate is negative or not finite, or a fraction is outside the times.
    """
    t, r = np.asarray(times, dtype=float), np.asarray(rate, dtype=float)
    acute = sorted((float(a), float(d)) for a, d in fractions)
    if t.ndim != 1 or len(t) < 2 or r.shape[-1:] != t.shape:
        raise BadInput("there are not two or more times with a dose rate each", "dose rate")
    if not (np.isfinite(t).all() and np.isfinite(r).all()) or (np.diff(t) <= 0).any():
        raise BadInput("times of the dose rate do not increase, or a value is not finite", "dose rate")
    if (r < 0).any():
        raise BadInput("a dose rate is negative", "dose rate")
    if not (np.isfinite(repair) and repair >= 0) or (tail is not None and not tail > 0):
        raise BadInput("the rate of repair or of the tail is negative or not finite", "dose rate")
    for time, gray in acute:
        if not t[0] <= time <= t[-1] or not gray >= 0:
            raise BadInput(f"the fraction at {time:g} h is outside the times or negative", "dose rate")
    knots = np.union1d(t, [a for a, _ in acute])
    flat = r.reshape(-1, len(t))
    curve = np.array([np.interp(knots, t, row) for row in flat]).reshape(*r.shape[:-1], len(knots))
    zero = np.zeros(r.shape[:-1])
    dose, quadratic, damage = zero, zero.copy(), zero.copy()
    out: list[tuple[float, np.ndarray, np.ndarray]] = [(float(knots[0]), dose, quadratic)]
    for i, now in enumerate(knots.tolist()):
        if i:
            a, b = curve[..., i - 1], curve[..., i]
            h = now - float(knots[i - 1])
            gain, more, damage = _interval(a, b, damage, h, repair)
            dose, quadratic = dose + gain, quadratic + 2.0 * more
            out.append((now, dose, quadratic))
        for time, gray in acute:
            if time == now:
                quadratic = quadratic + 2.0 * gray * damage + gray**2
                dose, damage = dose + gray, damage + gray
                out.append((now, dose, quadratic))
    if tail is not None:
        last = curve[..., -1]
        more = last * damage / (tail + repair) + last**2 / (2.0 * tail * (tail + repair))
        out.append((np.inf, dose + last / tail, quadratic + 2.0 * more))
    return DoseEffect(
        np.array([o[0] for o in out]),
        np.stack([o[1] for o in out], axis=-1),
        np.stack([o[2] for o in out], axis=-1),
    )


def _interval(
    a: np.ndarray, b: np.ndarray, damage: np.ndarray, h: float, mu: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dose, integral of R y, and the damage at the end, for a rate from a to b over h."""
    z = mu * h
    dose = 0.5 * (a + b) * h
    end = damage * np.exp(-z) + h * (a * _phi1(z) + (b - a) * _phi2(z))
    if z > 2.0:
        # the damage relaxes within the interval: particular solution plus what decays
        slope = (b - a) / h
        steady0, rise = a / mu - slope / mu**2, slope / mu
        left = damage - steady0
        e0, e1 = -np.expm1(-z) / mu, (1.0 - np.exp(-z) * (1.0 + z)) / mu**2
        cross = left * (a * e0 + slope * e1)
        cross = cross + a * (steady0 * h + rise * h**2 / 2) + slope * (steady0 * h**2 / 2 + rise * h**3 / 3)
        return dose, cross, end
    total = np.zeros_like(dose)
    for node, weight in zip(_NODES, _WEIGHTS):
        u = 0.5 * (node + 1.0)
        s = u * z
        here = damage * np.exp(-s) + u * h * (a * _phi1(s) + u * (b - a) * _phi2(s))
        total = total + 0.5 * weight * h * (a + u * (b - a)) * here
    return dose, total, end


def _phi1(z: float) -> float:
    """``int_0^1 exp(-z (1 - u)) du``."""
    return 1.0 if z == 0.0 else float(-np.expm1(-z) / z)


def _phi2(z: float) -> float:
    """``int_0^1 u exp(-z (1 - u)) du``."""
    if z < 1e-2:
        return 0.5 - z / 6.0 + z**2 / 24.0 - z**3 / 120.0 + z**4 / 720.0
    return (1.0 - _phi1(z)) / z
