"""Reduced models on disk, with the hash of what they were built from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..domain.errors import BadInput
from ..domain.fingerprint import fingerprint
from ..kinetics.plasma import Dose
from .archive import AGAIN, read, write
from .delivery import Moved, Nodes, ReducedDelivery
from .estimate import Probe, Scale
from .exchange import Vessels
from .flow import Entries, ReducedFlow, Walls
from .galerkin import GrowthOperators
from .growth import ReducedGrowth
from .timegrid import TimeGrid
from .transport import ReducedTransport, TransportOperators

_KINDS = {
    k.__name__: k
    for k in (
        ReducedGrowth, GrowthOperators, Probe, ReducedTransport, TransportOperators, ReducedDelivery, Moved, Nodes,
        ReducedFlow, Entries, Walls, Vessels, TimeGrid, Dose, Scale,
    )
}  # fmt: skip


def identity(reduced: ReducedGrowth) -> str:
    """Hash of everything that the model computes with; what it cost to train is no part of it."""
    return fingerprint(replace(reduced, timings={}))


def save(path: Path, model: ReducedGrowth | ReducedTransport | ReducedDelivery, beside: Any = None) -> Path:
    """Write a model and what belongs to it atomically.

    Parameters
    ----------
    path : Path
    model : ReducedGrowth, ReducedTransport or ReducedDelivery
    beside : Probe or Scale, optional
        Of its error estimate.

    Raises
    ------
    BadInput
        If the folder cannot be written or the disk is full.
    """
    return write(path, (model, beside), model.fingerprint)


def load[Model](path: Path, expected: str, kind: type[Model]) -> tuple[Model, Any]:
    """Read a model built from what ``expected`` is the fingerprint of.

    Parameters
    ----------
    path : Path
    expected : str
        ``fingerprint`` of the case and the training's settings:
        :meth:`~vvuq_twin.reduction.training.Training.fingerprint`,
        :func:`~vvuq_twin.reduction.transport.transport_fingerprint`,
        :meth:`~vvuq_twin.reduction.delivery_build.DeliveryTraining.fingerprint`.
    kind : type
        Of the model.

    Returns
    -------
    model, beside

    Raises
    ------
    BadInput
        If the file is missing, unreadable, of another format or kind, or built from something else.
    """
    model, beside = read(path, expected, _KINDS)
    if not isinstance(model, kind):
        raise BadInput(f"this holds a {type(model).__name__}, not a {kind.__name__}", str(path), AGAIN)
    return model, beside
