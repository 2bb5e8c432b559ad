"""A number of an agent file: value, unit, spread, source."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from ..domain.parameters import LogNormal, Parameter
from ..domain.units import convert


class Entry(BaseModel):
    """Base of what stands in an agent file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Link(Entry):
    """What joins two compartments or species, in the direction of the flow."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")


class Number(Entry):
    """A quantity with its unit, source and spread (standard deviation of the logarithm)."""

    value: float = Field(ge=0, allow_inf_nan=False)
    unit: str
    sd_log: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    source: str
    read: bool

    def to(self, unit: str) -> float:
        """The value in another unit."""
        return float(convert(self.value, self.unit, unit, "agent file"))

    def parameter(self, name: str, unit: str, agent: str) -> Parameter:
        """The log-normal prior."""
        source = self.source + ("" if self.read else " (not read there)")
        words = f"{agent}: {name.replace('_', ' ')}"
        return Parameter(name, unit, LogNormal(self.to(unit), self.sd_log), words, source)
