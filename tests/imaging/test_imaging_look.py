"""The pages of pictures: one a visit, on axes along the patient's, with outlines, colour bars and units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.domain.patient import load_patient
from vvuq_twin.imaging.look import _page, look_at
from vvuq_twin.imaging.write import write_image


def test_each_visit_gets_a_page(patient_folder: Any) -> None:
    pages = look_at(patient_folder.folder)
    assert [p.name for p in pages] == ["v1.png", "v2.png"]
    for page in pages:
        picture = imread(page)
        assert picture.shape[1] > 1000 and picture.std() > 0.1
        assert page.parent == patient_folder.folder / "look"


def test_a_page_says_what_it_shows(patient_folder: Any) -> None:
    patient = load_patient(patient_folder.folder)
    figure = _page(patient, patient.visits[0])
    words = [t.get_text() for t in figure.findobj(Text)]
    for said in ("adc, mm2/s", "ktrans, 1/min", "ve", "R", "L", "A", "P", "S", "I"):
        assert said in words, said
    assert any("outlines: tumour, brain" in w for w in words) and any(w.startswith("axial, S") for w in words)
    # three planes and a colour bar for each of the three maps
    assert len(figure.axes) == 12


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_right_is_on_the_left_whatever_the_files_axes(patient_folder: Any, flip: tuple[int, ...]) -> None:
    """A bright block at the patient's right, front and top is drawn at the left and top of the planes."""
    shape, h = (20, 24, 16), 2.0
    world = np.indices(shape) * h  # LPS, from the right front bottom corner
    bright = (world[0] < 12) & (world[1] < 14) & (world[2] > 18)
    turn = np.diag([float(f) for f in flip])
    stored = bright[:: flip[0], :: flip[1], :: flip[2]]
    origin = tuple(0.0 if f > 0 else (n - 1) * h for f, n in zip(flip, shape))
    grid = Grid(shape, (h, h, h), origin, tuple(turn.ravel()))  # type: ignore[arg-type]
    folder = patient_folder.folder
    for name in ("v1-adc.nii.gz", "v2-adc.nii.gz"):
        write_image(folder / name, np.where(stored, 2e-3, 1e-3), grid)
    for visit in patient_folder.data["visits"]:
        visit["images"] = {"adc": visit["images"]["adc"]}
    del patient_folder.data["tissue"], patient_folder.data["brain"]
    patient_folder.write()
    patient = load_patient(folder)
    figure = _page(patient, patient.visits[0])
    axial, coronal, sagittal = (list(ax.get_images())[-1].get_array() for ax in figure.axes[:3])
    for plane, corner in ((axial, (0, 0)), (coronal, (0, 0)), (sagittal, (0, 0))):
        rows, columns = plane.shape
        quarters = {
            (r, c): float(np.ma.mean(plane[r * (rows - rows // 4) :][: rows // 4, c * (columns - columns // 4) :][:, : columns // 4]))
            for r in (0, 1) for c in (0, 1)
        }  # fmt: skip
        assert max(quarters.values()) > 1.3e-3 and max(quarters, key=lambda q: quarters[q]) == corner


def test_a_patient_without_images_is_refused(patient_folder: Any, tmp_path: Path) -> None:
    for visit in patient_folder.data["visits"]:
        visit["images"] = {}
    patient_folder.write()
    with pytest.raises(BadInput, match="no visit has an image"):
        look_at(patient_folder.folder, tmp_path / "out")
