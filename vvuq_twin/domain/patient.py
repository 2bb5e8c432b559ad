"""A patient as the package uses one: visits with images, treatments, samples, markers. Times are days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BadInput
from .patient_problems import read_patient_file
from .roles import Role, role
from .schema import DrugFile, PatientFile, Quantity, RadiationFile
from .units import convert


@dataclass(frozen=True)
class ImageRef:
    """An image that belongs to a patient.

    Parameters
    ----------
    role : Role
    path : Path
    unit : str
        As declared; "1" for masks and labels.
    acquisition : mapping
        Acquisition parameters, as declared.
    field : str
        File, line and field that name it, for messages.
    missing : bool
        Whether NaN voxels are declared to mark missing values.
    empty : bool
        Whether a mask is declared to be empty (no tumour is visible).
    """

    role: Role
    path: Path
    unit: str
    acquisition: Mapping[str, Any]
    field: str
    missing: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Visit:
    """What was measured on one day.

    Parameters
    ----------
    id : str
    day : float
        Days from day zero.
    date : datetime.date or None
    images : mapping of str to ImageRef
        By role.
    field : str
        File, line and field, for messages.
    """

    id: str
    day: float
    date: dt.date | None
    images: Mapping[str, ImageRef]
    field: str

    def image(self, name: str) -> ImageRef:
        """The image of a role.

        Raises
        ------
        BadInput
            If this visit has none.
        """
        if name not in self.images:
            there = ", ".join(self.images) or "no images"
            raise BadInput(
                f"visit {self.id} has no {name} image (it has {there})", self.field, f"add images.{name}"
            )
        return self.images[name]


@dataclass(frozen=True)
class DrugDose:
    """One dose of a drug.

    Parameters
    ----------
    agent : str
    amount : float
    unit : str
        As declared (mg, mg/m2, MBq, ...).
    route : str
    day : float
        Start.
    duration : float
        Days; 0 for a bolus.
    field : str
    """

    agent: str
    amount: float
    unit: str
    route: str
    day: float
    duration: float = 0.0
    field: str = ""


@dataclass(frozen=True)
class Fraction:
    """One radiation fraction: ``dose`` in Gy on ``day``."""

    dose: float
    day: float
    field: str = ""


@dataclass(frozen=True)
class Sample:
    """Concentration of an agent in plasma, serum or whole blood on a day."""

    agent: str
    day: float
    concentration: float
    unit: str
    of: str = "plasma"


@dataclass(frozen=True)
class Marker:
    """A scalar marker's value on a day."""

    name: str
    day: float
    value: float
    unit: str


@dataclass(frozen=True)
class Tissue:
    """A label image and the names of its labels."""

    image: ImageRef
    labels: Mapping[int, str]


@dataclass(frozen=True)
class Patient:
    """A patient folder, loaded.

    Parameters
    ----------
    id : str
    folder : Path
    visits : tuple of Visit
        In order of time, no two on the same day.
    doses : tuple of DrugDose
        Repeats expanded, in order of time.
    fractions : tuple of Fraction
        Repeats expanded, in order of time.
    samples : tuple of Sample
    markers : tuple of Marker
    tissue : Tissue, optional
    brain, organ : ImageRef, optional
        Masks that hold for all visits.
    body_mass : float, optional
        kg.
    body_surface : float, optional
        m2.
    source : str
    """

    id: str
    folder: Path
    visits: tuple[Visit, ...]
    doses: tuple[DrugDose, ...] = ()
    fractions: tuple[Fraction, ...] = ()
    samples: tuple[Sample, ...] = ()
    markers: tuple[Marker, ...] = ()
    tissue: Tissue | None = None
    brain: ImageRef | None = None
    organ: ImageRef | None = None
    body_mass: float | None = None
    body_surface: float | None = None
    source: str = ""
    field: str = field(default="", repr=False)

    @property
    def treatments(self) -> tuple[DrugDose | Fraction, ...]:
        """Doses and fractions together, in order of time."""
        return tuple(sorted([*self.doses, *self.fractions], key=lambda event: event.day))

    def visit(self, name: str) -> Visit:
        """A visit by its id."""
        for visit in self.visits:
            if visit.id == name:
                return visit
        raise BadInput(
            f"there is no visit '{name}'", self.field, "use one of: " + ", ".join(v.id for v in self.visits)
        )

    def amount(self, dose: DrugDose, unit: str) -> float:
        """A dose's amount in ``unit``; doses per m2 or per kg are multiplied by the body's size.

        Raises
        ------
        BadInput
            If the unit cannot be converted, or the body's size is needed and not given.
        """
        from .units import registry

        declared = registry().parse_expression(dose.unit)
        wanted = registry().parse_expression(unit)
        ratio = registry().Quantity(declared / wanted)
        if ratio.check("1 / [length] ** 2"):
            if self.body_surface is None:
                raise BadInput(
                    f"the dose of {dose.agent} is per body surface ({dose.unit}), which is not given",
                    dose.field, "add body: {surface: {value: ..., unit: m2}}",
                )  # fmt: skip
            return dose.amount * float(convert(self.body_surface, f"({dose.unit}) * m2", unit, dose.field))
        if ratio.check("1 / [mass]"):
            if self.body_mass is None:
                raise BadInput(
                    f"the dose of {dose.agent} is per body mass ({dose.unit}), which is not given",
                    dose.field, "add body: {mass: {value: ..., unit: kg}}",
                )  # fmt: skip
            return dose.amount * float(convert(self.body_mass, f"({dose.unit}) * kg", unit, dose.field))
        return float(convert(dose.amount, dose.unit, unit, dose.field))


