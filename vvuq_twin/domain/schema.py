"""The patient file as it is written: pydantic models, and the JSON schema made from them."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from .roles import roles

Route = Literal[
    "oral",
    "intravenous",
    "intra-arterial",
    "intratumoural",
    "subcutaneous",
    "intraperitoneal",
    "convection-enhanced",
]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Amount = Annotated[FiniteFloat, Field(ge=0)]


class Strict(BaseModel):
    """A part of a patient file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(Strict):
    """A number with its unit."""

    value: Annotated[FiniteFloat, Field(gt=0)]
    unit: str


class When(Strict):
    """A time: a day, counted from day zero, or a date; with a clock time if it matters."""

    day: FiniteFloat | None = Field(None, description="days from day zero; fractions of a day are allowed")
    date: dt.date | None = Field(None, description="instead of day: a calendar date")
    time: Annotated[str, Field(pattern=r"^([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?$")] | None = Field(
        None, description="clock time HH:MM or HH:MM:SS, added to the day"
    )

    @property
    def clock(self) -> float:
        """The clock time as a fraction of a day."""
        if self.time is None:
            return 0.0
        parts = [int(p) for p in self.time.split(":")]
        return sum(p * s for p, s in zip(parts, (3600, 60, 1))) / 86400.0

    def on(self, zero: dt.date | None) -> float:
        """Days from day zero (a date, which a calendar date needs)."""
        if self.day is not None:
            return self.day + self.clock
        if self.date is None or zero is None:
            raise ValueError("neither a day nor a date with a date of day zero")
        return (self.date - zero).days + self.clock


class ImageFile(Strict):
    """One image file."""

    file: Annotated[str, Field(min_length=1)] = Field(description="path relative to the patient folder")
    unit: str | None = Field(None, description="declared, never guessed; masks and labels have none")
    missing: Literal["nan"] | None = Field(
        None, description="say nan if NaN voxels mark missing values on purpose"
    )
    empty: bool = Field(False, description="say true if a mask is empty because no tumour is visible")
    acquisition: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the acquisition, free keys"
    )


class MaskFile(Strict):
    """A mask that holds for all visits."""

    file: Annotated[str, Field(min_length=1)]


class TissueFile(Strict):
    """A label image of tissues and what its numbers mean."""

    file: Annotated[str, Field(min_length=1)]
    labels: Annotated[
        dict[Annotated[int, Field(ge=1)], Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]],
        Field(min_length=1),
    ] = Field(description="label number to tissue name; 0 is outside")


def _image_roles(schema: dict[str, Any]) -> None:
    schema["propertyNames"] = {"anyOf": [{"enum": sorted(roles())}, {"pattern": "^organ_.+$"}]}


class VisitFile(When):
    """What was measured on one day."""

    id: Identifier | None = Field(None, description="default: visit-1, visit-2, ...")
    images: dict[str, ImageFile] = Field(default_factory=dict, json_schema_extra=_image_roles)


class Repeat(Strict):
    """The same again, every so many days."""

    every: Annotated[FiniteFloat, Field(gt=0)] = Field(description="days")
    count: Annotated[int, Field(ge=1, le=10000)] = Field(description="how often in all, the first included")


class TreatmentFile(When):
    """What drug and radiation treatments share."""

    days: Annotated[list[FiniteFloat], Field(min_length=1)] | None = Field(
        None, description="instead of day: several days, each with the repeats"
    )
    repeat: Repeat | None = None

    def all_days(self, zero: dt.date | None) -> list[float]:
        """All days of the treatment, its repeats expanded, in order."""
        first = [self.on(zero)] if self.days is None else [d + self.clock for d in self.days]
        if self.repeat is None:
            return sorted(first)
        return sorted(d + k * self.repeat.every for d in first for k in range(self.repeat.count))


class DrugFile(TreatmentFile):
    """A drug dose, or the same dose repeated."""

    kind: Literal["drug"]
    agent: Identifier
    amount: Amount
    unit: str = Field(description="mg, umol, MBq, or per body size: mg/m2, mg/kg")
    route: Route
    duration: Quantity | None = Field(None, description="of an infusion; absent for a bolus")


class RadiationFile(TreatmentFile):
    """A radiation fraction, or a schedule of equal fractions."""

    kind: Literal["radiation"]
    dose: Amount = Field(description="of one fraction")
    unit: str = Field(description="Gy or cGy")


class SampleFile(When):
    """A concentration at a time."""

    concentration: Amount


class PlasmaFile(Strict):
    """Concentrations of an agent in blood."""

    agent: Identifier
    unit: str
    of: Literal["plasma", "whole blood", "serum"] = "plasma"
    samples: Annotated[list[SampleFile], Field(min_length=1)]


class MarkerValue(When):
    """A marker's value at a time."""

    value: FiniteFloat


class MarkerFile(Strict):
    """A scalar marker over time."""

    unit: str
    values: Annotated[list[MarkerValue], Field(min_length=1)]


class BodyFile(Strict):
    """What doses per body size refer to."""

    mass: Quantity | None = None
    surface: Quantity | None = None


class PatientFile(Strict):
    """patient.yaml: visits, treatments, plasma samples and markers of one patient, who is not named."""

    id: Identifier = Field(description="a pseudonym")
    source: str | None = Field(None, description="where the data come from: a collection, a citation")
    day_zero: dt.date | None = Field(None, description="the date of day 0; default: the first visit's date")
    body: BodyFile | None = None
    brain: MaskFile | None = None
    organ: MaskFile | None = None
    tissue: TissueFile | None = None
    visits: Annotated[list[VisitFile], Field(min_length=1)]
    treatments: list[Annotated[DrugFile | RadiationFile, Field(discriminator="kind")]] = Field(
        default_factory=list
    )
    plasma: list[PlasmaFile] = Field(default_factory=list)
    markers: dict[str, MarkerFile] = Field(default_factory=dict)


def json_schema() -> str:
    """The published JSON schema of ``patient.yaml`` (docs/patient.schema.json), as text."""
    schema = PatientFile.model_json_schema()
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "vvuq_twin patient",
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"
