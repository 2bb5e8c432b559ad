"""A small patient folder that has nothing wrong with it, to be broken one fault at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.write import write_image

Edit = Callable[[dict[str, Any]], Any]

SMALL = Grid((12, 11, 6), (1.5, 1.5, 3.0), (-9.0, 4.0, 20.0))


class PatientFolder:
    """A patient folder under construction: change ``data`` or an image, then ``write()``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grid = SMALL
        rng = np.random.Generator(np.random.Philox(3))
        i, j, k = np.indices(SMALL.shape)
        self.tumour = (i - 5) ** 2 + (j - 5) ** 2 + 4 * (k - 3) ** 2 <= 12
        self.brain = np.ones(SMALL.shape, dtype=bool)
        self.adc = np.where(self.tumour, 1.2e-3, 0.8e-3) + 3e-5 * rng.standard_normal(SMALL.shape)
        self.tissue = np.where(i < 6, 1, 2)
        for name in ("v1", "v2"):
            self.image(f"{name}-adc.nii.gz", self.adc)
            self.image(f"{name}-tumour.nii.gz", self.tumour)
        self.image("brain.nii.gz", self.brain)
        self.image("tissue.nii.gz", self.tissue)
        self.image("ktrans.nii.gz", np.full(SMALL.shape, 0.2))
        self.image("ve.nii.gz", np.full(SMALL.shape, 0.3))
        first: dict[str, Any] = {
            "adc": {"file": "v1-adc.nii.gz", "unit": "mm2/s"},
            "tumour": {"file": "v1-tumour.nii.gz"},
            "ktrans": {"file": "ktrans.nii.gz", "unit": "1/min"},
            "ve": {"file": "ve.nii.gz", "unit": "1"},
        }
        second: dict[str, Any] = {
            "adc": {"file": "v2-adc.nii.gz", "unit": "mm2/s"},
            "tumour": {"file": "v2-tumour.nii.gz"},
        }
        self.data: dict[str, Any] = {
            "id": "p-001",
            "brain": {"file": "brain.nii.gz"},
            "tissue": {"file": "tissue.nii.gz", "labels": {1: "grey", 2: "white"}},
            "visits": [{"id": "v1", "day": 0, "images": first}, {"id": "v2", "day": 21, "images": second}],
            "treatments": [
                {
                    "kind": "radiation",
                    "dose": 2.0,
                    "unit": "Gy",
                    "day": 3,
                    "repeat": {"every": 1, "count": 5},
                },
                {
                    "kind": "drug",
                    "agent": "temozolomide",
                    "amount": 75,
                    "unit": "mg/m2",
                    "route": "oral",
                    "day": 3,
                },
            ],
        }
        self.write()

    def image(self, name: str, array: np.ndarray, grid: Grid | None = None) -> None:
        write_image(self.folder / name, array, grid or self.grid)

    def write(self) -> None:
        (self.folder / "patient.yaml").write_text(yaml.safe_dump(self.data, sort_keys=False))


@pytest.fixture
def patient_folder(tmp_path: Path) -> PatientFolder:
    return PatientFolder(tmp_path)
