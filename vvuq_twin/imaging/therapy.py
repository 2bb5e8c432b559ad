"""Absorbed dose of a radionuclide therapy from a patient's SPECT or PET scans after the administration."""

from __future__ import annotations

import numpy as np

from ..domain.errors import BadInput
from ..domain.grid import Grid
from ..domain.patient import DrugDose, Patient, Visit
from ..domain.units import registry
from ..kinetics.activity import fit_activity
from .dose import kernel_dose, local_dose, make_kernel, nuclide
from .noise import voxel_noise
from .perfusion_maps import QuantityMap
from .visit import read_map, require_grid

Found = tuple[str, Grid, QuantityMap, dict[str, float | str]]


def dose_maps(patient: Patient, source: str, notes: list[str]) -> list[Found]:
    """Time-integrated activity and absorbed dose of the first administration that two scans or more follow.

    Time-activity curves get one exponential for two or three scans, two for more, weighted by the scans' own noise;
    rates are at least that of decay. Voxels below 1 % of the largest activity are taken as empty. Density 1 g/mL.

    Parameters
    ----------
    patient : Patient
        With scans of role ``spect`` in Bq/mL (as they were at their time) on one grid, and a dose in MBq or GBq.
    source : str
        Nuclide of the package's library.
    notes : list of str
        What was left out is added here.

    Raises
    ------
    BadInput
        If the scans are on different grids or in another unit.
    """
    scans = [v for v in patient.visits if "spect" in v.images]
    if len(scans) < 2:
        return []
    given = [d for d in patient.doses if _is_activity(d)]
    start = next((d for d in given if sum(v.day > d.day for v in scans) >= 2), None)
    if start is None:
        notes.append(
            "There are spect scans but no administered activity (MBq) that two of them follow: no dose."
        )
        return []
    following = _cycle(scans, given, start)
    first = following[0].image("spect")
    arrays, grid = [], None
    for visit in following:
        array, own, unit = read_map(visit.image("spect"))
        if unit != "Bq/mL":
            raise BadInput(
                f"the spect image is in {unit}", visit.image("spect").field, "give Bq/mL at its time"
            )
        if grid is None:
            grid = own
        require_grid(own, grid, "the spect image", visit.image("spect").field)
        if (array < 0).any() or not np.isfinite(array).all():
            raise BadInput(
                "the spect image holds negative or missing activity", visit.image("spect").field, "mend it"
            )
        arrays.append(array)
    assert grid is not None
    series = np.stack(arrays)
    body = series.max(axis=0) > 0.01 * series.max()
    times = np.array([(v.day - start.day) * 24.0 for v in following])
    noise = np.array([max(voxel_noise(a, body, grid.spacing).sd, 1e-12 * series.max()) for a in series])
    kind = nuclide(source)
    fit = fit_activity(
        series[:, body].T, times, kind.half_life, exponentials=1 if len(times) < 4 else 2, sd=noise[None, :]
    )
    integral, error = np.zeros(grid.shape), np.zeros(grid.shape)
    integral[body] = fit.integral
    error[body] = np.where(np.isfinite(fit.integral_se), fit.integral_se, fit.integral)
    kernel = make_kernel(kind, grid.spacing)
    dose = kernel_dose(integral, kernel, grid.spacing, integral_se=error)
    electrons = kind.emissions[0].energy
    numbers: dict[str, float | str] = {
        "scans": float(len(times)), "first_h": float(times[0]), "last_h": float(times[-1]),
        "tail_share_median": float(np.nanmedian(fit.tail)), "dose_maximum_Gy": float(dose.dose.max()),
        "local_dose_maximum_Gy": float(local_dose(integral, electrons).max()), "emitted_J": dose.emitted,
        "escaped_J": dose.escaped, "kernel": kernel.source, "of": first.role.name,
    }  # fmt: skip
    maps = (
        ("integrated_activity", QuantityMap(integral, error, "Bq hour/mL")),
        ("dose", QuantityMap(dose.dose, dose.error, "Gy")),
        ("dose_local", QuantityMap(local_dose(integral, electrons), local_dose(error, electrons), "Gy")),
    )
    return [(name, grid, one, {"dose": numbers} if name == "dose" else {}) for name, one in maps]  # type: ignore[dict-item]


def _is_activity(dose: DrugDose) -> bool:
    try:
        return bool(registry().Quantity(1.0, dose.unit).check("1/[time]"))
    except Exception:  # a unit of another kind, or none that is known: not an activity
        return False


def _cycle(scans: list[Visit], given: list[DrugDose], start: DrugDose) -> list[Visit]:
    """Scans after an administration and before the next one."""
    later = [d.day for d in given if d.day > start.day]
    return [v for v in scans if v.day > start.day and (not later or v.day <= min(later))]
