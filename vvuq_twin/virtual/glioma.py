"""A virtual glioma patient: truth on a finer grid than the twin's, with mechanisms the twin lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..domain.errors import RunFailed
from ..domain.grid import Grid
from ..domain.keys import generator
from ..imaging.series import ScanSeries, Treatments
from ..physics.faces import Faces, assemble
from ..physics.growth import GrowthParameters, Heterogeneity, advance
from ..physics.timeline import timeline
from .brain import LABELS, Brain, block_mean, make_brain
from .fields import smooth_noise
from .perfusion import true_exposure, true_ktrans
from .population import Truth, draw_truth, settings
from .scans import perfusion_scan, scan

#: Half-width in mm of the block of brain around the tumour in which the truth is computed.
_REACH = 46.0


@dataclass(frozen=True)
class VirtualPatient:
    """A patient whose truth is known.

    Parameters
    ----------
    scans : ScanSeries
        All that the twin may see.
    truth : Truth
        Parameters, among them those of mechanisms the twin lacks.
    cellularity : ndarray, shape (V, *grid.shape)
        True cellularity averaged to the scanner's voxels, at each visit.
    total : ndarray, shape (V,)
        True total cellularity of the visible tumour, cm3 of full capacity, from the fine grid.
    volume : ndarray, shape (V,)
        True volume of the visible tumour, cm3, from the fine grid.
    """

    scans: ScanSeries
    truth: Truth
    cellularity: np.ndarray
    total: np.ndarray
    volume: np.ndarray


def schedule() -> tuple[np.ndarray, Treatments]:
    """Days of the visits, and the treatments of the standard chemoradiation schedule."""
    plan = settings()["treatment"]
    start, count = int(plan["start_day"]), int(plan["fractions"])
    fractions = [
        (float(start + 7 * (i // 5) + i % 5) + 0.4, float(plan["fraction_gy"])) for i in range(count)
    ]
    first = plan["concomitant"]
    doses = [(start + i + 0.3, float(first["mg_per_m2"])) for i in range(first["doses"])]
    later = plan["adjuvant"]
    doses += [
        (d + i + 0.3, float(later["mg_per_m2"])) for d in later["start_days"] for i in range(later["doses"])
    ]
    days = np.asarray(settings()["visits_days"], dtype=float)
    return days, Treatments(tuple(doses), tuple(fractions), "temozolomide")


def make_patient(seed: int, spacing: float, refine: int = 2) -> VirtualPatient:
    """Make a virtual patient.

    Parameters
    ----------
    seed : int
        Key of everything about the patient.
    spacing : float
        Voxel size of the scans, mm.
    refine : int
        The truth's voxels are this many times smaller, its steps half a day.

    Returns
    -------
    VirtualPatient

    Notes
    -----
    What the twin does not know: a generalised logistic law, a growth rate that varies in space and
    changes after radiotherapy, protection of badly perfused tumour from radiation.
    """
    truth = draw_truth(seed)
    fine = make_brain(spacing / refine, seed, refine)
    coarse = _coarsen(fine, refine)
    block = _block_around(fine, _seed_point(fine, seed), refine)
    local = Brain(_cut_grid(fine.grid, block), fine.tissue[block])
    faces = assemble(local.grid, local.mask, local.tissue, {name: label for label, name in LABELS.items()})
    numbers = settings()["unknown"]
    growth_map = np.exp(
        numbers["growth_map_sd"]
        * smooth_noise(local.grid, numbers["growth_map_length_mm"], seed, "growth map")
    )
    law = Heterogeneity(faces.gather(growth_map), None, truth["saturation_exponent"])
    start = _grow_until_diagnosis(faces, truth, law, _seed_point(fine, seed) - _corner(block, fine.grid))

    field = faces.scatter(start)
    ktrans = true_ktrans(local.grid, field, seed)
    exposure = true_exposure(local.grid, local.mask, ktrans)
    weight = exposure / exposure[field >= settings()["at_diagnosis"]["detection"]].mean()
    perfused = np.clip(ktrans / settings()["perfusion"]["ktrans_per_min"], 0.0, 1.0)
    sensitivity = 1.0 - truth["hypoxic_protection"] * (1.0 - perfused)
    law = Heterogeneity(law.growth, faces.gather(sensitivity), law.exponent)
    states, days, treatments = _treat(faces, truth, law, start, faces.gather(weight))

    detection = settings()["at_diagnosis"]["detection"]
    visible = states >= detection
    cm3 = local.grid.voxel_volume / 1000.0
    whole = tuple(slice(b.start // refine, b.stop // refine) for b in block)
    cellularity = np.zeros((len(days), *coarse.grid.shape))
    for v, state in enumerate(states):
        cellularity[v][whole] = block_mean(faces.scatter(state), refine)
    ktrans_coarse = np.full(coarse.grid.shape, settings()["perfusion"]["normal_ktrans_per_min"])
    ktrans_coarse[whole] = block_mean(ktrans, refine)
    visits = tuple(
        scan(coarse.grid, coarse.tissue, LABELS, cellularity[v], truth, v, days[v]) for v in range(len(days))
    )
    series = ScanSeries(
        f"virtual-{seed}", coarse.grid, coarse.mask, coarse.tissue, dict(LABELS), visits, treatments,
        perfusion_scan(coarse.grid, ktrans_coarse, truth),
    )  # fmt: skip
    return VirtualPatient(
        series, truth, cellularity, cm3 * (states * visible).sum(axis=1), cm3 * visible.sum(axis=1)
    )


def _coarsen(brain: Brain, factor: int) -> Brain:
    """The brain as the scanner's voxels see it: the tissue that fills most of a voxel."""
    share = [block_mean((brain.tissue == label).astype(float), factor) for label in (0, *LABELS)]
    grid = brain.grid
    shape = tuple(n // factor for n in grid.shape)
    spacing = tuple(h * factor for h in grid.spacing)
    origin = tuple(o + (factor - 1) / 2 * h for o, h in zip(grid.origin, grid.spacing))
    return Brain(Grid(shape, spacing, origin), np.argmax(share, axis=0))  # type: ignore[arg-type]


def _seed_point(brain: Brain, seed: int) -> np.ndarray:
    """Where the tumour began, mm from the first voxel: deep white matter away from the midline."""
    centre = (np.array(brain.grid.shape) - 1) / 2 * np.array(brain.grid.spacing)
    draw = generator(seed, "site")
    side = 1.0 if draw.random() < 0.5 else -1.0
    return centre + np.array([side * 36.0, 0.0, 8.0]) + draw.uniform(-1, 1, 3) * np.array([5.0, 24.0, 10.0])


def _block_around(brain: Brain, point: np.ndarray, factor: int) -> tuple[slice, slice, slice]:
    """A block of voxels around the point, its edges on the scanner's voxels."""
    out = []
    for n, h, p in zip(brain.grid.shape, brain.grid.spacing, point):
        low = max(0, int((p - _REACH) / h)) // factor * factor
        high = min(n, -(-int((p + _REACH) / h) // factor) * factor)
        out.append(slice(low, high))
    return tuple(out)  # type: ignore[return-value]


def _corner(block: tuple[slice, ...], grid: Grid) -> np.ndarray:
    return np.array([b.start * h for b, h in zip(block, grid.spacing)])


def _cut_grid(grid: Grid, block: tuple[slice, ...]) -> Grid:
    shape = tuple(b.stop - b.start for b in block)
    origin = tuple(o + c for o, c in zip(grid.origin, _corner(block, grid)))
    return Grid(shape, grid.spacing, origin, grid.direction)  # type: ignore[arg-type]


def _parameters(faces: Faces, truth: Truth, rate: Any, drug: bool = True) -> GrowthParameters:
    return GrowthParameters.of(
        np.array([truth[f"D_{name}"] for name in faces.names]),
        rate,
        drug_kill=truth["alpha_drug"] if drug else 0.0,
        drug_decay=truth["beta_drug"],
        exposure_weight=1.0,
        radiosensitivity=truth["alpha_rt"],
        alpha_beta=settings()["alpha_beta_gy"],
    )


def _grow_until_diagnosis(faces: Faces, truth: Truth, law: Heterogeneity, at: np.ndarray) -> np.ndarray:
    """Untreated growth from a small seed to the drawn volume at diagnosis.

    It grew denser and sharper before than after (twice the rate, half the diffusivity), so that the
    core is near capacity when it is found.
    """
    points = faces.grid.points(faces.mask)
    state = 0.6 * np.exp(-((points - at) ** 2).sum(axis=1) / (2 * 4.0**2))
    target = truth["volume_cm3"] * 1000.0 / faces.grid.voxel_volume
    detection = settings()["at_diagnosis"]["detection"]
    stretch = np.arange(1.0, 11.0) * 2.0
    now = _parameters(faces, truth, 2.0 * truth["k"], drug=False)
    before = replace(now, diffusivity=0.5 * now.diffusivity)
    for _ in range(60):
        line = timeline(0.0, stretch.tolist(), dt_max=2.0)
        states, _ = advance(faces, state, before, line, None, law)
        for candidate in states[0]:
            if (candidate >= detection).sum() >= target:
                return candidate
        state = states[0, -1]
    raise RunFailed(f"the virtual tumour {truth.seed} did not reach its volume at diagnosis")


def _treat(
    faces: Faces, truth: Truth, law: Heterogeneity, start: np.ndarray, exposure: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Treatments]:
    """The true course under treatment: states (V, n) at the visits."""
    days, treatments = schedule()
    unit = settings()["treatment"]["concomitant"]["mg_per_m2"]
    doses = [(t, amount / unit) for t, amount in treatments.drug_doses]
    line = timeline(0.0, days.tolist(), doses, treatments.fractions, dt_max=0.5)
    after = line.t + 0.5 * line.dt > max(t for t, _ in treatments.fractions)
    rate = truth["k"] * np.where(after, truth["regrowth_factor"], 1.0)
    states, status = advance(faces, start, _parameters(faces, truth, rate[None, :]), line, exposure, law)
    if status[0] != 0:
        raise RunFailed(f"the truth of virtual patient {truth.seed} is not finite")
    return states[0], days, treatments
