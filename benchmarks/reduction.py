"""The reduced growth model of a virtual glioma per member, against the full order at equal steps.

The reduced model is trained as a cohort study trains it, and then runs a crowd of members at once; the full
order runs one member after the other. The difference is the relative L2 error inside the tumour at the worst
visit: the 99th percentile over parameters that were not trained on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import common

from vvuq_twin.physics.growth import advance
from vvuq_twin.reduction.training import Training, train
from vvuq_twin.study.cohort import CohortSpec
from vvuq_twin.study.exposure import exposure_map
from vvuq_twin.study.growth_problem import growth_problem
from vvuq_twin.study.schema import read_study
from vvuq_twin.virtual.glioma import make_patient

STUDY = Path(__file__).resolve().parents[1] / "studies" / "virtual_glioma" / "cohort.yaml"
SMALL = {"training": 6, "greedy": 0, "modes": 24, "unseen": 4, "crowd": 4, "timed": 1, "repeats": 1}


def measure(
    spacing: float = 4.0,
    training: int = 40,
    greedy: int = 24,
    modes: int = 128,
    unseen: int = 100,
    crowd: int = 64,
    timed: int = 4,
    repeats: int = 5,
    seed: int = 7000,
) -> list[common.Row]:
    cohort, _ = read_study(STUDY)
    assert isinstance(cohort, CohortSpec)
    spec = cohort.growth(STUDY.parent)
    patient = make_patient(seed, spacing, 2)
    exposure = exposure_map(patient.scans)
    weight = None if exposure is None else exposure.weight
    case = growth_problem(patient.scans, spec, weight, spec.assimilation.visits).case
    how = Training(n_train=training, n_greedy=greedy, n_valid=unseen, max_rank=modes, rounds=0)
    trained = train(case, seed, how)
    steps = replace(trained.reduced, longest=float(case.timeline.dt[case.timeline.dt > 0].min()))
    theta = case.space.sample(crowd, seed, "benchmark-reduction")
    values = case.values(theta)
    parts = [type(values)(*(v[i : i + 1] for v in values)) for i in range(timed)]

    def ours() -> None:
        steps.run(case, theta)

    def longer() -> None:
        trained.reduced.run(case, theta)

    def theirs() -> None:
        for one in parts:
            advance(case.faces, case.initial(one.initial), case.parameters(one), case.timeline, case.exposure)

    mine, other, ratio = common.alternate(ours, theirs, repeats, (crowd, timed))
    mine2, other2, ratio2 = common.alternate(longer, theirs, repeats, (crowd, timed))
    found = trained.validation
    notes = (
        f"{unseen} unseen: median {found.median:.2e}, 99 % {found.percentile_99:.2e}, worst {found.worst:.2e}; "
        f"estimate over truth {found.tightness:.1f} in the median; rank {trained.reduced.rank}, "
        f"{case.timeline.used} steps; training pays after {trained.timings.as_dict()['break_even']:.0f} members"
    )
    name = f"reduced growth, a member ({case.faces.n} voxels)"
    row = common.Row(
        name,
        mine,
        "full order, equal steps",
        other,
        ratio,
        "50, at an error of 1e-3",
        found.percentile_99,
        notes=notes,
    )
    wider = common.Row(
        "the same at its own longer steps", mine2, "full order", other2, ratio2, "", found.percentile_99
    )
    return [row, wider]


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--spacing", type=float, default=4.0, help="voxel size, mm")
    options.add_argument("--unseen", type=int, default=100, help="members that judge the error")
    common.show(measure(**vars(options.parse_args())))
