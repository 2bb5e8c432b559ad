"""Solvers made wrong for the checks of species and coupled transport: (check, owner, attribute, wrong)."""

from __future__ import annotations

import numpy as np

from vvuq_twin.physics import saturable as tissue_saturable
from vvuq_twin.physics import smallexp, stepper, tissue
from vvuq_twin.physics.tissue import Rates
from vvuq_twin.verification import species_checks

local_maps = smallexp.local_maps
across_wall = tissue.across_wall
saturable_step = tissue_saturable.saturable_step
rates_out = Rates.out


def lost_fraction(self, phi):
    """Losses act on the amount as if it were the interstitial concentration."""
    return rates_out(self, np.ones_like(phi))


def no_drag(wall, drag):
    """The Peclet factor forgotten."""
    return wall + drag, wall


def faster_uptake(*arguments):
    *first, value, label, courses, dt, change = arguments
    return saturable_step(*first, 1.01 * value, label, courses, dt, change)


def slower_plasma(out_rate, gain, which, reactions, plasma, area, rows, dt, supplied, maps):
    local_maps(out_rate, gain, which, reactions, 0.99 * plasma, area, rows, dt, supplied, maps)


TRANSPORT_MUTATIONS = [
    ("species.doxorubicin", tissue_saturable, "saturable_step", faster_uptake),
    ("species.binding", tissue_saturable, "saturable_step", faster_uptake),
    ("species.linear", Rates, "out", lost_fraction),
    ("species.linear", tissue, "across_wall", no_drag),
    ("species.wall", species_checks, "across_wall", no_drag),
    ("species.limits", Rates, "out", lost_fraction),
    ("species.sampled", stepper.smallexp, "local_maps", slower_plasma),
]
