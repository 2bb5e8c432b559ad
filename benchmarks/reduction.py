"""Reduced models of a virtual glioma per member, against the full orders.

The reduced growth model is trained as a cohort study trains it, and then runs a crowd of members at once; the full
order runs one member after the other. The difference is the relative L2 error inside the tumour at the worst
visit: the 99th percentile over parameters that were not trained on. The error estimate is calibrated on one half of
them and checked on the other. Its gradient is compared with finite differences. Then an ensemble goes through all visits in a study's batches on two workers, with the total
cellularity and volume of every member, and the memory of all processes is watched. Last, linear plasma kinetics with transport over 48
hours: two oral doses, the drug in the tumour at every hour.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import common
import numpy as np
import psutil

from vvuq_twin.domain.parameters import LogNormal, Parameter, ParameterSpace
from vvuq_twin.ensemble.cluster import cluster
from vvuq_twin.ensemble.run import run_batches
from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import Agent
from vvuq_twin.physics.tissue import Tissue
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.cubature import POINTS
from vvuq_twin.reduction.exchange import exchange_modes, exchange_parameters, fading
from vvuq_twin.reduction.training import Trained, Training, train, training_parameters
from vvuq_twin.reduction.transport import build_transport, validate_transport
from vvuq_twin.reduction.transport_case import TransportCase
from vvuq_twin.reduction.validation import CROWD, validate
from vvuq_twin.study.cohort import CohortSpec
from vvuq_twin.study.exposure import exposure_map
from vvuq_twin.study.growth_model import StudyModel, model_context, quantities_task, save_model
from vvuq_twin.study.growth_problem import growth_problem
from vvuq_twin.study.schema import read_study
from vvuq_twin.virtual.glioma import make_patient

STUDY = Path(__file__).resolve().parents[1] / "studies" / "virtual_glioma" / "cohort.yaml"
SMALL = {
    "training": 6, "greedy": 0, "modes": 24, "unseen": 4, "members": 4, "doses": 2, "crowd": 4, "timed": 1,
    "repeats": 1, "workers": 1,
}  # fmt: skip


def growth(
    case: GrowthCase, how: Training, crowd: int, timed: int, repeats: int, seed: int
) -> tuple[Trained, list[common.Row]]:
    """Training, error, estimate, and the time of a member."""
    trained = train(case, seed, how)
    fine = replace(trained.reduced, longest=float(case.timeline.dt[case.timeline.dt > 0].min()))
    theta = case.space.sample(crowd, seed, "benchmark-reduction")
    values = case.values(theta)
    parts = [type(values)(*(v[i : i + 1] for v in values)) for i in range(timed)]

    def ours() -> None:
        fine.run(case, theta)

    def longer() -> None:
        trained.reduced.run(case, theta)

    def theirs() -> None:
        for one in parts:
            case.solve(case.initial(one.initial), one)

    mine, other, ratio = common.alternate(ours, theirs, repeats, (crowd, timed))
    mine2, other2, ratio2 = common.alternate(longer, theirs, repeats, (crowd, timed))
    found = trained.validation
    unseen = case.space.sample(how.n_valid, seed, "benchmark-check")
    checked = validate(trained.reduced, trained.probe, case, unseen)
    error = checked.error.max(axis=1)
    estimate = found.scale(checked.indicator, checked.days).max(axis=1)
    effectivity = estimate / np.maximum(error, 1e-300)
    notes = (
        f"{how.n_valid} unseen: median {found.median:.2e}, 99 % {found.percentile_99:.2e}, worst {found.worst:.2e}; "
        f"other {how.n_valid}: 99 % {np.quantile(error, 0.99, method='higher'):.2e}, worst {error.max():.2e}, the estimate above the truth for "
        f"{100 * (effectivity >= 1).mean():.0f} %, over it {np.median(effectivity):.1f} times in the median; "
        f"total cellularity off by {max(found.total_sd):.1e} and volume by {max(found.volume_sd):.1e} (root mean "
        f"square, worst visit); rank {trained.reduced.rank}, {case.timeline.used} steps; "
        f"training {trained.timings.offline:.0f} s, pays after {trained.timings.as_dict()['break_even']:.0f} members"
    )
    error99 = found.percentile_99
    name = f"reduced growth, a member ({case.faces.n} voxels)"
    target = "50, at an error of 1e-3"
    return trained, [
        common.Row(name, mine, "full order, equal steps", other, ratio, target, error99, notes=notes),
        common.Row("the same at its own longer steps", mine2, "full order", other2, ratio2, "", error99),
    ]


def gradient(case: GrowthCase, trained: Trained, repeats: int, seed: int) -> common.Row:
    """Last visit's total cellularity of one member in all parameters: one reverse pass against two runs a parameter."""
    theta = jnp.asarray(case.space.sample(1, seed, "benchmark-gradient")[0])

    @jax.jit
    def total(t: jax.Array) -> jax.Array:
        return trained.reduced.run(case, t[None, :], jnp)[0][0, -1] @ trained.reduced.operators.total

    slope = jax.jit(jax.grad(total))
    step = 1e-3 * jnp.abs(theta)

    def differences(step: jax.Array) -> np.ndarray:
        moves = jnp.diag(step)
        return np.array([(total(theta + m) - total(theta - m)) / (2.0 * h) for m, h in zip(moves, step)])

    mine, other, ratio = common.alternate(
        lambda: slope(theta).block_until_ready(), lambda: differences(step), repeats
    )
    # differences of fourth order; relative to the slope, or to a hundredth of the total if that is larger
    fourth = (4.0 * differences(step / 2.0) - differences(step)) / 3.0
    floor = 0.01 * float(total(theta)) / np.abs(np.asarray(theta))
    gap = np.abs(np.asarray(slope(theta)) - fourth) / np.maximum(np.abs(fourth), floor)
    return common.Row(
        f"gradient of the total cellularity in {case.space.size} parameters", mine, "central differences", other, ratio,
        "a difference of 1e-6", float(gap.max()),
    )  # fmt: skip


