"""Interstitial pressure of a sphere: the closed forms of Baxter & Jain 1989, and a radial scheme of their own.

The radial scheme shares no code with the voxel solver: it is the refined grid that voxel results and the
sub-grid rim flux are held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_banded

from ..physics.interstitium import FluidTissue, load_fluid_tissues


@dataclass(frozen=True)
class Sphere:
    """A uniform tumour in uniform tissue without lymphatics; lengths mm, pressures mmHg, hours.

    Parameters
    ----------
    radius : float
    k_t, k_n : float
        Conductivities, mm2/mmHg/h.
    b_t, b_n : float
        Lp S/V, 1/mmHg/h.
    p_t, p_n : float
        Effective pressures p_e.
    """

    radius: float
    k_t: float
    k_n: float
    b_t: float
    b_n: float
    p_t: float
    p_n: float

    @classmethod
    def of_library(cls, radius: float) -> Sphere:
        """The library's tumour and normal tissue."""
        t, n = (load_fluid_tissues()[name] for name in ("tumour", "normal"))
        return cls.of(radius, t, n)

    @classmethod
    def of(cls, radius: float, t: FluidTissue, n: FluidTissue) -> Sphere:
        """From two tissues."""
        return cls(
            radius, t.conductivity, n.conductivity, t.filtration, n.filtration,
            t.effective_pressure, n.effective_pressure,
        )  # fmt: skip

    @property
    def alpha(self) -> tuple[float, float]:
        """``R sqrt(Lp S/V / K)`` of tumour and normal tissue."""
        r = self.radius
        return float(r * np.sqrt(self.b_t / self.k_t)), float(r * np.sqrt(self.b_n / self.k_n))

    def isolated(self, r: np.ndarray) -> np.ndarray:
        """Pressure with p = 0 at the surface: ``p_e (1 - sinh(a x)/(x sinh a))``."""
        return np.asarray(self.p_t * (1.0 - _sinh_ratio(self.alpha[0], np.asarray(r) / self.radius)))

    def embedded(self, r: np.ndarray) -> np.ndarray:
        """Pressure inside and outside."""
        a_t, a_n = self.alpha
        x = np.asarray(r, dtype=float) / self.radius
        kappa = self.k_t / self.k_n
        bulge = a_t / np.tanh(a_t) - 1.0
        d, drop = kappa * bulge + 1.0 + a_n, self.p_t - self.p_n
        inside = self.p_t - drop * (1.0 + a_n) * _sinh_ratio(a_t, np.minimum(x, 1.0)) / d
        beyond = np.maximum(x, 1.0)
        outside = self.p_n + drop * kappa * bulge * np.exp(-a_n * (beyond - 1.0)) / (beyond * d)
        return np.where(x < 1.0, inside, outside)

    @property
    def rim_speed(self) -> float:
        """Outward Darcy flux at the surface of the embedded sphere, mm/h."""
        a_t, a_n = self.alpha
        bulge = a_t / np.tanh(a_t) - 1.0
        d = self.k_t / self.k_n * bulge + 1.0 + a_n
        return float(self.k_t * (self.p_t - self.p_n) * (1.0 + a_n) * bulge / (self.radius * d))

    @property
    def rim_outflow(self) -> float:
        """Fluid that leaves the tumour, mm3/h."""
        return float(4.0 * np.pi * self.radius**2 * self.rim_speed)

    def radial(self, n: int, reach: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Finite volumes on ``n`` shells out to ``reach`` radii (1: isolated, fixed pressure 0).

        Returns
        -------
        r : ndarray, shape (n,)
            Middles of the shells, mm.
        p : ndarray, shape (n,)
        outflow : float
            Through the sphere's surface, mm3/h.
        """
        edge = np.linspace(0.0, reach * self.radius, n + 1)
        r = 0.5 * (edge[1:] + edge[:-1])
        inside = r < self.radius
        k, b = np.where(inside, self.k_t, self.k_n), np.where(inside, self.b_t, self.b_n)
        far = np.where(inside, self.p_t, self.p_n)
        h, area = edge[1], 4.0 * np.pi * edge**2
        volume = 4.0 / 3.0 * np.pi * np.diff(edge**3)
        link = np.zeros(n + 1)
        link[1:-1] = area[1:-1] * 2.0 * k[1:] * k[:-1] / (k[1:] + k[:-1]) / h
        link[-1] = area[-1] * 2.0 * k[-1] / h
        beyond = 0.0 if reach == 1 else self.p_n
        right = b * far * volume
        right[-1] += link[-1] * beyond
        bands = np.zeros((3, n))
        bands[0, 1:], bands[2, :-1] = -link[1:-1], -link[1:-1]
        bands[1] = link[1:] + link[:-1] + b * volume
        p = solve_banded((1, 1), bands, right)
        rim = int(np.argmin(np.abs(edge - self.radius)))
        after = p[rim] if rim < n else beyond
        return r, p, float(link[rim] * (p[rim - 1] - after))


def _sinh_ratio(a: float, x: np.ndarray) -> np.ndarray:
    """``sinh(a x)/(x sinh a)`` for 0 <= x <= 1 without overflow; ``a/sinh a`` at 0."""
    small = np.maximum(x, 1e-12)
    return np.exp(a * (small - 1.0)) * -np.expm1(-2.0 * a * small) / (-np.expm1(-2.0 * a) * small)
