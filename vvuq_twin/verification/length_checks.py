"""The lengths that a grid has to resolve, and what stands in where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..physics.agents import load_agent
from ..physics.interstitium import load_fluid_tissues
from ..physics.lengths import cell_peclet, drug_lengths, fluid_lengths
from .registry import Result, check

#: Voxel sizes a scan may have, mm.
VOXELS = (0.5, 1.0, 2.0, 4.0)


@check(
    "lengths",
    "The physical lengths of pressure and drug against voxels of 0.5 to 4 mm; what is not resolved is said",
    "pressure layer of a tumour 0.27 mm and doxorubicin's penetration into its cells 0.02 to 0.03 mm, as published",
    "sqrt(K/(Lp S/V)) and sqrt(D/k) with the library's numbers",
    factor="discretization_error",
)
def lengths(quick: bool) -> Result:
    """All lengths of doxorubicin, in mm."""
    tissues, agent = load_fluid_tissues(), load_agent("doxorubicin")
    found = [*fluid_lengths(tissues), *drug_lengths(agent, tissues)]
    result: dict[str, Any] = {f"{x.what} (mm)": x.mm for x in sorted(found, key=lambda x: x.mm)}
    layer = next(x for x in found if x.what == "pressure layer of tumour tissue").mm
    depth = next(x.mm for x in found if "uptake by cells in tumour" in x.what)
    for h in VOXELS:
        result[f"not_resolved_at_{h:g}_mm"] = sum(not x.resolved(h) for x in found)
        result[f"cell_peclet_at_{h:g}_mm"] = cell_peclet(agent, tissues, h)
    return bool(np.isclose(layer, 0.27, atol=0.005) and 0.015 < depth < 0.035), result
