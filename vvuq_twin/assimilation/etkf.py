"""Ensemble transform Kalman filter with the symmetric square root."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..domain.observations import Observations
from .diagnostics import found
from .protocol import Carry, Key, finish, prepare, unchanged
from .roots import Spectrum, mean_preserving_rotation
from .update import GlobalUpdate, Inflation
from .whitening import whiten


def square_root(
    spectrum: Spectrum, d: np.ndarray, members: np.ndarray, size: int, inflation: Inflation
) -> GlobalUpdate:
    """``X = 1 w^T + (I + S S^T)^(-1/2)``, ``w = (I + S S^T)^-1 S d / sqrt(K - 1)``, in its cheaper form."""
    k = len(members)
    w = spectrum.gain_rows(d[None, :])[0] / np.sqrt(k - 1)
    if spectrum.thin:
        left = np.concatenate([np.ones((k, 1)), spectrum.S], axis=1)
        right = np.concatenate([w[None, :], spectrum.thin_root()], axis=0)
        return GlobalUpdate(members, size, left=left, right=right, inflation=inflation)
    return GlobalUpdate(members, size, dense=w + spectrum.root(), inflation=inflation)


@dataclass(frozen=True)
class ETKF:
    """Ensemble transform Kalman filter (Bishop 2001; symmetric root, Hunt et al. 2007; Sakov & Oke 2008).

    Parameters
    ----------
    inflation : Inflation
    rotate : bool
        Follow the transform by a keyed random rotation of the anomalies that keeps mean and covariance.

    Notes
    -----
    Cost: N^2 m for the Gram matrix, N^3 for its spectrum, 2 N^2 n to apply; with few observations
    (2 m < N) all of it is linear in N: N m^2, m^3 and 4 N m n. Exact in the linear-Gaussian case.
    """

    inflation: Inflation = field(default_factory=Inflation)
    rotate: bool = False

    @property
    def steps(self) -> int:
        return 1

    def analyse(
        self,
        carry: Carry,
        HE: np.ndarray,
        observations: Observations,
        key: Key,
        status: np.ndarray | None = None,
    ) -> tuple[GlobalUpdate, Carry]:
        """See :class:`~vvuq_twin.assimilation.protocol.Scheme`."""
        p = prepare(carry, HE, observations, status)
        if len(p.kept) == 0:
            return unchanged(p, len(carry.members))
        spectrum = Spectrum(whiten(p.observations.error, p.anomalies))
        d = whiten(p.observations.error, p.innovation)
        update = square_root(spectrum, d, p.rows, len(carry.members), self.inflation)
        if self.rotate:
            k = len(p.rows)
            normals = key.generator("rotation", carry.cycle).standard_normal((k - 1, k - 1))
            x = update.matrix()
            mean = x.mean(axis=0)
            turned = mean + mean_preserving_rotation(normals) @ (x - mean)
            update = GlobalUpdate(p.rows, len(carry.members), dense=turned, inflation=self.inflation)
        return update, finish(p, found(p, spectrum, d, key))
