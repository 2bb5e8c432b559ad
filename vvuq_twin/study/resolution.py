"""What a patient's voxels resolve of pressure and of the drugs that were given."""

from __future__ import annotations

from pathlib import Path

from ..domain.errors import BadInput
from ..domain.patient import load_patient
from ..imaging.visit import read_map
from ..physics.agents import library, load_agent
from ..physics.interstitium import load_fluid_tissues
from ..physics.lengths import sentences


def resolution(folder: Path) -> list[str]:
    """Physical lengths against the largest voxel edge of the first image, in plain words; none without one."""
    patient = load_patient(Path(folder))
    agents = [load_agent(name) for name in sorted({d.agent for d in patient.doses} & set(library()))]
    for visit in patient.visits:
        for ref in visit.images.values():
            if not ref.role.needs_unit:
                continue
            try:
                voxel = max(read_map(ref)[1].spacing)
            except BadInput:
                continue
            return sentences(agents, load_fluid_tissues(), voxel)
    return []
