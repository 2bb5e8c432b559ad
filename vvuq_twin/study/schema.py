"""The study file: what is asked, of whom, with which settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..domain.errors import BadInput, near
from ..domain.yamlfile import read_yaml, validate


class Strict(BaseModel):
    """A part of a study file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ContextOfUse(Strict):
    """What the model's answer is for (ASME V&V 40: question of interest, context of use, model risk)."""

    question: str
    context_of_use: str
    model_influence: Literal["low", "medium", "high"]
    decision_consequence: Literal["low", "medium", "high"]
    limitations: tuple[str, ...] = ()


class StudySpec(Strict):
    """What every kind of study file has; each kind adds its own settings."""

    kind: str
    title: str
    use: ContextOfUse
    seed: Annotated[int, Field(ge=0)]
    data: str | None = None


def spec_class(kind: str, where: str) -> type[StudySpec]:
    """The settings class of a kind of study.

    Raises
    ------
    BadInput
        If the kind is not known.
    """
    if kind == "growth":
        from .growth_spec import GrowthSpec

        return GrowthSpec
    if kind == "cohort":
        from .cohort import CohortSpec

        return CohortSpec
    if kind == "perfusion":
        from .perfusion_spec import PerfusionSpec

        return PerfusionSpec
    if kind == "lesions":
        from .lesions import LesionSpec

        return LesionSpec
    if kind == "filters":
        from .filters import FiltersSpec

        return FiltersSpec
    raise BadInput(
        f"the kind of study '{kind}' is not known",
        where,
        near(kind, ("growth", "cohort", "filters", "perfusion", "lesions")),
    )


def read_study(path: Path) -> tuple[StudySpec, str]:
    """A study file, validated, and its text as written.

    Raises
    ------
    BadInput
        One sentence with the file and the field.
    """
    path = Path(path)
    data: dict[str, Any] = read_yaml(path)
    if "kind" not in data:
        raise BadInput("this key is missing", f"{path.name}: kind", "add one of: growth, perfusion, lesions")
    model = spec_class(str(data["kind"]), f"{path.name}: kind")
    return validate(model, data, path.name), path.read_text(encoding="utf-8")
