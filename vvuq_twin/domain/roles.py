"""What an image of a visit can be: the table of roles, read from the package's library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from .errors import BadInput, near
from .units import factor

Kind = Literal["map", "signal", "series", "mask", "labels"]


@dataclass(frozen=True)
class Role:
    """A role of an image.

    Parameters
    ----------
    name : str
    kind : {"map", "signal", "series", "mask", "labels"}
    what : str
        In words.
    unit : str or None
        The unit a map is converted to; None where there is none (masks) or it is arbitrary (signals).
    other : tuple of str
        Words accepted as a unit beside those that convert ("SUV", "arbitrary").
    plausible : tuple of float, optional
        Bounds for the median of a map in ``unit``.
    least : float, optional
        What no voxel of a map can be below, in ``unit``.
    """

    name: str
    kind: Kind
    what: str
    unit: str | None = None
    other: tuple[str, ...] = ()
    plausible: tuple[float, float] | None = None
    least: float | None = None

    @property
    def needs_unit(self) -> bool:
        """Masks and labels have none; everything else must declare one."""
        return self.kind in ("map", "signal", "series")

    def check_unit(self, unit: str | None, where: str) -> None:
        """Refuse a unit that is missing, unknown, or of another dimension.

        Raises
        ------
        BadInput
        """
        if not self.needs_unit:
            if unit not in (None, "1"):
                raise BadInput(
                    f"a {self.kind} image has no unit, but '{unit}' is declared", where, "leave it out"
                )
            return
        if unit is None:
            example = self.unit or self.other[0]
            raise BadInput(
                f"the unit of the {self.name} image is not declared",
                where,
                f"add it, for example unit: {example}",
            )
        if unit not in self.other:
            factor(unit, self.unit or unit, where)


@cache
def roles() -> dict[str, Role]:
    """All roles by name."""
    import yaml

    text = resources.files("vvuq_twin").joinpath("library/image_roles.yaml").read_text(encoding="utf-8")
    found = {}
    for name, entry in yaml.safe_load(text).items():
        low_high = entry.get("plausible")
        found[name] = Role(
            name,
            entry["kind"],
            entry["what"],
            entry.get("unit"),
            tuple(entry.get("other", ())),
            (float(low_high[0]), float(low_high[1])) if low_high else None,
            entry.get("least"),
        )
    return found


def role(name: str, where: str = "") -> Role:
    """A role by its name; ``organ_<name>`` is a further organ mask.

    Raises
    ------
    BadInput
        With the nearest known role.
    """
    known = roles()
    if name in known:
        return known[name]
    if name.startswith("organ_") and len(name) > len("organ_"):
        return Role(name, "mask", f"organ mask: {name.removeprefix('organ_')}")
    raise BadInput(f"the image role '{name}' is not known", where, near(name, [*known, "organ_<name>"]))
