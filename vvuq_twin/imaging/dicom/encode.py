"""Volumes as DICOM series: one file a slice (classic) or one file a series (enhanced), as a vendor would.

What a scanner writes, for phantoms and for sources of derived objects; the values are 16-bit with a scale.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...domain.files import write_with
from ...domain.grid import Grid

Layout = Literal["classic", "enhanced"]
Vendor = Literal["standard", "Siemens", "GE", "Philips"]

_CLASSES = {
    ("MR", "classic"): "1.2.840.10008.5.1.4.1.1.4", ("MR", "enhanced"): "1.2.840.10008.5.1.4.1.1.4.1",
    ("CT", "classic"): "1.2.840.10008.5.1.4.1.1.2", ("CT", "enhanced"): "1.2.840.10008.5.1.4.1.1.2.1",
    ("PT", "classic"): "1.2.840.10008.5.1.4.1.1.128", ("PT", "enhanced"): "1.2.840.10008.5.1.4.1.1.130",
}  # fmt: skip
_MAKERS = {"standard": "vvuq_twin", "Siemens": "SIEMENS", "GE": "GE MEDICAL SYSTEMS", "Philips": "Philips"}
_UCUM = {"1e-6 mm2/s": "um2/s", "mm2/s": "mm2/s", "Bq/mL": "Bq/ml", "SUV": "{SUVbw}g/ml", "HU": "[hnsf'U]",
         "ms": "ms", "1/min": "/min", "Gy": "Gy", "1": "1"}  # fmt: skip
_PET_UNITS = {"Bq/mL": "BQML", "SUV": "GML"}


@dataclass(frozen=True)
class Study:
    """Who, when and under which identifiers.

    Parameters
    ----------
    uid : str
        Prefix of every UID below it; the study's own.
    start : datetime
    frame_of_reference : str
    attributes : mapping of str to value
        Further attributes of every file by keyword (a patient's name, an institution, ...).
    """

    uid: str
    start: dt.datetime
    frame_of_reference: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SeriesFacts:
    """What one series is.

    Parameters
    ----------
    number : int
    modality : str
        MR, CT or PT.
    description : str
    component : str
        Third word of the image type ("M", "ADC").
    unit : str
        "arbitrary", or a unit that is declared with the values.
    common : mapping of str to float
        Facts of all volumes, by their names in the patient file.
    volumes : sequence of mapping
        Facts of each volume; ``time_s`` is its start after the series'.
    attributes : mapping of str to value
        Further attributes by keyword.
    start_s : float
        Start of the series after the study's, s.
    """

    number: int
    modality: str
    description: str
    component: str = "M"
    unit: str = "arbitrary"
    common: Mapping[str, float] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, float]] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    start_s: float = 0.0


def write_series(
    folder: Path, array: np.ndarray, grid: Grid, study: Study, facts: SeriesFacts,
    layout: Layout = "classic", vendor: Vendor = "standard",
) -> list[Path]:  # fmt: skip
    """Write a volume, or a series of volumes, as DICOM.

    Parameters
    ----------
    folder : Path
    array : ndarray, shape (i, j, k) or (t, i, j, k)
        Whole numbers from 0 to 65535 are stored as they are; everything else is scaled to 16 bits, each volume
        on its own.
    grid : Grid
    study : Study
    facts : SeriesFacts
    layout : {"classic", "enhanced"}
    vendor : {"standard", "Siemens", "GE", "Philips"}
        Where b-values and times are put in classic files.

    Returns
    -------
    list of Path
        Files written, in order of volume and slice.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    ValueError
        If the array's shape is not the grid's.
    """
    volumes = array if array.ndim == 4 else array[None]
    if volumes.shape[1:] != grid.shape or len(facts.volumes) not in (0, len(volumes)):
        raise ValueError(f"an array of shape {array.shape} does not fit the grid {grid.shape} or its facts")
    stored, scales = zip(*(_stored(v) for v in volumes))
    writer = _classic if layout == "classic" else _enhanced
    return writer(Path(folder), stored, scales, grid, study, facts, vendor)


def _stored(volume: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """16-bit values and (slope, intercept)."""
    low, high = (float(volume.min()), float(volume.max())) if volume.size else (0.0, 0.0)
    whole = volume.dtype.kind in "iub" or bool((volume == np.round(volume)).all())
    if whole and low >= 0 and high <= 65535:
        return volume.astype(np.uint16), (1.0, 0.0)
    slope = (high - low) / 65535 or 1.0
    # a scale that its decimal text (at most 16 characters) holds exactly
    slope, low = float(f"{slope:.9e}"), float(f"{low:.9e}") if low < 0 else 0.0
    if low == 0.0:
        slope = float(f"{high / 65535 or 1.0:.9e}")
    return np.clip(np.round((volume - low) / slope), 0, 65535).astype(np.uint16), (slope, low)


def _base(study: Study, facts: SeriesFacts, layout: Layout, vendor: Vendor, instance: int) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_CLASSES[facts.modality, layout])
    meta.MediaStorageSOPInstanceUID = UID(f"{study.uid}.{facts.number}.{instance}")
    meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for keyword, value in {**study.attributes, **facts.attributes}.items():
        setattr(ds, keyword, value)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study.uid, f"{study.uid}.{facts.number}"
    ds.FrameOfReferenceUID = study.frame_of_reference
    ds.Modality, ds.Manufacturer = facts.modality, _MAKERS[vendor]
    ds.SeriesNumber, ds.InstanceNumber, ds.SeriesDescription = facts.number, instance, facts.description
    begin = study.start + dt.timedelta(seconds=facts.start_s)
    ds.StudyDate, ds.StudyTime = study.start.strftime("%Y%m%d"), study.start.strftime("%H%M%S")
    for name in ("Series", "Acquisition", "Content"):
        setattr(ds, f"{name}Date", begin.strftime("%Y%m%d"))
        setattr(ds, f"{name}Time", begin.strftime("%H%M%S.%f"))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber",
                    "ReferringPhysicianName", "StudyID"):  # fmt: skip
        if keyword not in ds:
            setattr(ds, keyword, "")
    ds.ImageType = ["ORIGINAL" if facts.unit == "arbitrary" else "DERIVED", "PRIMARY", facts.component]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if facts.modality == "PT":
        ds.Units = _PET_UNITS[facts.unit]
    return ds


def _geometry(grid: Grid) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Corner of the first slice, step between slices, orientation and pixel spacing."""
    direction = np.array(grid.direction).reshape(3, 3)
    orientation = [*direction[:, 0], *direction[:, 1]]
    return (
        np.array(grid.origin), direction[:, 2] * grid.spacing[2], [_short(v) for v in orientation],
        [_short(grid.spacing[1]), _short(grid.spacing[0])],
    )  # fmt: skip


def _short(value: float) -> float:
    """A number as a decimal string of at most 16 characters holds it."""
    return float(f"{value:.9g}")


def _unit_item(unit: str, scale: tuple[float, float]) -> Any:
    from pydicom.dataset import Dataset

    code, item = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _UCUM[unit], "UCUM", unit
    item.MeasurementUnitsCodeSequence = [code]
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 65535
    item["RealWorldValueFirstValueMapped"].VR = item["RealWorldValueLastValueMapped"].VR = "US"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = scale
    item.LUTLabel, item.LUTExplanation = "unit", unit
    return item


def _classic(
    folder: Path, stored: Sequence[np.ndarray], scales: Sequence[tuple[float, float]], grid: Grid, study: Study,
    facts: SeriesFacts, vendor: Vendor,
) -> list[Path]:  # fmt: skip
    corner, step, orientation, spacing = _geometry(grid)
    paths = []
    for t, (volume, scale) in enumerate(zip(stored, scales)):
        own = {**facts.common, **(facts.volumes[t] if facts.volumes else {})}
        for k in range(grid.shape[2]):
            instance = t * grid.shape[2] + k + 1
            ds = _base(study, facts, "classic", vendor, instance)
            ds.ImagePositionPatient = [_short(v) for v in corner + k * step]
            ds.ImageOrientationPatient, ds.PixelSpacing = orientation, spacing
            ds.SliceThickness = _short(grid.spacing[2])
            ds.Columns, ds.Rows = grid.shape[:2]
            plain = scale == (1.0, 0.0) and facts.modality == "MR"
            if not plain:
                ds.RescaleSlope, ds.RescaleIntercept = scale
                if facts.modality == "CT":
                    ds.RescaleType = "HU"
            if facts.unit != "arbitrary" and facts.modality == "MR":
                ds.RealWorldValueMappingSequence = [_unit_item(facts.unit, scale)]
            _classic_facts(ds, own, t, len(stored), study, facts, vendor)
            ds.PixelData = np.ascontiguousarray(volume[:, :, k].T).tobytes()
            name = folder / f"{facts.number:03d}-{instance:05d}.dcm"
            paths.append(write_with(name, lambda p, d=ds: d.save_as(p, enforce_file_format=True)))  # type: ignore[misc]
    return paths


_KEYWORDS = {
    "repetition_time_ms": "RepetitionTime", "echo_time_ms": "EchoTime", "inversion_time_ms": "InversionTime",
    "flip_angle_deg": "FlipAngle", "field_strength_T": "MagneticFieldStrength",
    "frame_duration_ms": "ActualFrameDuration", "tube_voltage_kV": "KVP",
}  # fmt: skip


def _classic_facts(
    ds: Any, own: Mapping[str, float], t: int, count: int, study: Study, facts: SeriesFacts, vendor: Vendor
) -> None:
    """Facts where a classic file of the vendor has them."""
    for name, keyword in _KEYWORDS.items():
        if name in own:
            setattr(ds, keyword, own[name])
    b = own.get("b_value_s_per_mm2")
    if b is not None:
        if vendor == "Siemens":
            ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", str(int(b)))
        elif vendor == "GE":
            block = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
            block.add_new(0x39, "IS", [str(1_000_000_000 + int(b)), "8", "0", "0"])
        elif vendor == "Philips":
            ds.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", float(b))
        else:
            ds.DiffusionBValue = float(b)
    time = own.get("time_s")
    if time is None:
        return
    ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = t + 1, count
    begin = study.start + dt.timedelta(seconds=facts.start_s + time)
    if vendor == "GE":
        ds.TriggerTime = round(1e3 * time, 3)
    elif vendor == "Philips":
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0xA0, "FL", float(time))
    else:
        ds.AcquisitionDate, ds.AcquisitionTime = begin.strftime("%Y%m%d"), begin.strftime("%H%M%S.%f")
    if facts.modality == "PT":
        ds.FrameReferenceTime = round(1e3 * time, 3)


