"""A virtual patient as a patient folder, the form in which a real one comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..domain.files import write_text
from ..imaging.write import write_image
from .glioma import VirtualPatient


def write_patient(patient: VirtualPatient, folder: Path) -> Path:
    """Write ``patient.yaml`` and the images; ``patient.yaml`` comes last, so a folder that has it is whole.

    Raises
    ------
    BadInput
        If the folder cannot be written.
    """
    folder = Path(folder)
    scans = patient.scans
    write_image(folder / "brain.nii.gz", scans.brain, scans.grid, description="brain mask")
    write_image(
        folder / "tissue.nii.gz", scans.tissue.astype(np.int16), scans.grid, description="tissue labels"
    )
    visits: list[dict[str, Any]] = []
    for number, visit in enumerate(scans.visits):
        adc, tumour = f"{visit.id}-adc.nii.gz", f"{visit.id}-tumour.nii.gz"
        write_image(folder / adc, visit.adc, scans.grid, description="ADC, mm2/s")
        write_image(folder / tumour, visit.tumour, scans.grid, description="tumour outline")
        images: dict[str, Any] = {"adc": {"file": adc, "unit": "mm2/s"}, "tumour": {"file": tumour}}
        if not visit.tumour.any():
            # nothing is visible: said on purpose, so that a forgotten outline is not taken for it
            images["tumour"]["empty"] = True
        if number == 0 and scans.perfusion is not None:
            write_image(
                folder / "ktrans.nii.gz", scans.perfusion.ktrans, scans.grid, description="Ktrans, 1/min"
            )
            write_image(folder / "ve.nii.gz", scans.perfusion.ve, scans.grid, description="ve")
            images["ktrans"] = {"file": "ktrans.nii.gz", "unit": "1/min"}
            images["ve"] = {"file": "ve.nii.gz", "unit": "1"}
        visits.append({"id": visit.id, "day": visit.day, "images": images})
    given = scans.treatments
    treatments: list[dict[str, Any]] = []
    for gray in sorted({g for _, g in given.fractions}):
        days = [round(t, 6) for t, g in given.fractions if g == gray]
        treatments.append({"kind": "radiation", "dose": gray, "unit": "Gy", "days": days})
    for amount in sorted({a for _, a in given.drug_doses}):
        days = [round(t, 6) for t, a in given.drug_doses if a == amount]
        treatments.append(
            {
                "kind": "drug",
                "agent": given.agent,
                "amount": amount,
                "unit": "mg/m2",
                "route": "oral",
                "days": days,
            }
        )
    text = yaml.safe_dump(
        {
            "id": scans.id,
            "source": "virtual patient made by vvuq_twin.virtual; not a person",
            "brain": {"file": "brain.nii.gz"},
            "tissue": {"file": "tissue.nii.gz", "labels": dict(scans.labels)},
            "visits": visits,
            "treatments": treatments,
        },
        sort_keys=False,
        default_flow_style=None,
        width=100,
    )
    write_text(folder / "patient.yaml", text)
    return folder
