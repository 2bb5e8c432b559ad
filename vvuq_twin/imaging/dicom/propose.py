"""What each stack probably is: a role of the patient folder, with its unit and its acquisition.

Facts decide before words: image type, weighting, b-values, flip angles, frame times, tracer. The scanner's free
text is looked at only for what no fact tells.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...domain.errors import BadInput
from .facts import activity
from .volumes import Stack, merge

#: UCUM codes of DICOM's measurement units, as the package spells them.
_UCUM = {
    "mm2/s": "mm2/s", "um2/s": "1e-6 mm2/s", "10-6mm2/s": "1e-6 mm2/s", "10*-6.mm2/s": "1e-6 mm2/s",
    "10*-3.mm2/s": "1e-3 mm2/s", "ms": "ms", "s": "s", "/min": "1/min", "1/min": "1/min", "Bq/ml": "Bq/mL",
    "Bq/mL": "Bq/mL", "kBq/ml": "kBq/mL", "g/ml{SUVbw}": "SUV", "{SUVbw}g/ml": "SUV", "[hnsf'U]": "HU", "Gy": "Gy",
    "1": "1", "K": "kelvin", "Cel": "degC",
}  # fmt: skip
#: Units of PET values (0054,1001) and of rescaled values (0028,1054).
_SHOWN = {"BQML": "Bq/mL", "GML": "SUV", "HU": "HU", "GY": "Gy"}
_PET = "1.2.840.10008.5.1.4.1.1.128"
_RTDOSE = "1.2.840.10008.5.1.4.1.1.481.2"
_LEAST_DYNAMIC = 5


@dataclass(frozen=True)
class Proposal:
    """A stack and what to do with it.

    Parameters
    ----------
    stack : Stack
    role : str
        "" if none is proposed.
    unit : str or None
        None if the files do not declare it.
    acquisition : dict
        For the patient file: facts with their units in their names.
    why : str
        A clause on why there is no role, or why it is not used.
    real : bool
        Whether the unit is that of the real-world values.
    factor : float
        What shown values are to be multiplied by to be in the unit.
    """

    stack: Stack
    role: str
    unit: str | None = None
    acquisition: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    real: bool = False
    factor: float = 1.0

    @property
    def signal(self) -> bool:
        """Whether values are scanner signals that must compare between frames."""
        return self.unit == "arbitrary"


def propose(stacks: Sequence[Stack]) -> list[Proposal]:
    """A role for each stack, after stacks that belong together have been joined."""
    return [_one(stack) for stack in _joined(stacks)]


def _joined(stacks: Sequence[Stack]) -> list[Stack]:
    """Single volumes that a scanner spread over series: a dynamic series, or a set of flip angles."""
    alike: dict[tuple[Any, ...], list[Stack]] = defaultdict(list)
    for stack in stacks:
        alike[_likeness(stack)].append(stack)
    out: list[Stack] = []
    for key, parts in alike.items():
        flips = {s.frame.facts.get("flip_angle_deg") for s in parts}
        together = len(parts) >= _LEAST_DYNAMIC if len(flips) == 1 else len(flips) == len(parts)
        if key[0] and together and len(parts) > 1:
            parts = sorted(parts, key=lambda s: (s.series[0].number, s.series[0].uid))
            try:
                out.append(merge(parts))
                continue
            except BadInput:
                pass  # nothing orders them: they stay apart
        out += parts
    return sorted(out, key=lambda s: (s.series[0].study, s.series[0].number))


def _likeness(stack: Stack) -> tuple[Any, ...]:
    """What single volumes of one set share; the first entry is False where a stack joins no set."""
    frame, series = stack.frame, stack.series[0]
    facts = frame.facts
    if series.modality != "MR" or len(stack.volumes) > 1 or stack.component not in ("", "M", "MAGNITUDE"):
        return (False, series.uid, stack.component)
    place = np.round([*stack.grid.origin, *stack.grid.spacing, *stack.grid.direction], 3)
    echo, repetition = facts.get("echo_time_ms"), facts.get("repetition_time_ms")
    if (
        echo is None or repetition is None or echo > 6 or repetition > 50
    ):  # neither dynamic nor a flip-angle set
        return (False, series.uid, stack.component)
    words = re.sub(r"[\d\W_]+", " ", series.description.lower()).strip()
    if facts.get("flip_angle_deg") is not None:
        words = re.sub(r"\b(deg|fa|flip|vfa)\b", "", words).strip()
    return (True, series.study, stack.grid.shape, tuple(place), round(echo, 2), round(repetition, 2), words)


def _one(stack: Stack) -> Proposal:
    series = stack.series[0]
    header, sop = series.first, series.sop_class
    facts = _acquisition(stack)
    if str(header.get("BurnedInAnnotation") or "").upper() == "YES":
        return Proposal(stack, "", acquisition=facts, why="text is burned into its pixels")
    if sop.startswith("1.2.840.10008.5.1.4.1.1.7"):
        return Proposal(stack, "", acquisition=facts, why="it is a screen capture")
    if "LOCALIZER" in stack.component or {"MIP", "MPR"} & set(stack.component.split("/")):
        return Proposal(
            stack, "", acquisition=facts, why="it is a localiser or a view made of another series"
        )
    if series.modality in ("PT", "NM"):
        return _emission(stack, facts)
    if sop == _RTDOSE:
        declared = _SHOWN.get(str(header.get("DoseUnits") or "").upper())
        return _declared(stack, "dose", declared, facts)
    if series.modality == "CT":
        shown = str(header.get("RescaleType") or "HU").upper()
        return Proposal(stack, "ct", _SHOWN.get(shown, "arbitrary"), facts)
    if series.modality == "MR":
        return _magnetic(stack, facts)
    return Proposal(stack, "", acquisition=facts, why=f"nothing is known of the modality '{series.modality}'")


def _acquisition(stack: Stack) -> dict[str, Any]:
    """Facts of the acquisition under their names in the patient file; lists where they tell volumes apart."""
    facts: dict[str, Any] = {}
    for name, value in stack.frame.facts.items():
        if name == "b_value_s_per_mm2":
            if stack.varies == name or value > 0:
                facts["b_values_s_per_mm2"] = stack.values(name)
        elif name == stack.varies:
            stem, unit = name.rsplit("_", 1)
            facts[f"{stem}s_{unit}"] = stack.values(name)
        elif name == "frame_duration_ms":
            durations = stack.values(name)
            if durations:
                facts["frame_durations_s"] = [round(d / 1e3, 6) for d in durations]
        else:
            facts[name] = value
    if stack.varies == "time":
        times = stack.times()
        if times:
            facts["frame_times_s"] = times
    return facts


def _declared(
    stack: Stack, role: str, unit: str | None, facts: dict[str, Any], factor: float = 1.0
) -> Proposal:
    """A map whose unit the files declare, or a proposal that says they do not."""
    codes = {f.real[2] for v in stack.volumes for f in v if f.real is not None}
    everywhere = all(f.real is not None for v in stack.volumes for f in v)
    if unit is None and everywhere and len(codes) == 1:
        found = _UCUM.get(next(iter(codes)))
        if found is not None:
            return Proposal(stack, role, found, facts, real=True)
    return Proposal(stack, role, unit, facts, factor=factor)


def _emission(stack: Stack, facts: dict[str, Any]) -> Proposal:
    series = stack.series[0]
    header, role = series.first, "pet" if series.modality == "PT" else "spect"
    role += "_dynamic" if len(stack.volumes) > 1 else ""
    corrected = header.get("CorrectedImage")
    words = [corrected] if isinstance(corrected, str) else list(corrected or ())
    if series.sop_class == _PET and words and "ATTN" not in words:
        return Proposal(stack, "", acquisition=facts, why="its attenuation is not corrected")
    starts = [f.began for v in stack.volumes for f in v if f.began is not None]
    given = activity(header, min(starts) if starts else None)
    if given is not None:
        known = {
            "injected_activity_Bq": given.injected, "half_life_s": given.half_life,
            "injection_to_reference_s": given.delay, "decay_correction": given.correction,
            "tracer": given.tracer, "nuclide": given.nuclide,
        }  # fmt: skip
        facts |= {k: v for k, v in known.items() if v not in (None, "")}
    unit, factor = _SHOWN.get(str(header.get("Units") or "").upper()), 1.0
    if unit is None and str(header.get("Units") or "").upper() == "CNTS":
        from .facts import as_number

        # Philips keeps the factors from counts in places of its own
        concentration = as_number(header.private(0x7053, 0x09, "Philips PET Private Group"))
        uptake = as_number(header.private(0x7053, 0x00, "Philips PET Private Group"))
        if concentration:
            unit, factor = "Bq/mL", concentration
        elif uptake:
            unit, factor = "SUV", uptake
    return _declared(stack, role, unit, facts, factor)


def _magnetic(stack: Stack, facts: dict[str, Any]) -> Proposal:
    header, words = stack.series[0].first, set(stack.component.split("/"))
    text = stack.series[0].description.lower()
    if "ADC" in words or re.search(r"\badc\b|apparent.diffusion", text):
        return _declared(stack, "adc", None, facts)
    if words & {
        "P",
        "PHASE",
        "R",
        "REAL",
        "I",
        "IMAGINARY",
        "EADC",
        "FA",
        "F",
        "FAT",
        "SUBTRACT",
        "SUBTRACTION",
    }:
        return Proposal(stack, "", acquisition=facts, why=f"its component is {stack.component}")
    if re.search(r"\bsub(traction)?\b", text):
        return Proposal(stack, "", acquisition=facts, why="it is a difference of images")
    if stack.varies == "flip_angle_deg":
        return Proposal(stack, "vfa", "arbitrary", facts)
    if "b_values_s_per_mm2" in facts:
        return Proposal(stack, "dwi", "arbitrary", facts)
    echo, repetition = facts.get("echo_time_ms"), facts.get("repetition_time_ms")
    inversion = facts.get("inversion_time_ms")
    if stack.varies == "time":
        if len(stack.volumes) >= _LEAST_DYNAMIC and echo is not None and echo < 10:
            return Proposal(stack, "dce", "arbitrary", facts)
        return Proposal(
            stack, "", acquisition=facts, why="it is a series over time that is no T1-weighted one"
        )
    if stack.varies:
        return Proposal(stack, "", acquisition=facts, why=f"its volumes differ in {stack.varies}")
    if echo is None or repetition is None:
        return Proposal(stack, "", acquisition=facts, why="its echo or repetition time is not given")
    if echo > 60:
        fluid = inversion is not None and inversion > 1500
        return Proposal(stack, "flair" if fluid else "t2", "arbitrary", facts)
    prepared = inversion is not None and 400 <= inversion <= 1500
    if echo < 30 and (repetition < 1200 or prepared):
        agent = header.get("ContrastBolusAgent") or header.get("ContrastBolusAgentSequence")
        after = bool(agent) or re.search(r"\b(post|gd|gad|km|c\+|\+c|ce)\b|\+c", text) is not None
        return Proposal(stack, "t1_post" if after else "t1", "arbitrary", facts)
    return Proposal(stack, "", acquisition=facts, why="its contrast is none that the package uses")
