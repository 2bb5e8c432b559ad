"""Settings of a growth study: scans over time of a tumour under treatment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ..domain.errors import BadInput
from ..domain.parameters import Parameter, ParameterSpace, Prior, prior_from_spec
from ..domain.units import factor
from .schema import Strict, StudySpec

#: Units the model works in.
MODEL_UNITS = {
    "k": "1/day", "alpha_rt": "1/Gy", "alpha_drug": "1/day", "beta_drug": "1/day", "exposure_weight": "1",
    "alpha_beta": "Gy",
}  # fmt: skip
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class UncertainSpec(Strict):
    """One uncertain parameter of the study file."""

    unit: str
    prior: dict[str, dict[str, float]]
    description: str = ""
    source: str

    @field_validator("prior")
    @classmethod
    def _known(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        try:
            prior_from_spec(value, "prior")
        except BadInput as error:
            raise ValueError(f"{error.problem}{'; ' + error.mend if error.mend else ''}") from error
        return value

    def parameter(self, name: str) -> Parameter:
        """The parameter, its prior in the unit the model works in."""
        unit = "mm2/day" if name.startswith("D_") else MODEL_UNITS[name]
        return Parameter(
            name, unit, _scaled(self.prior, factor(self.unit, unit, name)), self.description, self.source
        )


def _scaled(spec: dict[str, dict[str, float]], by: float) -> Prior:
    """The prior of ``by`` times the variable."""
    if by == 1.0:
        return prior_from_spec(spec, "prior")
    name, arguments = next(iter(spec.items()))
    keep = {"sd_log", "location", "scale"}
    return prior_from_spec({name: {k: v if k in keep else v * by for k, v in arguments.items()}}, "prior")


class VirtualSpec(Strict):
    """The default patient, made here: its seed, the scanner's voxel size, and how much finer the truth is."""

    seed: Annotated[int, Field(ge=0)]
    spacing_mm: Positive
    refine: Annotated[int, Field(ge=2)] = 2


class ModelSpec(Strict):
    """The twin's growth model; ``saturation`` is the exponent nu of its law ``(k / nu) N (1 - N^nu)``: 1 is logistic,
    0 Gompertz's."""

    saturation: Annotated[float, Field(ge=0, le=4)] = 1.0
    step_days: Positive = 1.0
    detection: Annotated[float, Field(gt=0, lt=1)] = 0.16
    initial_modes: Annotated[int, Field(ge=3)] = 12
    initial_sd: Positive = 0.05
    initial_length_mm: Positive = 8.0
    tail_length_mm: Positive = 2.0
    tail_sd_log: Positive = 0.4
    noise_interval_days: Positive = 28.0
    noise_sd: Annotated[float, Field(ge=0)] = 0.15
    noise_correlation_days: Positive = 60.0


class ReductionSpec(Strict):
    """How the full order is reduced: designed runs, greedy runs in each of some turns, modes, voxels per mode for
    the projected square (0: the exact tensor), longest step, energy the basis may leave out, wanted error, unseen
    members that judge it, how often the worst of those may join the training."""

    training: Count = 48
    greedy: Annotated[int, Field(ge=0)] = 24
    turns: Count = 2
    modes: Count = 128
    points: Annotated[int, Field(ge=0)] = 4
    step_days: Positive = 3.0
    energy: Positive = 1e-5
    tolerance: Positive = 1e-2
    validation: Count = 16
    rounds: Annotated[int, Field(ge=0)] = 1


class ObservationSpec(Strict):
    """The three parts of the observation error (docs/imaging.md)."""

    adc_water_mm2_per_s: Positive = 3.0e-3
    organ: str = "brain"
    margin_mm: Positive = 8.0
    block_mm: Positive = 8.0
    volume_cv: Positive = 0.05
    edge_mm: Positive = 0.3
    volume_representation: Annotated[float, Field(ge=0)] = 0.08
    adc_floor_quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.02
    adc_min_sd_log: Positive = 0.1
    local_sd: Positive = 0.05
    representation_sd: Positive = 0.05
    representation_length_mm: Positive = 20.0
    representation_modes: Count = 20


