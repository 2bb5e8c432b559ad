"""Interstitial fluid: tissue values from a data file, and their maps on the active cells.

Inside the package lengths are in mm, pressures in mmHg, times in hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from ..domain.errors import BadInput, near
from ..domain.yamlfile import read_yaml, validate
from .agent_number import Number
from .faces import Faces


class FluidTissue(BaseModel):
    """One tissue's fluid properties (docs: physics.md, "Interstitial fluid")."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vessel_conductivity: Number
    tissue_conductivity: Number
    surface: Number
    reflection: Number
    vessel_pressure: Number
    vessel_osmotic: Number
    tissue_osmotic: Number
    drainage: Number
    lymph_pressure: Number
    interstitium: Number

    @property
    def conductivity(self) -> float:
        """K, mm2/mmHg/h."""
        return self.tissue_conductivity.to("mm2/mmHg/h")

    @property
    def filtration(self) -> float:
        """Lp S/V, 1/mmHg/h."""
        return self.vessel_conductivity.to("mm/mmHg/h") * self.surface.to("1/mm")

    @property
    def effective_pressure(self) -> float:
        """p_e = p_v - sigma_T (pi_v - pi_i), mmHg: filtration stops where the tissue has it."""
        osmotic = self.vessel_osmotic.to("mmHg") - self.tissue_osmotic.to("mmHg")
        return self.vessel_pressure.to("mmHg") - self.reflection.to("1") * osmotic

    @property
    def layer(self) -> float:
        """sqrt(K/(Lp S/V)), mm: the depth over which pressure changes at a tissue's edge."""
        return float(np.sqrt(self.conductivity / self.filtration)) if self.filtration > 0 else np.inf


def load_fluid_tissues(path: str | Path | None = None) -> dict[str, FluidTissue]:
    """Fluid properties per tissue name, from the library or from your own YAML file of the same form.

    Raises
    ------
    BadInput
        If the file has a fault; it names the key.
    """
    place = path or str(resources.files("vvuq_twin").joinpath("library", "tissue_fluid.yaml"))
    data = read_yaml(Path(place))
    names = list(data) if isinstance(data, dict) else []
    table = create_model("FluidTable", **{str(name): (FluidTissue, ...) for name in names})  # type: ignore[call-overload]
    found = validate(table, data, str(place))
    return {str(name): getattr(found, str(name)) for name in names}


@dataclass(frozen=True)
class Interstitium:
    """Maps of the active cells that set pressure and flow.

    Parameters
    ----------
    faces : Faces
    conductivity : ndarray, shape (n,)
        K, mm2/mmHg/h, not negative.
    filtration : ndarray, shape (n,)
        Lp S/V, 1/mmHg/h, not negative.
    effective_pressure : ndarray, shape (n,)
        p_e, mmHg.
    drainage : ndarray, shape (n,)
        LpL (S/V)_L, 1/mmHg/h, not negative; 0 where there are no lymphatics.
    lymph_pressure : ndarray, shape (n,)
        p_L, mmHg.

    Raises
    ------
    BadInput
        If a map is off the cells, not finite or negative; it names the map.
    """

    faces: Faces
    conductivity: np.ndarray
    filtration: np.ndarray
    effective_pressure: np.ndarray
    drainage: np.ndarray
    lymph_pressure: np.ndarray

    def __post_init__(self) -> None:
        signed = ("effective_pressure", "lymph_pressure")
        for name in ("conductivity", "filtration", "effective_pressure", "drainage", "lymph_pressure"):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != (self.faces.n,):
                raise BadInput(
                    f"the map {name} has shape {values.shape}, not ({self.faces.n},)", "interstitium"
                )
            if not np.isfinite(values).all():
                raise BadInput(f"the map {name} has non-finite values", "interstitium", "fill them before")
            if name not in signed and values.min() < 0:
                raise BadInput(
                    f"the map {name} has a value of {values.min():g}", "interstitium", "keep it positive"
                )
            object.__setattr__(self, name, values)

    @classmethod
    def of(cls, faces: Faces, tissues: Mapping[str, FluidTissue]) -> Interstitium:
        """Uniform values per tissue of ``faces.names``.

        Raises
        ------
        BadInput
            If a tissue has no entry.
        """
        rows = [_of(name, tissues) for name in faces.names]

        def spread(values: list[float]) -> np.ndarray:
            return np.array(values)[faces.label]

        return cls(
            faces,
            spread([t.conductivity for t in rows]),
            spread([t.filtration for t in rows]),
            spread([t.effective_pressure for t in rows]),
            spread([t.drainage.to("1/mmHg/h") for t in rows]),
            spread([t.lymph_pressure.to("mmHg") for t in rows]),
        )

    @property
    def exchange(self) -> np.ndarray:
        """Lp S/V + LpL (S/V)_L, 1/mmHg/h, shape (n,)."""
        return self.filtration + self.drainage

    @property
    def far_pressure(self) -> np.ndarray:
        """The pressure at which what filters in is drained, mmHg, shape (n,); p_e without lymphatics."""
        return np.asarray(
            far_pressure(self.filtration, self.drainage, self.effective_pressure, self.lymph_pressure)
        )

    @property
    def layer(self) -> np.ndarray:
        """sqrt(K / exchange), mm, shape (n,); infinite where nothing is exchanged."""
        total = self.exchange
        ratio = np.divide(self.conductivity, total, out=np.full_like(total, np.inf), where=total > 0)
        return np.sqrt(ratio)


def far_pressure(
    filtration: Any, drainage: Any, effective_pressure: Any, lymph_pressure: Any, xp: Any = np
) -> Any:
    """The pressure at which what filters in is drained, mmHg; 0 where nothing is exchanged."""
    total = filtration + drainage
    supply = filtration * effective_pressure + drainage * lymph_pressure
    return xp.where(total > 0, supply / xp.where(total > 0, total, 1.0), 0.0)


def _of(name: str, tissues: Mapping[str, FluidTissue]) -> FluidTissue:
    if name not in tissues:
        raise BadInput(f"no fluid properties for the tissue '{name}'", "tissue fluid", near(name, tissues))
    return tissues[name]


def surface_map(faces: Faces, tissues: Mapping[str, FluidTissue]) -> np.ndarray:
    """Vessel surface per volume of tissue, S/V, 1/mm, shape (n,)."""
    return np.array([_of(name, tissues).surface.to("1/mm") for name in faces.names])[faces.label]


def interstitium_map(faces: Faces, tissues: Mapping[str, FluidTissue]) -> np.ndarray:
    """Volume fraction of the interstitium, shape (n,)."""
    return np.array([_of(name, tissues).interstitium.to("1") for name in faces.names])[faces.label]
