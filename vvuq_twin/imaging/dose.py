"""Absorbed dose from time-integrated activity: local deposition, and convolution with a voxel kernel.

The energy of every decay goes somewhere: into the voxels (dose = energy over mass) or out of the image, and both are
reported. The kernel made here from a nuclide's emissions takes the energy deposited between radius r and r + dr to
be ``exp(-r/L)/L dr``: for photons the energy-absorption coefficient's own straight-ahead approximation (build-up
included, L its inverse), for electrons a stated form with its one length from the radius that holds 90 % of the
energy. A published kernel of voxel S values can take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numba
import numpy as np
from scipy import signal

from ..domain.errors import BadInput, near
from ..domain.units import convert

#: J per keV (SI, exact), and s per h.
_KEV, _HOUR = 1.602176634e-16, 3600.0


@dataclass(frozen=True)
class Emission:
    """A kind of radiation: its energy per decay (keV) and the length (mm) of its exponential deposition."""

    name: str
    energy: float
    length: float


@dataclass(frozen=True)
class Nuclide:
    """A radionuclide: physical half-life in h, and what it emits."""

    name: str
    half_life: float
    emissions: tuple[Emission, ...]

    @property
    def energy(self) -> float:
        """Of a decay, keV, everything that is emitted."""
        return sum(e.energy for e in self.emissions)


@cache
def nuclide(name: str = "lutetium177") -> Nuclide:
    """A nuclide of the package's library.

    Raises
    ------
    BadInput
        If there is none of that name with emissions.
    """
    import yaml

    folder = resources.files("vvuq_twin").joinpath("library")
    path = folder.joinpath(f"{name}.yaml")
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "emissions" not in data:
        known = [
            p.name.removesuffix(".yaml") for p in folder.iterdir()
            if p.name.endswith(".yaml") and "emissions:" in p.read_text(encoding="utf-8")
        ]  # fmt: skip
        raise BadInput(f"no emissions of '{name}' are known", "nuclide", near(name, known))

    def value(entry: dict[str, Any], unit: str) -> float:
        return float(convert(float(entry["value"]), entry["unit"], unit))

    emissions = tuple(
        Emission(k, value(e["energy"], "keV"), value(e["length"], "mm")) for k, e in data["emissions"].items()
    )
    return Nuclide(name, value(data["half_life"], "hour"), emissions)


def local_dose(integral: np.ndarray, energy: float, density: np.ndarray | float = 1.0) -> np.ndarray:
    """Dose in Gy if every decay's energy stays in its voxel.

    Parameters
    ----------
    integral : ndarray
        Time-integrated activity concentration, Bq h/mL.
    energy : float
        keV of a decay that stays: the electrons' for beta emitters.
    density : ndarray or float
        g/mL.

    Raises
    ------
    BadInput
        If a density is not positive.
    """
    _check_density(density)
    # Bq h/mL -> decays/mL -> J/mL -> J/kg
    return np.asarray(integral * _HOUR * energy * _KEV / (np.asarray(density) * 1e-3))


def _check_density(density: np.ndarray | float) -> None:
    if not (np.asarray(density) > 0).all():
        raise BadInput("a density is not positive", "absorbed dose", "give g/mL, air included (0.0012)")


@dataclass(frozen=True)
class VoxelKernel:
    """Where the energy of a decay, uniform in a voxel, is deposited.

    Parameters
    ----------
    deposit : ndarray, shape (2p + 1, 2q + 1, 2r + 1)
        keV a decay in the voxel at each offset from the source.
    spacing : tuple of float
        mm.
    outside : float
        keV a decay beyond the kernel's extent.
    source : str
        Where the kernel comes from.
    """

    deposit: np.ndarray
    spacing: tuple[float, float, float]
    outside: float
    source: str

    def s_values(self, density: float = 1.0) -> np.ndarray:
        """Voxel S values in mGy/(MBq s) for a uniform medium of a density in g/mL."""
        mass = float(np.prod(self.spacing)) * 1e-6 * density  # kg
        return np.asarray(self.deposit * _KEV / mass * 1e9)


def make_kernel(
    source: Nuclide,
    spacing: tuple[float, float, float],
    reach: float = 60.0,
    radial: int = 160,
    angular: int = 24,
) -> VoxelKernel:
    """The voxel kernel of a nuclide from its emissions.

    With a source uniform in its voxel, a displacement x falls into the voxel at offset i with the probability
    ``prod_d max(0, 1 - |x_d/h_d - i_d|)``: the deposition is the integral of that over radius (Gauss-Legendre in the
    cumulative energy) and direction (Gauss-Legendre in the polar cosine, equal steps in azimuth). The weights of a
    displacement add up to one, so energy is conserved to round-off whatever the number of points.

    Parameters
    ----------
    source : Nuclide
    spacing : tuple of float
        mm.
    reach : float
        mm from the source that the kernel covers along each axis; what goes beyond is ``outside``.
    radial, angular : int
        Points of the integration.
    """
    extent = tuple(max(int(np.ceil(reach / h)), 1) for h in spacing)
    shape = tuple(2 * n + 1 for n in extent)
    z, wz = np.polynomial.legendre.leggauss(angular)
    phi = (np.arange(2 * angular) + 0.5) * np.pi / angular
    s = np.sqrt(1.0 - z**2)
    unit = np.stack(
        [np.outer(s, np.cos(phi)), np.outer(s, np.sin(phi)), np.outer(z, np.ones_like(phi))], axis=-1
    )
    unit, weight = unit.reshape(-1, 3), np.repeat(wz / 2.0, len(phi)) / len(phi)
    u, wu = np.polynomial.legendre.leggauss(radial)
    cumulative, wu = (u + 1.0) / 2.0, wu / 2.0
    kernel, outside = np.zeros(shape), 0.0
    for emission in source.emissions:
        # the share of the energy beyond three voxels; half of the points lie within them, half beyond
        far = float(np.exp(-3.0 * max(spacing) / emission.length))
        for most, share in ((1.0, 1.0 - far), (far, far)):
            if share < 1e-15:
                continue
            radii = -emission.length * np.log(most - share * cumulative)
            outside += _scatter(
                radii, emission.energy * share * wu, unit, weight, np.asarray(spacing), kernel
            )
    # the medium is isotropic: average what the points leave of asymmetry
    flips = [kernel[::a, ::b, ::c] for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    kernel = np.mean(flips, axis=0)
    return VoxelKernel(
        np.asarray(kernel), spacing, outside,
        f"{source.name}: exponential deposition in radius from the emissions of the package's library",
    )  # fmt: skip


@numba.njit(cache=True)
def _scatter(
    radii: np.ndarray,
    energies: np.ndarray,
    unit: np.ndarray,
    weight: np.ndarray,
    spacing: np.ndarray,
    deposit: np.ndarray,
) -> float:
    """Share the energy at displacements between the voxels around them; the energy that falls outside."""
    lost = 0.0
    base, part, extent = np.zeros(3, np.int64), np.zeros(3), np.zeros(3, np.int64)
    for d in range(3):
        extent[d] = (deposit.shape[d] - 1) // 2
    for r in range(radii.shape[0]):
        for u in range(unit.shape[0]):
            for d in range(3):
                at = radii[r] * unit[u, d] / spacing[d]
                base[d] = int(np.floor(at))
                part[d] = at - base[d]
            for corner in range(8):
                share = energies[r] * weight[u]
                inside = True
                for d in range(3):
                    high = corner >> d & 1
                    share *= part[d] if high else 1.0 - part[d]
                    inside = inside and 0 <= base[d] + high + extent[d] < deposit.shape[d]
                if inside:
                    deposit[
                        base[0] + (corner & 1) + extent[0],
                        base[1] + (corner >> 1 & 1) + extent[1],
                        base[2] + (corner >> 2 & 1) + extent[2],
                    ] += share
                else:
                    lost += share
    return lost


@dataclass(frozen=True)
class AbsorbedDose:
    """A dose map and where the energy went.

    Parameters
    ----------
    dose, error : ndarray, shape (i, j, k)
        Gy; the standard error of the time-integrated activity's own, independent from voxel to voxel, carried over.
    emitted, deposited, escaped : float
        J: in all, in the image's voxels, and beyond the image or the kernel's extent.
    """

    dose: np.ndarray
    error: np.ndarray
    emitted: float
    deposited: float
    escaped: float


def kernel_dose(
    integral: np.ndarray,
    kernel: VoxelKernel,
    spacing: tuple[float, float, float],
    density: np.ndarray | float = 1.0,
    integral_se: np.ndarray | None = None,
) -> AbsorbedDose:
    """Dose by convolution with a voxel kernel; the energy that reaches a voxel is divided by the voxel's own mass.

    Parameters
    ----------
    integral : ndarray, shape (i, j, k)
        Time-integrated activity concentration, Bq h/mL.
    kernel : VoxelKernel
        On voxels of the image's spacing.
    spacing : tuple of float
        Of the image, mm.
    density : ndarray, shape (i, j, k), or float
        g/mL. The kernel itself is that of water.
    integral_se : ndarray, shape (i, j, k), optional

    Raises
    ------
    BadInput
        If the kernel's voxels are not the image's, a value is missing or a density not positive.
    """
    if not np.allclose(kernel.spacing, spacing, rtol=1e-3):
        raise BadInput(
            f"the kernel is for voxels of {_sizes(kernel.spacing)} mm, the image has {_sizes(spacing)} mm", "dose kernel",
            "make the kernel for the image's spacing, or resample the image",
        )  # fmt: skip
    if not np.isfinite(integral).all():
        raise BadInput(
            "the time-integrated activity is missing in some voxels",
            "dose kernel",
            "set them to 0 or fill them",
        )
    _check_density(density)
    volume = float(np.prod(spacing)) * 1e-3  # mL
    decays = integral * _HOUR * volume
    deposited = signal.oaconvolve(decays, kernel.deposit, mode="same") * _KEV
    # FFT leaves round-off below zero where nothing reaches
    deposited = np.maximum(deposited, 0.0) if (integral >= 0).all() else deposited
    mass = np.asarray(density) * volume * 1e-3  # kg
    error = np.zeros(integral.shape)
    if integral_se is not None:
        variance = signal.oaconvolve((integral_se * _HOUR * volume) ** 2, kernel.deposit**2, mode="same")
        error = np.sqrt(np.maximum(variance, 0.0)) * _KEV / mass
    emitted = float(decays.sum()) * (float(kernel.deposit.sum()) + kernel.outside) * _KEV
    stays = float(deposited.sum())
    return AbsorbedDose(deposited / mass, error, emitted, stays, emitted - stays)


def _sizes(spacing: tuple[float, ...]) -> str:
    return "x".join(f"{s:g}" for s in spacing)
