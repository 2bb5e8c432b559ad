"""A small export of known values, to be written in either layout and broken one fault at a time."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np

from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.dicom.encode import Layout, SeriesFacts, Study, Vendor, write_series

_A, _B = 0.3, -0.2
_TURN = np.array([[np.cos(_A), -np.sin(_A), 0], [np.sin(_A), np.cos(_A), 0], [0, 0, 1]]) @ np.array(
    [[1, 0, 0], [0, np.cos(_B), -np.sin(_B)], [0, np.sin(_B), np.cos(_B)]]
)
#: Oblique, with voxels of three sizes.
GRID = Grid((14, 12, 5), (1.1, 1.3, 3.0), (-10.0, 5.0, 7.0), tuple(float(x) for x in _TURN.ravel()))
START = dt.datetime(2021, 5, 6, 9, 30)
NAMES: dict[str, Any] = {
    "PatientName": "Doe^Jonathan", "PatientID": "MRN-4711", "PatientBirthDate": "19500203", "PatientSex": "M",
    "InstitutionName": "St Elsewhere", "ReferringPhysicianName": "House^Gregory", "AccessionNumber": "ACC-1234",
    "PatientWeight": 70.0, "DeviceSerialNumber": "SN-999",
}  # fmt: skip
DYNAMIC = {"repetition_time_ms": 4.0, "echo_time_ms": 1.5, "flip_angle_deg": 15.0}
TIMES = [0.0, 4.5, 9.0, 13.5, 20.25, 27.0]


def study(visit: int = 0, days: int = 0, **names: Any) -> Study:
    uid = f"1.2.826.0.1.3680043.8.498.{visit + 1}"
    return Study(uid, START + dt.timedelta(days=days), f"{uid}.99", {**NAMES, **names})


def truth(visit: int = 0, grid: Grid = GRID) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(visit))
    return {
        "t1": rng.integers(0, 1500, grid.shape),
        "dce": rng.integers(0, 1500, (len(TIMES), *grid.shape)),
        "dwi": rng.integers(0, 1500, (3, *grid.shape)),
        "adc": rng.uniform(200.0, 3000.0, grid.shape),
    }


def facts(name: str) -> SeriesFacts:
    spin = {"repetition_time_ms": 4000.0, "echo_time_ms": 80.0}
    return {
        "t1": SeriesFacts(1, "MR", "T1", common={"repetition_time_ms": 500.0, "echo_time_ms": 10.0, "flip_angle_deg": 70.0}),
        "dce": SeriesFacts(2, "MR", "dynamic", common=DYNAMIC, volumes=[{"time_s": t} for t in TIMES], start_s=300.0),
        "dwi": SeriesFacts(3, "MR", "dwi", common=spin, volumes=[{"b_value_s_per_mm2": b} for b in (0.0, 400.0, 800.0)]),
        "adc": SeriesFacts(4, "MR", "map", component="ADC", unit="1e-6 mm2/s", common=spin),
    }[name]  # fmt: skip


def write_visit(
    folder: Path, visit: int = 0, days: int = 0, layout: Layout = "classic", vendor: Vendor = "standard"
) -> dict[str, np.ndarray]:
    """All four series of a visit; their true values."""
    values = truth(visit)
    for name, array in values.items():
        write_series(folder / f"v{visit}", array, GRID, study(visit, days), facts(name), layout, vendor)
    return values
