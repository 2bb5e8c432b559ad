"""Polynomial models of normals whose moments are known, as arrays and as batch functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vvuq_twin.domain.keys import member_normals
from vvuq_twin.multifidelity import Moments

COSTS = (1.0, 0.05, 0.01)


def truth(z):
    """Two outputs, (n, 2)."""
    x, y = z[:, 0], z[:, 1]
    return np.stack([1.0 + x + 0.3 * x**2 + 0.2 * y, 2.0 - y + 0.25 * x * y], axis=1)


def good_copy(z):
    """Nearly the truth, with a bias."""
    x, y = z[:, 0], z[:, 1]
    return truth(z) + np.stack([0.4 + 0.1 * x - 0.03 * x**3, -0.3 + 0.08 * y**2], axis=1)


def rough_copy(z):
    """Half of it."""
    x, y = z[:, 0], z[:, 1]
    return np.stack([0.5 * x + 0.1 * x**2, -0.6 * y + 0.3 * x], axis=1)


MODELS = (truth, good_copy, rough_copy)


def quadrature(points: int = 16):
    """Nodes (n, 2) and weights of a product rule that is exact for polynomials of degree 31 in each normal."""
    x, w = np.polynomial.hermite_e.hermegauss(points)
    w = w / w.sum()
    return np.array([(a, b) for a in x for b in x]), np.array([a * b for a in w for b in w])


def exact() -> tuple[np.ndarray, Moments]:
    """Means (3, 2) and moments of the three models."""
    z, w = quadrature()
    y = np.stack([f(z) for f in MODELS], axis=1)
    mean = np.einsum("n,nmq->mq", w, y)
    d = y - mean
    s = d**2 - np.einsum("n,nmq->mq", w, d**2)
    return mean, Moments(np.einsum("n,naq,nbq->abq", w, d, d), np.einsum("n,naq,nbq->abq", w, s, s))


def draw(n: int, purpose: str) -> np.ndarray:
    return member_normals(17, purpose, range(n), 2)


def run_truth(z, members, context):
    return {"y": truth(z), "status": np.zeros(len(z), dtype=int)}


def run_good(z, members, context):
    return {"y": good_copy(z)}


def run_rough(z, members, context):
    return {"y": rough_copy(z)}


def run_short(z, members, context):
    return {"y": truth(z)[:, :1]}


def run_truth_fails(z, members, context):
    """Fails where x is large: a status, and a value that must not be used."""
    bad = z[:, 0] > 1.5
    return {"y": np.where(bad[:, None], 1e9, truth(z)), "status": bad.astype(int)}


def run_good_fails(z, members, context):
    """The cheap model fails where x is large, and says so."""
    bad = z[:, 0] > 1.0
    return {"y": np.where(bad[:, None], np.nan, good_copy(z)), "status": bad.astype(int)}


def run_always_fails(z, members, context):
    return {"y": truth(z), "status": np.ones(len(z), dtype=int)}


def run_until_flag(z, members, folder):
    """Breaks off in its second batch until the flag is there: a run that is interrupted."""
    if members[0] > 0 and not Path(folder, "go").exists():
        raise KeyboardInterrupt
    return {"y": good_copy(z)}
