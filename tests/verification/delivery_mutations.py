"""The reduced delivery made wrong, one check each."""

from __future__ import annotations

import numpy as np

from vvuq_twin.physics.tissue import across_wall
from vvuq_twin.reduction import delivery_online, delivery_reference, flow_build, transport
from vvuq_twin.reduction.interpolation import interpolated
from vvuq_twin.reduction.rosenbrock import GAMMA, factored, solved


def weaker_source(walls, values, n):
    """The far-field pressures' jump at the tumour's rim drives less flow."""
    return 0.99 * face_source(walls, values, n)


face_source = flow_build.face_source


def first_order(state, h, rate, jacobian, drift, xp=np):
    """One linearly implicit Euler step."""
    s = len(jacobian)
    lu = factored([[(1.0 / h if i == j else 0.0) - jacobian[i][j] for j in range(s)] for i in range(s)])
    return state + np.stack(solved(lu, rate(state, 0) + GAMMA * h * drift))


def leaky_walls(wall, drag, xp=np):
    """The drug leaves through the walls 1 % faster."""
    gain, back = across_wall(wall, drag, xp)
    return gain, 1.01 * back


def affine_map(base, patterns, tolerance, max_terms):
    """The map's changes as if they were linear in the scores."""
    return interpolated(base * patterns, tolerance, max_terms)


DELIVERY_MUTATIONS = [
    ("reduction.delivery.pressure", flow_build, "face_source", weaker_source),
    ("reduction.delivery.reference", delivery_reference, "step", first_order),
    ("reduction.delivery.modes", delivery_online, "across_wall", leaky_walls),
    ("reduction.transport.map", transport, "deviations", affine_map),
]
