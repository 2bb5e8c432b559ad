"""Results as DICOM objects: masks as segmentations, maps as parametric maps, absorbed dose as RT dose."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from ...domain.files import write_with
from ...domain.grid import Grid
from ..resample import voxel_to_world

_MAKER, _MODEL = "vvuq_twin", "vvuq_twin"
#: SNOMED CT codes of what a mask is, by role: category, type.
_TUMOUR = (("49755003", "Morphologically Altered Structure"), ("108369006", "Neoplasm"))
_KINDS = {
    "tumour": _TUMOUR,
    "necrosis": (("49755003", "Morphologically Altered Structure"), ("6574001", "Necrosis")),
    "brain": (("123037004", "Anatomical Structure"), ("12738006", "Brain")),
}
_ORGAN = (("123037004", "Anatomical Structure"), ("113343008", "Organ"))
#: UCUM codes of units.
_UCUM = {"mm2/s": "mm2/s", "1/min": "/min", "Bq/mL": "Bq/ml", "SUV": "{SUVbw}g/ml", "HU": "[hnsf'U]", "ms": "ms",
         "Gy": "Gy", "1": "1", "kelvin": "K"}  # fmt: skip


def read_sources(files: Sequence[Path]) -> list[Any]:
    """The headers of the images that results belong to: whose patient, study and frame of reference they take."""
    import pydicom

    return [pydicom.dcmread(f) for f in files]


def _volume(array: np.ndarray, grid: Grid, sources: Sequence[Any]) -> Any:
    """``[i, j, k]`` as highdicom has it: slices, rows, columns."""
    import highdicom as hd

    world = voxel_to_world(grid)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = world[:3, [2, 1, 0]], world[:3, 3]
    return hd.Volume(
        np.ascontiguousarray(array.transpose(2, 1, 0, *range(3, array.ndim))), matrix,
        coordinate_system="PATIENT", frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, array.shape[3] + 1))} if array.ndim == 4 else None,
    )  # fmt: skip


def _identity() -> dict[str, Any]:
    import highdicom as hd

    from ... import __version__

    return {
        "series_instance_uid": hd.UID(), "sop_instance_uid": hd.UID(), "instance_number": 1, "manufacturer": _MAKER,
        "manufacturer_model_name": _MODEL, "software_versions": __version__, "device_serial_number": "1",
    }  # fmt: skip


def write_segmentation(
    path: Path, masks: Mapping[str, np.ndarray], grid: Grid, sources: Sequence[Any], number: int = 100
) -> Path:
    """Write masks as one binary segmentation object.

    Parameters
    ----------
    path : Path
    masks : mapping of role to ndarray of bool, shape grid.shape
    grid : Grid
    sources : sequence of pydicom.Dataset
        Images of the visit.
    number : int
        Of the series.

    Raises
    ------
    BadInput
        If every mask is empty, or the file cannot be written.
    """
    import highdicom as hd

    shown = {name: mask for name, mask in masks.items() if mask.any()}
    if not shown:
        raise BadInput("every mask is empty: there is nothing to write", str(path))
    described = [_segment(n + 1, name) for n, name in enumerate(shown)]
    pixels = np.stack([np.asarray(m, dtype=np.uint8) for m in shown.values()], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = hd.seg.Segmentation(
            source_images=sources, pixel_array=_volume(pixels, grid, sources), segmentation_type="BINARY",
            segment_descriptions=described, series_number=number, **_identity(),
        )  # fmt: skip
    return write_with(path, lambda p: seg.save_as(p))


def _segment(number: int, role: str) -> Any:
    import highdicom as hd
    from pydicom.sr.coding import Code

    category, kind = _KINDS.get(role, _ORGAN)
    return hd.seg.SegmentDescription(
        segment_number=number, segment_label=role, segmented_property_category=Code(category[0], "SCT", category[1]),
        segmented_property_type=Code(kind[0], "SCT", kind[1]), algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="vvuq_twin", version="1", family=Code("123110", "DCM", "Artificial Intelligence")
        ),
    )  # fmt: skip


def write_map(
    path: Path, array: np.ndarray, grid: Grid, name: str, unit: str, sources: Sequence[Any], number: int = 200
) -> Path:
    """Write a map as a parametric map of 64-bit values with their unit; NaN stays NaN.

    Raises
    ------
    BadInput
        If the unit has no code, or the file cannot be written.
    """
    import highdicom as hd
    from pydicom.sr.coding import Code

    if unit not in _UCUM:
        raise BadInput(
            f"the unit '{unit}' has no code for DICOM", str(path), "use one of " + ", ".join(_UCUM)
        )
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    mapping = hd.pm.RealWorldValueMapping(
        lut_label=name[:16], lut_explanation=name[:64], unit=Code(_UCUM[unit], "UCUM", unit),
        value_range=(low, high if high > low else low + 1.0), slope=1.0, intercept=0.0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = hd.pm.ParametricMap(
            source_images=sources, pixel_array=_volume(array.astype(np.float64), grid, sources), series_number=number,
            contains_recognizable_visual_features=False, real_world_value_mappings=[mapping],
            window_center=(low + high) / 2, window_width=max(high - low, 1e-12), **_identity(),
        )  # fmt: skip
    made.SeriesDescription = name
    return write_with(path, lambda p: made.save_as(p))


def write_dose(path: Path, dose: np.ndarray, grid: Grid, sources: Sequence[Any], number: int = 300) -> Path:
    """Write an absorbed dose in Gy as RT dose: 32-bit values, one scale, slices along the first image's normal.

    Raises
    ------
    BadInput
        If a value is negative or not finite, or the file cannot be written.
    """
    import highdicom as hd
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    if not np.isfinite(dose).all() or (dose < 0).any():
        raise BadInput("a dose is negative or not finite", str(path), "mend the map before it is exported")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.481.2")
    meta.MediaStorageSOPInstanceUID = hd.UID()
    meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    source = sources[0]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
                    "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID"):  # fmt: skip
        setattr(ds, keyword, source.get(keyword, ""))
    ds.PositionReferenceIndicator = ""
    ds.Modality, ds.Manufacturer = "RTDOSE", _MAKER
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = hd.UID(), number, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 32, 32, 31, 0
    ds.Columns, ds.Rows, ds.NumberOfFrames = grid.shape
    direction = np.array(grid.direction).reshape(3, 3)
    ds.ImagePositionPatient = [float(f"{v:.9g}") for v in grid.origin]
    ds.ImageOrientationPatient = [float(f"{v:.9g}") for v in (*direction[:, 0], *direction[:, 1])]
    ds.PixelSpacing = [float(f"{grid.spacing[1]:.9g}"), float(f"{grid.spacing[0]:.9g}")]
    ds.SliceThickness = float(f"{grid.spacing[2]:.9g}")
    normal = np.cross(direction[:, 0], direction[:, 1])
    sign = float(np.sign(normal @ direction[:, 2]))
    ds.GridFrameOffsetVector = [float(f"{sign * k * grid.spacing[2]:.9g}") for k in range(grid.shape[2])]
    ds.FrameIncrementPointer = 0x3004000C
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType = "GY", "PHYSICAL", "PLAN"
    scale = float(f"{max(float(dose.max()), 1e-9) / (2**32 - 1):.9e}") * (1 + 1e-9)
    ds.DoseGridScaling = float(f"{scale:.9e}")
    stored = np.clip(np.rint(dose / ds.DoseGridScaling), 0, 2**32 - 1).astype(np.uint32)
    ds.PixelData = np.ascontiguousarray(stored.transpose(2, 1, 0)).tobytes()
    return write_with(path, lambda p: ds.save_as(p, enforce_file_format=True))
