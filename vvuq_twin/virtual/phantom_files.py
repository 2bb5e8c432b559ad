"""A phantom as a patient folder, or as the DICOM export that a hospital would give."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.files import write_text
from ..imaging.dicom.encode import Layout, SeriesFacts, Study, Vendor, write_series
from ..imaging.dicom.objects import read_sources, write_segmentation
from ..imaging.write import write_image
from .anatomy import phantom_library, tissue_labels
from .phantom import Phantom, PhantomVisit
from .scanner import PhantomScan, scan_phantom

#: Who the phantom claims to be, so that there is something to take away.
PERSONA: Mapping[str, Any] = {
    "PatientName": "Phantom^Made^Up", "PatientID": "PH-0815", "PatientBirthDate": "19600229", "PatientSex": "O",
    "PatientWeight": 71.0, "InstitutionName": "Hospital of Nowhere", "ReferringPhysicianName": "Nobody^At^All",
    "OperatorsName": "Operator^Unknown", "AccessionNumber": "A-42", "DeviceSerialNumber": "S-42",
    "StationName": "SCANNER42",
}  # fmt: skip
_START = dt.datetime(2022, 3, 14, 10, 15)


def masks_of(visit: PhantomVisit) -> dict[str, np.ndarray]:
    """Masks as somebody would outline them: the tumour with its necrosis, the necrosis, the brain."""
    return {
        "tumour": visit.mask("tumour", "necrosis"),
        "necrosis": visit.mask("necrosis"),
        "brain": visit.mask("grey", "white", "tumour", "necrosis"),
    }


def write_phantom(phantom: Phantom, folder: Path, roles: Sequence[str], *, noise: bool = True) -> Path:
    """Write a patient folder (NIfTI), with the truth beside it in ``truth/``.

    Parameters
    ----------
    phantom : Phantom
    folder : Path
    roles : sequence of str
        See :data:`vvuq_twin.virtual.scanner.ROLES`.
    noise : bool

    Returns
    -------
    Path
        The folder: ``patient.yaml``, images and masks a visit; ``truth/<visit>-labels.nii.gz`` and
        ``truth/<visit>-cellularity.nii.gz`` on the fine grid in the first visit's position, ``truth/truth.json`` with
        motions and volumes.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    """
    import json

    import yaml

    folder = Path(folder)
    visits: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    for visit in phantom.visits:
        images: dict[str, Any] = {}
        for role in roles:
            scan = scan_phantom(phantom, visit, role, noise=noise)
            file = f"{visit.id}/{role}.nii.gz"
            write_image(folder / file, scan.array, phantom.grid, description=f"{role}, {scan.unit}")
            images[role] = {"file": file, "unit": scan.unit, "acquisition": dict(scan.acquisition)}
            if role == "dce":  # what an export does not say
                given = phantom_library()["scans"]["dce"]
                images[role]["acquisition"] |= {
                    "relaxivity_per_mM_per_s": given["relaxivity"],
                    "baseline_frames": int(given["onset_s"] // given["frame_s"]),
                }
        for name, mask in masks_of(visit).items():
            write_image(folder / f"{visit.id}/{name}.nii.gz", mask, phantom.grid, description=f"{name} mask")
            images[name] = {"file": f"{visit.id}/{name}.nii.gz"} | ({} if mask.any() else {"empty": True})
        visits.append({"id": visit.id, "day": visit.day, "images": images})
        write_image(
            folder / "truth" / f"{visit.id}-labels.nii.gz", visit.labels.astype(np.int32), phantom.fine
        )
        write_image(folder / "truth" / f"{visit.id}-cellularity.nii.gz", visit.cellularity, phantom.fine)
        truth.append(
            {"visit": visit.id, "motion": visit.motion.tolist(), "volume_cm3": visit.volume_cm3,
             "necrosis_cm3": visit.necrosis_cm3}
        )  # fmt: skip
    record = {"seed": phantom.seed, "labels": tissue_labels(), "visits": truth}
    write_text(folder / "truth" / "truth.json", json.dumps(record, indent=1) + "\n")
    patient = {
        "id": f"phantom-{phantom.seed}", "source": "phantom made by vvuq_twin.virtual; not a person", "visits": visits
    }  # fmt: skip
    write_text(
        folder / "patient.yaml", yaml.safe_dump(patient, sort_keys=False, default_flow_style=None, width=100)
    )
    return folder


def write_phantom_dicom(
    phantom: Phantom, folder: Path, roles: Sequence[str], *, layout: Layout = "classic", vendor: Vendor = "standard",
    noise: bool = True, persona: Mapping[str, Any] = PERSONA,
) -> Path:  # fmt: skip
    """Write the export of a hospital: a study a visit, a series an image, a segmentation object with the outlines.

    Parameters
    ----------
    phantom : Phantom
    folder : Path
    roles : sequence of str
    layout : {"classic", "enhanced"}
    vendor : {"standard", "Siemens", "GE", "Philips"}
        Whose private places hold b-values and times in classic files.
    noise : bool
    persona : mapping
        Attributes that identify, by keyword.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    """
    folder = Path(folder)
    root = f"1.2.826.0.1.3680043.8.498.{phantom.seed + 1}"
    for n, visit in enumerate(phantom.visits):
        study = Study(
            f"{root}.{n + 1}", _START + dt.timedelta(days=visit.day), f"{root}.{n + 1}.0", persona
        )  # fmt: skip
        first: list[Path] = []
        for number, role in enumerate(roles, start=1):
            scan = scan_phantom(phantom, visit, role, noise=noise)
            files = write_series(
                folder / visit.id, scan.array, phantom.grid, study, _facts(scan, number, study), layout, vendor
            )  # fmt: skip
            first = first or files
        masks = {name: mask for name, mask in masks_of(visit).items() if mask.any()}
        if masks and first:
            write_segmentation(
                folder / visit.id / "outlines.dcm", masks, phantom.grid, read_sources(first), 90
            )
    return folder


def _facts(scan: PhantomScan, number: int, study: Study) -> SeriesFacts:
    """A scan's acquisition as a series' common facts and those of its volumes."""
    from pydicom.dataset import Dataset

    common = {k: float(v) for k, v in scan.acquisition.items() if not isinstance(v, list)}
    volumes: list[dict[str, float]] = []
    for listed, one in (("b_values_s_per_mm2", "b_value_s_per_mm2"), ("flip_angles_deg", "flip_angle_deg"),
                        ("frame_times_s", "time_s")):  # fmt: skip
        if listed in scan.acquisition:
            volumes = [{one: float(v)} for v in scan.acquisition[listed]]
    attributes: dict[str, Any] = {}
    if scan.role == "t1_post":
        attributes["ContrastBolusAgent"] = "contrast"
    if scan.role == "adc":
        common = {"repetition_time_ms": 5000.0, "echo_time_ms": 80.0}
    if scan.role == "pet":
        item = Dataset()
        item.RadionuclideTotalDose, item.RadionuclideHalfLife = 3.5e8, 6586.2
        item.RadiopharmaceuticalStartTime = (study.start - dt.timedelta(hours=1)).strftime("%H%M%S")
        attributes = {"RadiopharmaceuticalInformationSequence": [item], "DecayCorrection": "START",
                      "CorrectedImage": ["ATTN", "DECY"]}  # fmt: skip
    modality = {"pet": "PT", "ct": "CT"}.get(scan.role, "MR")
    return SeriesFacts(
        number, modality, scan.role, "ADC" if scan.role == "adc" else "M", scan.unit, common, volumes, attributes,
        60.0 * number,
    )  # fmt: skip
