"""Settings of the perfusion study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..domain.errors import BadInput
from ..domain.parameters import Parameter, ParameterSpace, prior_from_spec
from ..imaging.dce import DceSeries
from ..twin.tracer import SHARED, Softened, TracerModel, VoxelPrior
from .perfusion_filter import FilterSettings
from .perfusion_series import RegistrationSpec, VoxelsSpec
from .schema import Strict, StudySpec

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
UNITS = {"onset": "s", "scale": "1", "decay": "1/min", "dispersion": "1"}

# How long after the last frame before the bolus the plasma curve is resolved finely.
FIRST_PASS_S = 40.0


class SoftenedSpec(Strict):
    """``bend * log(1 + exp((location + spread z)/bend))``."""

    location: float
    spread: Positive
    bend: Positive

    def build(self) -> Softened:
        return Softened(self.location, self.spread, self.bend)


class KepSpec(Strict):
    median_per_min: Positive
    sd_log: Positive


class VoxelPriorSpec(Strict):
    """Prior of every voxel's parameters."""

    ve: SoftenedSpec
    vp: SoftenedSpec
    kep: KepSpec


class FilterSpec(Strict):
    """Settings of the assimilation; see ``FilterSettings``."""

    members: Annotated[int, Field(ge=20)]
    settled_s: Positive
    passing: Positive
    relative: Annotated[float, Field(ge=0)]
    modes: Annotated[int, Field(ge=0)]
    scan_relative: Annotated[float, Field(ge=0)]
    noise_relative: Positive
    noise_weight: Positive
    relax_shared: Fraction
    shared_voxels: Annotated[int, Field(ge=1)]


class CandidateSpec(Strict):
    """What is chosen at the rolling origins.

    Parameters
    ----------
    variance : float
        Of the discrepancy, over the voxel error's.
    memory_s : float
        Correlation time of the discrepancy.
    response : float
        Prior standard deviation of a voxel's response to a breathing score, over the voxel error's.
    trust : tuple of float
        Shares of the exchange model's course after the last frame to forecast by; each is a candidate.
    """

    variance: Annotated[float, Field(ge=0)]
    memory_s: Positive
    response: Annotated[float, Field(ge=0)]
    trust: Annotated[tuple[Fraction, ...], Field(min_length=1)]


class PerfusionSpec(StudySpec):
    """Settings of a perfusion study.

    Parameters
    ----------
    assimilate : int
        Frames assimilated; the others are forecast.
    origins : tuple of int
        Rolling origins inside the frames assimilated, for every choice and every error law.
    last : int
        Frames of the baseline that takes the mean of the last.
    arterial_input : mapping
        Priors of onset (s), scale, decay (1/min) and dispersion.
    first_pass_step_s : float
        Resolution of the plasma curve while the bolus passes.
    breathing : int
        Breathing scores of a frame; 0 leaves the response to breathing out.
    candidates : tuple
        To choose from by CRPS at the rolling origins, the mean of blind forecast and forecast given the breathing.
    choose_every : int
        The choice is made on every so many voxels, and all of the tumour.
    """

    kind: Literal["perfusion"]
    assimilate: Annotated[int, Field(ge=20)]
    origins: Annotated[tuple[int, ...], Field(min_length=1)]
    last: Annotated[int, Field(ge=2)]
    registration: RegistrationSpec
    voxels: VoxelsSpec
    arterial_input: dict[str, dict[str, dict[str, float]]]
    first_pass_step_s: Positive
    voxel_prior: VoxelPriorSpec
    filter: FilterSpec
    breathing: Annotated[int, Field(ge=0)]
    candidates: Annotated[tuple[CandidateSpec, ...], Field(min_length=1)]
    choose_every: Annotated[int, Field(ge=1)]

    def model(self, series: DceSeries) -> TracerModel:
        """The tracer model on the series' frames."""
        for name in self.arterial_input:
            if name not in SHARED:
                raise BadInput(
                    f"the key '{name}' is not known", f"arterial_input.{name}", "use " + ", ".join(SHARED)
                )
        parameters = []
        for name in SHARED:
            where = f"arterial_input.{name}"
            if name not in self.arterial_input:
                raise BadInput("this key is missing", where, "give its prior")
            parameters.append(Parameter(name, UNITS[name], prior_from_spec(self.arterial_input[name], where)))
        shared = ParameterSpace(tuple(parameters))
        prior = self.voxel_prior
        voxel = VoxelPrior(prior.ve.build(), prior.vp.build(), prior.kep.median_per_min, prior.kep.sd_log)
        start = float(series.times[series.baseline - 1])
        return TracerModel(series.times, shared, voxel, (start, start + FIRST_PASS_S, self.first_pass_step_s))

    def settings(self, baseline: int, candidate: CandidateSpec, trust: float) -> FilterSettings:
        """The filter's settings with a candidate."""
        return FilterSettings(
            first=baseline, discrepancy=candidate.variance, memory_s=candidate.memory_s,
            response=candidate.response, trust=trust, **self.filter.model_dump(),
        )  # fmt: skip