def _enhanced(
    folder: Path, stored: Sequence[np.ndarray], scales: Sequence[tuple[float, float]], grid: Grid, study: Study,
    facts: SeriesFacts, vendor: Vendor,
) -> list[Path]:  # fmt: skip
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    def group(**values: Any) -> Any:
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return Items([item])

    corner, step, orientation, spacing = _geometry(grid)
    ds = _base(study, facts, "enhanced", vendor, 1)
    ds.Columns, ds.Rows = grid.shape[:2]
    ds.NumberOfFrames = len(stored) * grid.shape[2]
    common = facts.common
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=orientation)
    shared.PixelMeasuresSequence = group(
        PixelSpacing=spacing,
        SliceThickness=_short(grid.spacing[2]),
        SpacingBetweenSlices=_short(grid.spacing[2]),
    )
    if "repetition_time_ms" in common:
        shared.MRTimingAndRelatedParametersSequence = group(RepetitionTime=common["repetition_time_ms"])
    if "field_strength_T" in common:
        ds.MagneticFieldStrength = common["field_strength_T"]
    ds.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    begin = study.start + dt.timedelta(seconds=facts.start_s)
    for t, scale in enumerate(scales):
        own = {**common, **(facts.volumes[t] if facts.volumes else {})}
        when = begin + dt.timedelta(seconds=own.get("time_s", 0.0))
        for k in range(grid.shape[2]):
            item = Dataset()
            content: dict[str, Any] = {
                "FrameAcquisitionDateTime": when.strftime("%Y%m%d%H%M%S.%f"),
                "FrameReferenceDateTime": when.strftime("%Y%m%d%H%M%S.%f"),
                "StackID": "1", "InStackPositionNumber": k + 1, "TemporalPositionIndex": t + 1,
                "DimensionIndexValues": [k + 1, t + 1],
            }  # fmt: skip
            if "frame_duration_ms" in own:
                content["FrameAcquisitionDuration"] = own["frame_duration_ms"]
            item.FrameContentSequence = group(**content)
            item.PlanePositionSequence = group(ImagePositionPatient=[_short(v) for v in corner + k * step])
            item.PixelValueTransformationSequence = group(
                RescaleSlope=scale[0],
                RescaleIntercept=scale[1],
                RescaleType="HU" if facts.modality == "CT" else "US",
            )
            if "echo_time_ms" in own:
                item.MREchoSequence = group(EffectiveEchoTime=own["echo_time_ms"])
            if "flip_angle_deg" in own:
                item.MRTimingAndRelatedParametersSequence = group(
                    FlipAngle=own["flip_angle_deg"], RepetitionTime=own.get("repetition_time_ms", 0.0)
                )
            if "inversion_time_ms" in own:
                item.MRModifierSequence = group(InversionTimes=own["inversion_time_ms"])
            if "b_value_s_per_mm2" in own:
                b = own["b_value_s_per_mm2"]
                item.MRDiffusionSequence = group(
                    DiffusionBValue=float(b), DiffusionDirectionality="ISOTROPIC" if b else "NONE"
                )
            if facts.unit != "arbitrary":
                item.RealWorldValueMappingSequence = Items([_unit_item(facts.unit, scale)])
            frames.append(item)
    ds.PerFrameFunctionalGroupsSequence = Items(frames)
    planes = np.concatenate([v.transpose(2, 1, 0) for v in stored])
    ds.PixelData = np.ascontiguousarray(planes).tobytes()
    name = folder / f"{facts.number:03d}.dcm"
    return [write_with(name, lambda p: ds.save_as(p, enforce_file_format=True))]
