"""From a patient's scans and a study's settings to the twin's problem: prior, schedule, observations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, sparse

from ..domain.errors import BadInput
from ..domain.observations import ObservationError, Observations
from ..domain.parameters import LogNormal, Normal, Parameter, ParameterSpace
from ..imaging.initial import InitialSettings, adc_floor, initial_field
from ..imaging.noise import Representation, repeatability, scan_error, voxel_noise
from ..imaging.series import ScanSeries, ScanVisit
from ..physics.faces import Faces, assemble
from ..physics.timeline import timeline
from ..reduction.case import GrowthCase, GrowthNoise
from .growth_spec import GrowthSpec

#: ADC is assimilated in um2/ms, so that values are near one.
ADC_SCALE = 1.0e3


@dataclass(frozen=True)
class VisitScan:
    """One visit's scan as the assimilation sees it: means over blocks of voxels, and the visible volume.

    Parameters
    ----------
    visit : int
    cells : ndarray of int, shape (c,)
        Active voxels observed.
    inside : ndarray of bool, shape (c,)
        In the visible tumour: ADC is observed there; elsewhere "below detection" is.
    block : ndarray of int, shape (c,)
        Block of each voxel; voxels inside and outside the outline are in different blocks.
    observations : Observations
        Of the blocks' means, um2/ms (of the visible excess outside), and last the visible volume over
        its ``volume_unit``.
    volume_unit : float
        Voxels.
    """

    visit: int
    cells: np.ndarray
    inside: np.ndarray
    block: np.ndarray
    observations: Observations
    volume_unit: float

    def predict(
        self, cellularity: np.ndarray, adc_min: np.ndarray, adc_water: float, detection: float
    ) -> np.ndarray:
        """Predicted observations.

        Parameters
        ----------
        cellularity : ndarray, shape (N, c)
        adc_min : ndarray, shape (N,)
            mm2/s.
        adc_water : float
            mm2/s.
        detection : float

        Returns
        -------
        ndarray, shape (N, m)
            Means of ``ADC_w - (ADC_w - ADC_min) N`` inside; outside of the excess over detection times
            ``ADC_w - ADC_min``, which is zero wherever the member too has nothing visible.
        """
        span = ADC_SCALE * (adc_water - adc_min)[:, None]
        excess = np.maximum(cellularity - detection, 0.0)
        voxels = np.where(self.inside, ADC_SCALE * adc_water - span * cellularity, span * excess)
        means = block_means(voxels, self.block)
        volume = (cellularity >= detection).sum(axis=1) / self.volume_unit
        return np.concatenate([means, volume[:, None]], axis=1)


def block_means(values: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Means (N, b) over the voxels (N, c) of each block; NaN voxels do not count, empty blocks are NaN."""
    count = int(block.max()) + 1
    member = sparse.csr_array(
        (np.ones(len(block)), (np.arange(len(block)), block)), shape=(len(block), count)
    )
    present = np.isfinite(values)
    below = present @ member
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(present, values, 0.0) @ member) / below)


