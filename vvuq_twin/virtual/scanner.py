"""Images of a phantom: what each tissue in a voxel gives to the signal, weighted by how much of the voxel it fills, with noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..domain.errors import BadInput, near
from ..domain.keys import generator
from ..imaging.t1 import spoiled_gradient_echo
from ..kinetics.aif import plasma
from ..kinetics.tofts import extended_tofts
from .anatomy import phantom_library, tissue_labels
from .phantom import Phantom, PhantomVisit

#: What a phantom can be scanned for.
ROLES = ("t1", "t1_post", "t2", "dwi", "adc", "vfa", "dce", "pet", "ct")
#: Signal units of the largest signal.
_FULL = 2000.0


@dataclass(frozen=True)
class PhantomScan:
    """One image of one visit.

    Parameters
    ----------
    role : str
    array : ndarray, shape grid.shape or (t, *grid.shape)
        Whole numbers for signals.
    clean : ndarray
        The same without noise.
    unit : str
    acquisition : dict
        As in a patient file.
    """

    role: str
    array: np.ndarray
    clean: np.ndarray
    unit: str
    acquisition: dict[str, Any] = field(default_factory=dict)


def scan_phantom(phantom: Phantom, visit: PhantomVisit, role: str, *, noise: bool = True) -> PhantomScan:
    """Scan a phantom.

    Parameters
    ----------
    phantom : Phantom
    visit : PhantomVisit
    role : str
        One of :data:`ROLES`.
    noise : bool
        Rician for signals, Gaussian for maps; keyed by the phantom's seed, the visit and the role.

    Raises
    ------
    BadInput
        If the role is none that a phantom is scanned for.
    """
    if role not in ROLES:
        raise BadInput(f"a phantom is not scanned for '{role}'", "phantom", near(role, ROLES))
    draw = generator(phantom.seed, "phantom scan", visit.id, role)
    if role in ("adc", "pet", "ct"):
        return _map(visit, role, draw if noise else None)
    given = dict(phantom_library()["scans"]["t1" if role == "t1_post" else role])
    clean = {"t1": _t1, "t1_post": _t1_post, "t2": _t2, "dwi": _dwi, "vfa": _vfa, "dce": _dce}[role](
        visit, given
    )
    clean = _FULL * clean
    array = clean
    if noise:
        sd = phantom_library()["noise"]["signal"] * _FULL
        real, other = sd * draw.standard_normal((2, *clean.shape))
        array = np.hypot(clean + real, other)
    acquisition = {k: float(v) if isinstance(v, int) else v for k, v in given.items()}
    return PhantomScan(role, np.rint(array).astype(np.int32), clean, "arbitrary", acquisition)


def _tissues(name: str) -> np.ndarray:
    """A property of every tissue, in the order of the fractions, shape (L, 1, 1, 1)."""
    values = [float(t[name]) for t in phantom_library()["tissues"].values()]
    return np.array(values).reshape(-1, 1, 1, 1)


def _mixed(visit: PhantomVisit, signals: np.ndarray) -> np.ndarray:
    """Signals of the tissues, shape (L, ...), weighted by their part of the voxel."""
    return np.asarray((visit.fractions * signals).sum(axis=0))


def _map(visit: PhantomVisit, role: str, draw: np.random.Generator | None) -> PhantomScan:
    library = phantom_library()
    tumour = list(tissue_labels()).index("tumour")
    if role == "adc":
        values = np.broadcast_to(_tissues("adc"), visit.fractions.shape).copy()
        growth = library["growth"]
        values[tumour] = (
            growth["adc_water"] - (growth["adc_water"] - growth["adc_min"]) * visit.tumour_cellularity
        )
        clean = _mixed(visit, values)
        array = (
            clean
            if draw is None
            else clean * (1 + library["noise"]["adc_cv"] * draw.standard_normal(clean.shape))
        )
        # as a scanner stores it: whole numbers of 1e-6 mm2/s
        return PhantomScan(
            role, np.rint(1e6 * np.maximum(array, 0)).astype(np.int32), 1e6 * clean, "1e-6 mm2/s"
        )
    clean = _mixed(visit, _tissues("activity" if role == "pet" else "ct"))
    if role == "ct":
        noisy = clean if draw is None else clean + 8.0 * draw.standard_normal(clean.shape)
        return PhantomScan(role, np.rint(noisy).astype(np.int32), clean, "HU", {"tube_voltage_kV": 120.0})
    noisy = clean
    if draw is not None:
        noisy = clean + library["noise"]["activity"] * np.sqrt(np.maximum(clean, 0)) * draw.standard_normal(
            clean.shape
        )
    return PhantomScan(role, np.maximum(noisy, 0.0), clean, "Bq/mL")


def _echo(given: dict[str, Any], r1: np.ndarray) -> np.ndarray:
    """Spoiled gradient echo of tissues with these rates (1/s)."""
    flip, tr = np.deg2rad(given["flip_angle_deg"]), given["repetition_time_ms"] / 1e3
    return spoiled_gradient_echo(_tissues("pd"), r1, flip, tr) * np.exp(
        -given["echo_time_ms"] / _tissues("t2")
    )


def _rates() -> np.ndarray:
    return np.asarray(1e3 / _tissues("t1"))


def _t1(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    return _mixed(visit, _echo(given, _rates()))


def _t2(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    full = 1.0 - np.exp(-given["repetition_time_ms"] / _tissues("t1"))
    return _mixed(visit, _tissues("pd") * full * np.exp(-given["echo_time_ms"] / _tissues("t2")))


def _dwi(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    growth = phantom_library()["growth"]
    adc = np.broadcast_to(_tissues("adc"), visit.fractions.shape).copy()
    adc[list(tissue_labels()).index("tumour")] = (
        growth["adc_water"] - (growth["adc_water"] - growth["adc_min"]) * visit.tumour_cellularity
    )
    full = 1.0 - np.exp(-given["repetition_time_ms"] / _tissues("t1"))
    base = _tissues("pd") * full * np.exp(-given["echo_time_ms"] / _tissues("t2"))
    return np.stack([_mixed(visit, base * np.exp(-b * adc)) for b in given["b_values_s_per_mm2"]])


def _vfa(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    angles = given["flip_angles_deg"]
    return np.stack([_mixed(visit, _echo({**given, "flip_angle_deg": a}, _rates())) for a in angles])


def _curves(visit: PhantomVisit, times: np.ndarray, onset: float) -> tuple[np.ndarray, np.ndarray]:
    """Concentration of contrast agent (mM): of the tissues, (L, T), and of the tumour in voxels that hold some, (n, T).

    ``times`` and ``onset`` in minutes.
    """
    cp = np.asarray(plasma(times, onset)).reshape(-1)
    k, e, p = (_tissues(n).ravel() for n in ("ktrans", "ve", "vp"))
    index = list(tissue_labels()).index("tumour")
    there = visit.fractions[index] > 0
    own = extended_tofts(cp, times, visit.tumour_ktrans[there], e[index], p[index])
    return extended_tofts(cp, times, k, e, p), own


def _enhanced(visit: PhantomVisit, given: dict[str, Any], times: np.ndarray, onset: float) -> np.ndarray:
    """Spoiled gradient echoes with contrast agent, shape (T, *grid.shape)."""
    relaxivity = float(phantom_library()["scans"]["dce"]["relaxivity"])
    tissues, own = _curves(visit, times, onset)
    index = list(tissue_labels()).index("tumour")
    there = visit.fractions[index] > 0
    out = np.zeros((len(times), *visit.fractions.shape[1:]))
    part = np.delete(visit.fractions, index, axis=0)
    tumour_pd, tumour_t2 = float(_tissues("pd").ravel()[index]), float(_tissues("t2").ravel()[index])
    flip, tr = np.deg2rad(given["flip_angle_deg"]), given["repetition_time_ms"] / 1e3
    for t in range(len(times)):
        signal = _echo(given, _rates() + relaxivity * tissues[:, t].reshape(-1, 1, 1, 1))
        out[t] = np.tensordot(np.delete(signal.ravel(), index), part, axes=(0, 0))
        rate = float(_rates().ravel()[index]) + relaxivity * own[:, t]
        echo = spoiled_gradient_echo(tumour_pd, rate, flip, tr) * np.exp(-given["echo_time_ms"] / tumour_t2)
        out[t][there] += visit.fractions[index][there] * echo
    return out


def _dce(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    times = np.arange(int(given.pop("frames"))) * float(given.pop("frame_s"))
    onset = float(given.pop("onset_s"))
    given.pop("relaxivity")
    given["frame_times_s"] = [float(t) for t in times]
    return _enhanced(visit, given, times / 60.0, onset / 60.0)


def _t1_post(visit: PhantomVisit, given: dict[str, Any]) -> np.ndarray:
    # five minutes after the injection, as the last of a fine course
    return _enhanced(visit, given, np.linspace(0.0, 5.5, 100), 0.5)[-1]
