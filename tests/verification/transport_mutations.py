"""Solvers made wrong for the checks of species and coupled transport: (check, owner, attribute, wrong)."""

from __future__ import annotations

import numpy as np

from vvuq_twin.physics import saturable as tissue_saturable
from vvuq_twin.physics import smallexp, stepper, tissue
from vvuq_twin.physics.interstitium import FluidTissue
from vvuq_twin.physics.tissue import Rates, Tissue
from vvuq_twin.verification import coupled_orders, species_checks

local_maps = smallexp.local_maps
across_wall = tissue.across_wall
saturable_step = tissue_saturable.saturable_step
rates_out = Rates.out
kernel_conductance = Tissue.face_conductance


def lost_fraction(self, phi):
    """Losses act on the amount as if it were the interstitial concentration."""
    return rates_out(self, np.ones_like(phi))


def leaking_kinetics(*arguments):
    """A ten-millionth of what is in the tissue is lost, beside the books."""
    taken = saturable_step(*arguments)
    arguments[0][:] *= 1.0 - 1e-10
    return taken


def one_axis(self, diffusivity):
    """The spacing of the first axis for all, in mm whatever the unit."""
    g = kernel_conductance(self, diffusivity)
    h = self.faces.grid.spacing
    return g[0], g[1] * (h[1] / h[0]) ** 2, g[2] * max(h[2], 0.2)


def no_drag(wall, drag):
    """The Peclet factor forgotten."""
    return wall + drag, wall


def faster_uptake(*arguments):
    *first, value, label, courses, dt, change = arguments
    return saturable_step(*first, 1.01 * value, label, courses, dt, change)


def slower_plasma(out_rate, gain, which, reactions, plasma, area, rows, dt, supplied, maps):
    local_maps(out_rate, gain, which, reactions, 0.99 * plasma, area, rows, dt, supplied, maps)


def one_sided(self, dt, count):
    """First-order (Lie) splitting."""
    for _ in range(count):
        self.move(dt)
        self.local(dt)


TRANSPORT_MUTATIONS = [
    ("lengths", FluidTissue, "layer", property(lambda self: self.conductivity / self.filtration)),
    ("transport.mms.coupled.central", tissue, "across_wall", no_drag),
    ("transport.mms.coupled.limited", coupled_orders, "SCHEMES", {"van_leer": 0}),
    ("transport.mms.coupled.time", stepper.Stepper, "march", one_sided),
    ("transport.splitting", stepper.Stepper, "march", one_sided),
    ("delivery.patient", tissue_saturable, "saturable_step", leaking_kinetics),
    ("delivery.axes", Tissue, "face_conductance", one_axis),
    ("delivery.units", Tissue, "face_conductance", one_axis),
    ("species.doxorubicin", tissue_saturable, "saturable_step", faster_uptake),
    ("species.binding", tissue_saturable, "saturable_step", faster_uptake),
    ("species.linear", Rates, "out", lost_fraction),
    ("species.linear", tissue, "across_wall", no_drag),
    ("species.wall", species_checks, "across_wall", no_drag),
    ("species.limits", Rates, "out", lost_fraction),
    ("species.sampled", stepper.smallexp, "local_maps", slower_plasma),
]
