"""Outlines that came with an export: segmentation objects and radiotherapy structure sets, as masks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from ...domain.grid import Grid
from ..resample import resample, voxel_to_world

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
#: Roles by words of a label or a code's meaning, the first that fits; what fits none is left out.
_WORDS = (
    ("necrosis", r"necro"),
    ("tumour", r"\bgtv|tumou?r|neoplasm|lesion|metasta|carcinom|gliom"),
    ("brain", r"\bbrain\b(?!.?stem)"),
    *((f"organ_{o}", rf"\b{o}") for o in ("liver", "prostate", "breast", "kidney", "lung", "spleen", "pancreas", "bladder")),
)  # fmt: skip
# a contour's points may lie this far off their slice, in slices
_OFF = 0.2


@dataclass(frozen=True)
class Outline:
    """A mask to be.

    Parameters
    ----------
    role : str
        "" if its label says nothing that is known.
    number : int
        Series number of the object.
    refers : frozenset of str
        UIDs of the series it was drawn on.
    study : str
    draw : callable
        ``draw(grid)`` gives the mask on a grid.
    """

    role: str
    number: int
    refers: frozenset[str]
    study: str
    draw: Callable[[Grid], np.ndarray]


def read_outlines(path: Path) -> list[Outline]:
    """The outlines of a segmentation object or a structure set.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            segmented = str(dataset.SOPClassUID) == SEGMENTATION
            return _segments(dataset, path) if segmented else _structures(dataset, path)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            "the outlines in this DICOM file cannot be read", str(path),
            "export them again, or take the file out of the folder",
        ) from error  # fmt: skip


def _role(*texts: Any) -> str:
    text = " ".join(str(t or "") for t in texts).lower().replace("_", " ")
    return next((role for role, pattern in _WORDS if re.search(pattern, text)), "")


def _segments(dataset: Any, path: Path) -> list[Outline]:
    import highdicom as hd

    seg = hd.seg.Segmentation.from_dataset(dataset, copy=False)
    refers = frozenset(str(i.SeriesInstanceUID) for i in dataset.get("ReferencedSeriesSequence", []))
    found = []
    for number in seg.segment_numbers:
        about = seg.get_segment_description(number)
        role = _role(about.segment_label, about.segmented_property_type.meaning)
        volume = seg.get_volume(segment_numbers=[number])
        array = np.asarray(volume.array)[..., 0].transpose(2, 1, 0) > 0.5
        matrix = volume.affine[:3, [2, 1, 0]]
        spacing = np.linalg.norm(matrix, axis=0)
        sx, sy, sz = (float(v) for v in spacing)
        x, y, z = (float(v) for v in volume.affine[:3, 3])
        turn = tuple(float(c) for c in (matrix / spacing).ravel())
        grid = Grid(array.shape, (sx, sy, sz), (x, y, z), turn)
        draw = _sampler(array, grid, path)
        found.append(
            Outline(role, int(dataset.get("SeriesNumber") or 0), refers, str(dataset.StudyInstanceUID), draw)
        )
    return found


def _sampler(array: np.ndarray, own: Grid, path: Path) -> Callable[[Grid], np.ndarray]:
    def draw(grid: Grid) -> np.ndarray:
        mask = resample(array, own, grid, "nearest", 0).astype(bool)
        _inside(bool(mask.any()) or not array.any(), path)
        return mask

    return draw


def _inside(fits: bool, path: Path) -> None:
    if not fits:
        raise BadInput(
            "the outline lies outside the images of its visit", str(path),
            "it was drawn on another visit's or another patient's: take it out of the folder",
        )  # fmt: skip


def _structures(dataset: Any, path: Path) -> list[Outline]:
    refers = {
        str(series.SeriesInstanceUID)
        for frame in dataset.get("ReferencedFrameOfReferenceSequence", [])
        for study in frame.get("RTReferencedStudySequence", [])
        for series in study.get("RTReferencedSeriesSequence", [])
    }
    names = {
        int(r.ROINumber): str(r.get("ROIName") or "") for r in dataset.get("StructureSetROISequence", [])
    }
    kinds = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType") or "")
        for o in dataset.get("RTROIObservationsSequence", [])
    }
    found = []
    for roi in dataset.get("ROIContourSequence", []):
        number = int(roi.ReferencedROINumber)
        contours = [
            np.array([float(v) for v in c.ContourData]).reshape(-1, 3)
            for c in roi.get("ContourSequence", [])
            if str(c.get("ContourGeometricType")) == "CLOSED_PLANAR"
        ]
        if not contours:
            continue
        role = _role(names.get(number), "tumour" if kinds.get(number) == "GTV" else "")
        found.append(
            Outline(
                role, int(dataset.get("SeriesNumber") or 0), frozenset(refers), str(dataset.StudyInstanceUID),
                _filler(contours, path),
            )
        )  # fmt: skip
    return found


def _filler(contours: list[np.ndarray], path: Path) -> Callable[[Grid], np.ndarray]:
    def draw(grid: Grid) -> np.ndarray:
        return fill(contours, grid, path)

    return draw


def fill(contours: list[np.ndarray], grid: Grid, path: Path) -> np.ndarray:
    """Voxels whose centres lie inside closed contours; contours of one slice cut holes into each other.

    Parameters
    ----------
    contours : list of ndarray, shape (n, 3)
        mm (LPS), each in one slice of the grid.
    grid : Grid
    path : Path
        For messages.

    Raises
    ------
    BadInput
        If a contour lies outside the grid, or between or across its slices.
    """
    from skimage.draw import polygon

    matrix = np.linalg.inv(voxel_to_world(grid))
    mask = np.zeros(grid.shape, dtype=bool)
    for points in contours:
        at = points @ matrix[:3, :3].T + matrix[:3, 3]
        k = int(np.round(at[:, 2].mean()))
        if np.abs(at[:, 2] - k).max() > _OFF:
            raise BadInput(
                "a contour does not lie in a slice of the images of its visit", str(path),
                "it was drawn on other images: export these too, or take the outlines out of the folder",
            )  # fmt: skip
        _inside(0 <= k < grid.shape[2], path)
        inside = np.zeros(grid.shape[:2], dtype=bool)
        inside[polygon(at[:, 0], at[:, 1], grid.shape[:2])] = True
        mask[:, :, k] ^= inside
    _inside(bool(mask.any()), path)
    return mask