def load_patient(folder: Path) -> Patient:
    """Load ``patient.yaml`` from a folder.

    Raises
    ------
    BadInput
        The first fault: file, line, field, and what to do. The images are not opened here.
    """
    spec, lined, faults = read_patient_file(Path(folder))
    if faults or spec is None:
        raise faults[0]
    return _patient(spec, lined.where, Path(folder))


def problems(folder: Path) -> list[BadInput]:
    """Every fault of ``patient.yaml``, in the order of its lines where it can be read at all."""
    try:
        return read_patient_file(Path(folder))[2]
    except BadInput as error:
        return [error]


def _patient(spec: PatientFile, where: Any, folder: Path) -> Patient:
    """The dataclasses from a file without faults."""
    zero = spec.day_zero or spec.visits[0].date

    def image(name: str, file: str, loc: tuple[Any, ...]) -> ImageRef:
        return ImageRef(role(name), folder / file, "1", {}, where(loc))

    visits = []
    for i, v in enumerate(spec.visits):
        images = {}
        for name, f in v.images.items():
            kind, at = role(name), where(("visits", i, "images", name))
            images[name] = ImageRef(
                kind, folder / f.file, f.unit or "1", dict(f.acquisition), at, f.missing is not None, f.empty
            )
        visits.append(Visit(v.id or f"visit-{i + 1}", v.on(zero), v.date, images, where(("visits", i))))
    doses: list[DrugDose] = []
    fractions: list[Fraction] = []
    for i, t in enumerate(spec.treatments):
        at = where(("treatments", i))
        for day in t.all_days(zero):
            if isinstance(t, DrugFile):
                duration = (
                    0.0
                    if t.duration is None
                    else float(convert(t.duration.value, t.duration.unit, "day", at))
                )
                doses.append(DrugDose(t.agent, t.amount, t.unit, t.route, day, duration, at))
            elif isinstance(t, RadiationFile):
                fractions.append(Fraction(float(convert(t.dose, t.unit, "Gy", at)), day, at))
    samples = [
        Sample(p.agent, s.on(zero), s.concentration, p.unit, p.of) for p in spec.plasma for s in p.samples
    ]
    markers = [Marker(n, v.on(zero), v.value, m.unit) for n, m in spec.markers.items() for v in m.values]

    def size(quantity: Quantity | None, unit: str) -> float | None:
        return (
            None
            if quantity is None
            else float(convert(quantity.value, quantity.unit, unit, where(("body",))))
        )

    return Patient(
        id=spec.id,
        folder=folder,
        visits=tuple(visits),
        doses=tuple(sorted(doses, key=lambda d: d.day)),
        fractions=tuple(sorted(fractions, key=lambda f: f.day)),
        samples=tuple(sorted(samples, key=lambda s: s.day)),
        markers=tuple(sorted(markers, key=lambda m: (m.name, m.day))),
        tissue=Tissue(image("tissue", spec.tissue.file, ("tissue",)), dict(spec.tissue.labels))
        if spec.tissue
        else None,
        brain=image("brain", spec.brain.file, ("brain",)) if spec.brain else None,
        organ=image("organ", spec.organ.file, ("organ",)) if spec.organ else None,
        body_mass=size(spec.body.mass, "kg") if spec.body else None,
        body_surface=size(spec.body.surface, "m2") if spec.body else None,
        source=spec.source or "",
        field=where(()),
    )