@dataclass(frozen=True)
class GrowthProblem:
    """What a growth study solves for one patient.

    Parameters
    ----------
    series : ScanSeries
    spec : GrowthSpec
    case : GrowthCase
    scans : tuple of VisitScan
        One per visit.
    adc_reference : float
        Centre of ADC_min's prior, mm2/s: what a reader of the scan without a twin would use.
    """

    series: ScanSeries
    spec: GrowthSpec
    case: GrowthCase
    scans: tuple[VisitScan, ...]
    adc_reference: float

    @property
    def space(self) -> ParameterSpace:
        return self.case.space

    @property
    def shared(self) -> list[int]:
        """Places of the parameters that hold for all voxels and times: no initial mode, no growth noise."""
        apart = ("initial_", "growth_noise_")
        return [i for i, n in enumerate(self.space.names) if not n.startswith(apart)]

    def predict(self, scan: VisitScan, cellularity: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Predicted observations (N, m) of a scan from the members' cellularity at its cells."""
        adc_min = theta[:, self.space.index("adc_min")]
        return scan.predict(
            cellularity, adc_min, self.spec.observation.adc_water_mm2_per_s, self.spec.model.detection
        )


def until(problem: GrowthProblem, visits: int) -> GrowthProblem:
    """The problem with a schedule that ends at the last of the first ``visits`` visits: nothing after it is run."""
    case, given, spec = problem.case, problem.series.treatments, problem.spec
    days = case.timeline.visits[:visits]
    edges = () if case.noise is None else case.noise.edges[1:-1]
    line = timeline(
        case.timeline.t0, days.tolist(), [(t, a / spec.dose_unit_mg_per_m2) for t, a in given.drug_doses],
        given.fractions, spec.model.step_days, breaks=[e for e in edges if e < days[-1]],
    )  # fmt: skip
    return replace(problem, case=case.on(line))


def growth_problem(
    series: ScanSeries, spec: GrowthSpec, exposure: np.ndarray | None, assimilated: int
) -> GrowthProblem:
    """Set up the twin's problem.

    Parameters
    ----------
    series : ScanSeries
    spec : GrowthSpec
    exposure : ndarray, grid.shape, optional
        Local over mean exposure to the drug.
    assimilated : int
        How many visits will be assimilated; the others are held out.

    Raises
    ------
    BadInput
        If there are not more visits than are to be assimilated, or the parameters do not fit the tissues.
    """
    if not 1 <= assimilated < len(series.visits):
        raise BadInput(
            f"{assimilated} visits cannot be assimilated of {len(series.visits)}", "assimilation.visits",
            "leave at least one visit to score the forecast on (--assimilate)",
        )  # fmt: skip
    faces = assemble(series.grid, series.brain, series.tissue, {n: k for k, n in series.labels.items()})
    m, o = spec.model, spec.observation
    first = series.visits[0]
    reference = adc_floor(first.adc, first.tumour & series.brain, o.adc_floor_quantile)
    settings = InitialSettings(
        o.adc_water_mm2_per_s, m.detection, m.initial_modes, m.initial_sd, m.initial_length_mm,
        m.tail_length_mm, m.tail_sd_log, repeatability("adc", o.organ).wcv, o.adc_min_sd_log,
    )  # fmt: skip
    mean, modes = initial_field(series.grid, series.brain, first.adc, first.tumour, reference, settings)
    days = [v.day for v in series.visits]
    count = max(1, int(np.ceil((days[-1] - days[0]) / m.noise_interval_days)))
    edges = days[0] + m.noise_interval_days * np.arange(count + 1)
    noise = GrowthNoise(m.noise_sd, m.noise_correlation_days, tuple(edges.tolist()))
    given = series.treatments
    unit = spec.dose_unit_mg_per_m2
    line = timeline(
        days[0], days, [(t, a / unit) for t, a in given.drug_doses], given.fractions, m.step_days,
        pad_to=64, breaks=edges[1:-1].tolist(),
    )  # fmt: skip
    space = _space(
        spec, faces, reference, len(modes), noise.size, bool(given.drug_doses), bool(given.fractions)
    )
    fixed = {name: value for name, value in spec.fixed.items() if name not in space.names}
    case = GrowthCase(
        faces, line, space, mean, modes, m.detection, fixed,
        None if exposure is None else faces.gather(exposure), noise, m.saturation,
    )  # fmt: skip
    return GrowthProblem(series, spec, case, observe(series, spec, faces, reference), reference)


def _space(
    spec: GrowthSpec, faces: Faces, adc_min: float, modes: int, intervals: int, drug: bool, radiation: bool
) -> ParameterSpace:
    """Physical parameters, ADC_min, and the scores of the initial modes and the growth noise."""
    wanted = spec.space().parameters
    tissues = {f"D_{name}" for name in faces.names}
    missing = tissues - {p.name for p in wanted} - set(spec.fixed)
    if missing:
        raise BadInput(
            f"the patient has the tissue '{min(missing)[2:]}' but the study has no {min(missing)}",
            "parameters", "add it",
        )  # fmt: skip
    unused = {"alpha_drug", "beta_drug", "exposure_weight"} if not drug else set()
    unused |= {"alpha_rt", "alpha_beta"} if not radiation else set()
    physical = [
        p for p in wanted if p.name not in unused and not (p.name.startswith("D_") and p.name not in tissues)
    ]
    scores = [
        Parameter(f"initial_{i + 1}", "1", Normal(0.0, 1.0), "score of an initial mode") for i in range(modes)
    ]
    scores += [
        Parameter(f"growth_noise_{i + 1}", "1", Normal(0.0, 1.0), "score of the growth noise")
        for i in range(intervals)
    ]
    floor = Parameter(
        "adc_min", "mm2/s", LogNormal(adc_min, spec.observation.adc_min_sd_log), "ADC at capacity",
        "robust low quantile of the first visit's tumour",
    )  # fmt: skip
    every = (*physical, floor, *scores)
    # the first initial mode is what ADC_min's error does to the first scan: the two go together
    together = np.eye(len(every))
    i = len(physical)
    together[i, i + 1] = together[i + 1, i] = 0.999
    return ParameterSpace(every, together)


def observe(series: ScanSeries, spec: GrowthSpec, faces: Faces, adc_min: float) -> tuple[VisitScan, ...]:
    """The scans as observations with the three parts of their error."""
    out = []
    number = np.full(series.grid.shape, -1)
    number[series.brain] = np.arange(faces.n)
    seen = np.zeros(series.grid.shape, dtype=bool)
    for index, visit in enumerate(series.visits):
        seen |= visit.tumour & series.brain
        out.append(_scan(series, spec, visit, index, seen, number, adc_min))
    return tuple(out)


def _scan(
    series: ScanSeries, spec: GrowthSpec, visit: ScanVisit, index: int, seen: np.ndarray, number: np.ndarray,
    adc_min: float,
) -> VisitScan:  # fmt: skip
    """One scan: ADC inside the outline, "nothing visible" in a margin around all tumour seen so far."""
    o = spec.observation
    distance = ndimage.distance_transform_edt(~seen, sampling=series.grid.spacing)
    where = np.argwhere((distance <= o.margin_mm) & series.brain)
    at = tuple(where.T)
    inside = visit.tumour[at]
    coords = where * np.asarray(series.grid.spacing)
    key = np.column_stack([(coords // o.block_mm).astype(int), inside])
    block = np.unique(key, axis=0, return_inverse=True)[1].ravel()

    voxels = np.where(inside, ADC_SCALE * visit.adc[at], 0.0)
    y = block_means(voxels[None, :], block)[0]
    # a block of which most is missing is missing
    y[block_means(np.isfinite(voxels)[None, :].astype(float), block)[0] < 0.5] = np.nan
    shown = block_means(inside[None, :].astype(float), block)[0] > 0.5
    centres = np.column_stack([block_means(c[None, :], block)[0] for c in coords.T])
    size = np.bincount(block)

    span = ADC_SCALE * (o.adc_water_mm2_per_s - adc_min)
    wcv = repeatability("adc", o.organ).wcv
    noise = 0.0
    if shown.any():
        try:
            noise = voxel_noise(ADC_SCALE * visit.adc, visit.tumour & series.brain, series.grid.spacing).sd
        except BadInput:
            # the tumour is too small to tell: the repeatability stands in for the voxel noise
            noise = wcv * float(np.nanmedian(ADC_SCALE * visit.adc[visit.tumour]))
    level = np.where(shown, np.nan_to_num(y), 0.0)
    representation = Representation(
        span * o.representation_sd, o.representation_length_mm, span * o.local_sd, o.representation_modes
    )
    # a block of a few voxels says as little about its neighbourhood as one voxel: the local part stays
    error = scan_error(level, centres, np.where(shown, noise / np.sqrt(size), 0.0), wcv, representation)
    volume = max(float(inside.sum()), 20.0)
    # a surface of one voxel's thickness is uncertain to a fraction of a voxel
    edge = o.edge_mm / max(series.grid.spacing) * volume ** (-1.0 / 3.0) * 4.84
    sd = np.sqrt(o.volume_cv**2 + edge**2 + o.volume_representation**2)
    both = ObservationError(
        np.append(error.voxel, sd),
        np.concatenate([error.scan, np.zeros((1, error.scan.shape[1]))]),
        np.concatenate([error.representation, np.zeros((1, error.representation.shape[1]))]),
    )
    observations = Observations(
        np.append(y, inside.sum() / volume), both, np.concatenate([centres, centres.mean(axis=0)[None, :]]),
        [f"{series.id}/{visit.id}"], visit.day,
    )  # fmt: skip
    return VisitScan(index, number[at], inside, block, observations, volume)
