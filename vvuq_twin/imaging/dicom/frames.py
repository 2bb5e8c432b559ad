"""Every image plane of a file as a frame with its place in the patient and the facts of its acquisition."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from .facts import Header, as_number, b_value, common_places, diffusion_direction, scale_slope, started, times

#: Facts that may differ between the volumes of one series: name in the patient file and where DICOM has it.
_NUMBERS = {
    "repetition_time_ms": ("RepetitionTime",),
    "echo_time_ms": ("EffectiveEchoTime", "EchoTime"),
    "inversion_time_ms": ("InversionTime", "InversionTimes"),
    "flip_angle_deg": ("FlipAngle",),
    "field_strength_T": ("MagneticFieldStrength",),
    "frame_duration_ms": ("ActualFrameDuration", "FrameAcquisitionDuration"),
    "tube_voltage_kV": ("KVP",),
}


@dataclass(frozen=True)
class Frame:
    """One plane.

    Parameters
    ----------
    path : Path
    number : int
        Which frame of the file, from 0.
    shape : tuple of int
        Columns, rows.
    spacing : tuple of float
        Along a row and along a column, mm.
    origin : ndarray, shape (3,), or None
        Centre of the first pixel in mm (LPS); None if the file does not say.
    axes : ndarray, shape (2, 3), or None
        Directions along a row and along a column.
    slope, intercept : float
        Value = slope x stored + intercept.
    scale_slope : float or None
        Philips' own.
    real : tuple, optional
        Slope, intercept and unit (UCUM) of the real-world value, where the file declares one.
    facts : mapping of str to float
    times : mapping of str to float
        Candidates for the frame's time, seconds.
    direction : tuple of float, optional
        Of a diffusion gradient.
    instance : int
        Number within the series.
    kind : str
        The frame's image type, as one word ("ORIGINAL/PRIMARY/M").
    began : datetime or None
    thickness : float or None
        mm.
    """

    path: Path
    number: int
    shape: tuple[int, int]
    spacing: tuple[float, float]
    origin: np.ndarray | None
    axes: np.ndarray | None
    slope: float
    intercept: float
    scale_slope: float | None
    real: tuple[float, float, str] | None
    facts: Mapping[str, float]
    times: Mapping[str, float]
    direction: tuple[float, ...] | None
    instance: int
    kind: str
    began: dt.datetime | None
    thickness: float | None


@dataclass
class Series:
    """The frames of one series, and what its files say of it as a whole.

    Parameters
    ----------
    uid : str
    number : int
    modality : str
    description : str
        Free text of the scanner; it may name a person, so it never leaves the importer's table.
    study : str
        UID of the study.
    patient : str
        What the files call the patient.
    sop_class : str
    first : Header
        Of the first frame read, pixels left out.
    """

    uid: str
    number: int
    modality: str
    description: str
    study: str
    patient: str
    sop_class: str
    first: Header
    frames: list[Frame] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def series_of(dataset: Any) -> Series:
    """An empty series as a file's header describes it."""
    header = Header(dataset)
    return Series(
        str(dataset.get("SeriesInstanceUID") or ""), int(header.number("SeriesNumber") or 0),
        str(dataset.get("Modality") or ""),
        " ".join(str(dataset.get(k) or "") for k in ("SeriesDescription", "ProtocolName")).strip(),
        str(dataset.get("StudyInstanceUID") or ""),
        "|".join(str(dataset.get(k) or "").strip() for k in ("PatientID", "PatientName")),
        str(dataset.get("SOPClassUID") or ""), header,
    )  # fmt: skip


def frames_of(dataset: Any, path: Path) -> list[Frame]:
    """The frames of one file, classic (one) or multi-frame.

    Raises
    ------
    BadInput
        If it holds no grey image, or its size is missing.
    """
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise BadInput("the file holds no grey image", str(path))
    count = int(dataset.get("NumberOfFrames") or 1)
    common, offsets = common_places(dataset), _offsets(dataset, count)
    size = (int(columns), int(rows))
    return [_frame(Header(dataset, n, common), path, n, size, offsets) for n in range(count)]


def _offsets(dataset: Any, count: int) -> np.ndarray | None:
    """Places of frames along the normal in mm, where an object gives the first frame's place alone.

    RT dose lists them; a reconstructed nuclear medicine volume has a spacing and a slice number a frame.
    """
    if dataset.get("GridFrameOffsetVector") is not None:
        listed = np.array([float(v) for v in dataset.GridFrameOffsetVector])
        return listed - listed[0] if len(listed) == count else None
    spacing = dataset.get("SpacingBetweenSlices")
    if dataset.get("Modality") == "NM" and "TOMO" in str(dataset.get("ImageType")).upper() and spacing:
        slices = dataset.get("SliceVector")
        at = np.arange(count) if slices is None else np.array([int(v) - 1 for v in slices])
        return float(spacing) * at if len(at) == count else None
    return None


def _frame(
    header: Header, path: Path, number: int, shape: tuple[int, int], offsets: np.ndarray | None
) -> Frame:
    origin, cosines = (
        _vector(_placed(header, k), n)
        for k, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6))
    )
    if offsets is not None and origin is not None and cosines is not None:
        origin = origin + offsets[number] * np.cross(cosines[:3], cosines[3:])
    spacing = _vector(header.get("PixelSpacing"), 2)
    if spacing is None:
        spacing = _vector(header.get("ImagerPixelSpacing"), 2)
    down, along = (1.0, 1.0) if spacing is None else (float(spacing[0]), float(spacing[1]))
    facts = {}
    for name, keywords in _NUMBERS.items():
        value = next((v for k in keywords if (v := header.number(k)) is not None), None)
        if value is not None:
            facts[name] = value
    b = b_value(header)
    if b is not None:
        facts["b_value_s_per_mm2"] = b
    kind = header.get("FrameType") or header.get("ImageType") or ()
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope is None:
        slope = header.number("DoseGridScaling")
    return Frame(
        path, number, shape, (along, down), origin, None if cosines is None else _unit(cosines.reshape(2, 3)),
        1.0 if slope is None else slope, intercept or 0.0, scale_slope(header), _real(header), facts, times(header),
        diffusion_direction(header), int(header.number("InstanceNumber") or 0),
        "/".join([kind] if isinstance(kind, str) else [str(k) for k in kind]), started(header),
        header.number("SliceThickness"),
    )  # fmt: skip


def _placed(header: Header, keyword: str) -> Any:
    found = header.get(keyword)
    detectors = header.get("DetectorInformationSequence") if found is None else None
    return detectors[0].get(keyword) if detectors else found


def _real(header: Header) -> tuple[float, float, str] | None:
    """The linear real-world value of the frame; parametric maps have a unit and values as they are."""
    mappings = header.get("RealWorldValueMappingSequence")
    if not mappings:
        return None
    item = mappings[0]
    codes = item.get("MeasurementUnitsCodeSequence")
    slope, intercept = (as_number(item.get(f"RealWorldValue{k}")) for k in ("Slope", "Intercept"))
    if slope is None or not codes:
        return None
    return slope, intercept or 0.0, str(codes[0].get("CodeValue", ""))


def _unit(axes: np.ndarray) -> np.ndarray | None:
    length = np.linalg.norm(axes, axis=1, keepdims=True)
    return axes / length if (length > 1e-6).all() else None


def _vector(value: Any, size: int) -> np.ndarray | None:
    try:
        found = np.array([float(v) for v in value])
    except (TypeError, ValueError):
        return None
    return found if found.shape == (size,) and np.isfinite(found).all() else None
