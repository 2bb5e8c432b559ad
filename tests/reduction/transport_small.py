"""Temozolomide in a ball of two tissues with uneven vessels; reduced models trained once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.tissue import Tissue
from vvuq_twin.reduction.exchange import ExchangeModes, exchange_modes, exchange_parameters, fading
from vvuq_twin.reduction.training import training_parameters
from vvuq_twin.reduction.transport import ReducedTransport, build_transport
from vvuq_twin.reduction.transport_case import TransportCase

#: Longest step of the full order, hours.
STEP = 0.02


@cache
def small_transport() -> TransportCase:
    """An oral dose and an infusion in 12 h."""
    grid = Grid((12, 11, 10), (2.0, 2.0, 2.0))
    x, y, z = np.meshgrid(*grid.centres(), indexing="ij")
    mask = (x - 11) ** 2 + (y - 10) ** 2 + (z - 9) ** 2 < 100
    faces = assemble(grid, mask, np.where(x > 12, 2, 1), {"white": 1, "grey": 2})
    ktrans = faces.gather(0.3 + 2.7 * np.exp(-((x - 9) ** 2 + (y - 10) ** 2 + (z - 9) ** 2) / 40.0))
    phi = faces.gather(0.2 + 0.15 * np.cos(x / 4.0) ** 2)
    agent = load_agent("temozolomide")
    space = ParameterSpace((*agent.parameters(), Parameter("ktrans_factor", "1", LogNormal(1.0, 0.3))))
    doses = (Dose(0.0, 150.0, "gut"), Dose(6.0, 150.0, "central", duration=0.5))
    return TransportCase(Tissue(faces, ktrans, phi), agent, doses, np.arange(0.5, 12.1, 0.5), space)


@cache
def small_reduced() -> ReducedTransport:
    """Trained on ten runs."""
    case = small_transport()
    return build_transport(case, training_parameters(case.space, 10, 3), STEP, 1e-6, 24)


@cache
def small_modes() -> ExchangeModes:
    """Three modes of a map known to 30 % in the tumour and less and less over a rim of 4 mm."""
    faces = small_transport().tissue.faces
    return exchange_modes(faces, fading(faces, tumour(), 0.3, 4.0), 8.0, 3)


@cache
def uncertain_map() -> TransportCase:
    """The same with the scores of the map's modes uncertain."""
    case, modes = small_transport(), small_modes()
    space = ParameterSpace((*case.space.parameters, *exchange_parameters(modes)))
    return replace(case, space=space, exchange=modes.patterns)


@cache
def uncertain_reduced() -> ReducedTransport:
    """Trained on 24 runs."""
    case = uncertain_map()
    return build_transport(case, training_parameters(case.space, 24, 3), 2.5 * STEP, 1e-6, 40)


def tumour() -> np.ndarray:
    """Cells with many vessels."""
    return np.asarray(small_transport().tissue.ktrans > 1.0)