def ensemble(
    case: GrowthCase, trained: Trained, full: float, members: int, workers: int, seed: int
) -> common.Row:
    """Members through the study's own batches, by the reduced order alone: their quantities kept in a Zarr store."""
    z = case.space.gaussian_sample(members, seed, "benchmark-ensemble")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folder = Path(scratch)
        context = model_context(
            save_model(folder / "twin.pickle", StudyModel(case, trained.reduced, trained.probe, np.inf))
        )
        with cluster(workers, folder=folder) as client, Memory() as memory:
            first = run_batches(
                quantities_task, z[: 4 * workers * CROWD], folder / "first", CROWD, client, context=context
            )
            begun = memory.most
            start = time.perf_counter()
            done = run_batches(quantities_task, z, folder / "all", CROWD, client, context=context)
            took = time.perf_counter() - start
        lost = len(done.failed)
        assert np.array_equal(
            first["quantities"][:], done["quantities"][: len(first["quantities"][:])], equal_nan=True
        )
    notes = (
        f"{members} members through {len(case.timeline.visits)} visits, total and volume at each, in batches of {CROWD} on "
        f"{workers} workers: {took / 60:.1f} minutes on the clock, {took * 1e5 / members / 60:.1f} minutes for 1e5; {lost} failed; most "
        f"memory of all processes {memory.most:.2f} GiB, {1024 * (memory.most - begun):.0f} MiB of it after the first batches"
    )
    return common.Row(
        "an ensemble with its quantities, a member and worker", took * workers / members, "full order", full, full * members / (took * workers),
        "12 ms", notes=notes,
    )  # fmt: skip