#: Smoothers a study can choose among.
SchemeName = Literal["es-mda", "root-es-mda", "adaptive-es-mda", "ies"]


class AssimilationSpec(Strict):
    """The smoother: ``steps`` are how many there are, or the most if ``scheme`` chooses them itself."""

    scheme: SchemeName = "es-mda"
    visits: Annotated[int, Field(ge=1)] = 4
    members: Annotated[int, Field(ge=20)] = 200
    steps: Count = 4
    inflation: Annotated[float, Field(ge=1)] = 1.0
    sampling_inflation: bool = False


class SensitivitySpec(Strict):
    """Sobol indices and chaos expansion of the forecast quantities."""

    samples: Count = 128
    chaos_degree: Count = 3
    chaos_samples: Count = 512
    chaos_limit: Positive = 0.1
    agreement: Positive = 0.1
    resolution: Positive = 0.1


class CalibrationSpec(Strict):
    """NUTS on the shared parameters, with gradients through the reduced model."""

    chains: Annotated[int, Field(ge=2)] = 2
    tune: Annotated[int, Field(ge=20)] = 200
    draws: Annotated[int, Field(ge=20)] = 500
    modes: Count = 16


class MultifidelitySpec(Strict):
    """Full-order runs that correct the reduced model's forecast; budgets in runs of the full order, pilot included.

    The price of a full-order run in reduced runs is fixed here rather than measured, so that a study run again
    chooses the same runs.
    """

    budget: Positive = 40.0
    pilot: Annotated[int, Field(ge=8)] = 12
    cost_ratio: Annotated[float, Field(gt=1)] = 20.0
    sobol_budget: Positive | None = None

    @model_validator(mode="after")
    def _enough(self) -> MultifidelitySpec:
        from ..multifidelity.plan import LEAST

        least = self.pilot * (1.0 + 1.0 / self.cost_ratio) + LEAST
        if self.budget < least:
            raise ValueError(
                f"the budget ({self.budget:g} full-order runs) does not pay for the pilot and {LEAST} more; give at least "
                f"{least:.1f}"
            )
        return self


class ParameterReductionSpec(Strict):
    """Which parameters the scans and the forecast can do without."""

    draws: Annotated[int, Field(ge=2)] = 8
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05


class GrowthSpec(StudySpec):
    """A growth study."""

    virtual: VirtualSpec | None = None
    parameters: dict[str, UncertainSpec]
    fixed: dict[str, float] = {}
    model: ModelSpec = ModelSpec()
    reduction: ReductionSpec = ReductionSpec()
    observation: ObservationSpec = ObservationSpec()
    assimilation: AssimilationSpec = AssimilationSpec()
    sensitivity: SensitivitySpec | None = None
    calibration: CalibrationSpec | None = None
    multifidelity: MultifidelitySpec | None = None
    parameter_reduction: ParameterReductionSpec | None = None
    dose_unit_mg_per_m2: Positive = 75.0
    batch: Count = 50

    @field_validator("parameters")
    @classmethod
    def _named(cls, value: dict[str, UncertainSpec]) -> dict[str, UncertainSpec]:
        from ..domain.errors import near

        for name, spec in value.items():
            if not name.startswith("D_") and name not in MODEL_UNITS:
                raise ValueError(
                    f"the growth model has no parameter '{name}'; {near(name, [*MODEL_UNITS, 'D_white'])}"
                )
            try:
                spec.parameter(name)
            except BadInput as error:
                raise ValueError(str(error).rstrip(".")) from error
        return value

    def space(self) -> ParameterSpace:
        """The physical parameters (the initial field's and the noise's scores are added by the twin)."""
        return ParameterSpace(tuple(spec.parameter(name) for name, spec in self.parameters.items()))