class Memory:
    """The most memory that this process and its children held at once, GiB, looked at four times a second."""

    def __init__(self) -> None:
        self.most = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.25):
            held = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    held += process.memory_info().rss
            self.most = max(self.most, held / 2**30)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def drug(
    tissue: Tissue, agent: Agent, tumour: np.ndarray, unseen: int, timed: int, repeats: int, seed: int,
    modes: int = 12, step: float = 0.025, usual: float = 0.1, scores: int = 0, training: int = 12,
) -> common.Row:  # fmt: skip
    """Linear kinetics and transport over 48 hours.

    With ``scores`` the Ktrans map is uncertain too: so many modes of a log-normal error of 30 % in the tumour that fades over
    a rim of 8 mm, correlated over 8 mm (chosen: no repeatability of a pattern is known).

    The error is against steps of ``step`` hours; the full order is timed at ``usual`` ones, whose splitting
    error (5e-4) is about the reduced model's.
    """
    scan = Parameter("ktrans_factor", "1", LogNormal(1.0, 0.3))
    faces = tissue.faces
    field = exchange_modes(faces, fading(faces, tumour, 0.3, 8.0), 8.0, scores)
    space = ParameterSpace((*agent.parameters(), scan, *exchange_parameters(field)))
    route = agent.compartment("oral" if "oral" in agent.routes else "intravenous")
    case = TransportCase(
        tissue, agent, (Dose(0.0, 1.0, route), Dose(24.0, 1.0, route)), np.arange(1.0, 49.0), space,
        exchange=field.patterns,
    )  # fmt: skip
    reduced = build_transport(case, training_parameters(space, training, seed), step, 1e-6, modes)
    found = validate_transport(reduced, case, space.sample(unseen, seed, "benchmark-transport"), step, tumour)
    theta = space.sample(CROWD, seed, "benchmark-crowd")
    mine, other, ratio = common.alternate(
        lambda: reduced.run(case, theta), lambda: case.full(theta[:timed], usual), repeats, (CROWD, timed)
    )
    notes = (
        f"{agent.name}, 48 h, judged at steps of {step:g} h, timed at {usual:g} h; {unseen} unseen: amount in the tumour, worst hour, median "
        f"{found['amount_median']:.1e}, 99 % {found['amount_percentile_99']:.1e}; rank {reduced.rank}"
    )
    if scores:
        notes += (
            f"; {scores} modes of the map carry {100 * field.carried:.0f} % of its variance, {len(reduced.operators.base)} terms "
            f"interpolate it within {found['map_worst']:.1e}; total exposure within {found['exposure_worst']:.1e}"
        )
    name = f"reduced kinetics and transport{', uncertain map' if scores else ''}, a member ({faces.n} voxels)"
    return common.Row(
        name, mine, "full order", other, ratio, "1000, at an error of 1e-3", found["amount_percentile_99"],
        notes=notes,
    )  # fmt: skip


def known_start(case: GrowthCase) -> GrowthCase:
    """The case with tissue and treatment uncertain, but neither the first field nor a noise of growth."""
    space = [p for p in case.space.parameters if not p.name.startswith(("initial_", "growth_noise_"))]
    return replace(case, space=ParameterSpace(tuple(space)), modes=np.zeros((0, case.faces.n)), noise=None)


def measure(
    spacing: float = 4.0,
    training: int = 40,
    greedy: int = 24,
    modes: int = 128,
    points: int = POINTS,
    unseen: int = 100,
    members: int = 2000,
    workers: int = 2,
    doses: int = 200,
    crowd: int = CROWD,
    timed: int = 4,
    repeats: int = 5,
    seed: int = 7000,
    known: bool = False,
    transport: bool = False,
) -> list[common.Row]:
    cohort, _ = read_study(STUDY)
    assert isinstance(cohort, CohortSpec)
    spec = cohort.growth(STUDY.parent)
    patient = make_patient(seed, spacing, 2)
    exposure = exposure_map(patient.scans)
    assert exposure is not None
    tumour = exposure.faces.gather(patient.scans.visits[0].tumour).astype(bool)
    drugs = []
    for more in ({}, {"modes": 36, "scores": 4, "training": 32}) if doses else ():
        drugs.append(drug(exposure.tissue, exposure.agent, tumour, doses, timed, repeats, seed, **more))
    if transport:
        return drugs
    case = growth_problem(patient.scans, spec, exposure.weight, spec.assimilation.visits).case
    case = known_start(case) if known else case
    how = Training(n_train=training, n_greedy=greedy, n_valid=unseen, max_rank=modes, points=points, rounds=0)
    trained, rows = growth(case, how, crowd, timed, repeats, seed)
    rows.append(gradient(case, trained, repeats, seed))
    rows.append(ensemble(case, trained, rows[0].theirs, members, workers, seed))
    return rows + drugs


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--spacing", type=float, default=4.0, help="voxel size, mm")
    options.add_argument(
        "--unseen", type=int, default=100, help="members that judge the growth model's error"
    )
    options.add_argument(
        "--known", action="store_true", help="tissue and treatment uncertain, the first field known"
    )
    options.add_argument(
        "--transport", action="store_true", help="kinetics and transport of the drug only, not growth"
    )
    options.add_argument("--modes", type=int, default=128, help="of the reduced growth model, at most")
    options.add_argument("--training", type=int, default=40, help="designed training runs")
    options.add_argument("--greedy", type=int, default=24, help="greedy runs in each of two turns")
    options.add_argument("--points", type=int, default=POINTS, help="voxels per mode of the fitted square")
    options.add_argument("--members", type=int, default=2000, help="size of the ensemble")
    options.add_argument(
        "--doses",
        type=int,
        default=200,
        help="members that judge the transport model's error; 0 leaves it out",
    )
    common.show(measure(**vars(options.parse_args())))
