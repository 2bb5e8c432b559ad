"""The 48 h doxorubicin run of a virtual patient on its reduced model, per member, against the full orders.

Pressure, flow, solvent drag, protein binding and saturable uptake with twelve uncertain numbers. The error is that of
the free drug and of what cells took up, relative L2 inside the tumour, worst output time, against the full order
converged in time, over members that were not trained on; the estimate is calibrated on one half of them
and checked on the other. The time of a member is compared with the package's own run at the usual splitting steps, which
are the coarser of the two in time, and with the converged solver at the reduced model's steps. Priors: log-normal about the
files' values (most of them recalled), all with the same spread.
"""

from __future__ import annotations

import argparse
import time

import common
import numpy as np

from vvuq_twin.kinetics.plasma import Dose
from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.site import delivery_site
from vvuq_twin.reduction.backend import jax, jnp
from vvuq_twin.reduction.delivery import BATCH, ReducedDelivery
from vvuq_twin.reduction.delivery_build import DeliveryTraining, build_delivery, training_runs
from vvuq_twin.reduction.delivery_case import DeliveryCase
from vvuq_twin.reduction.delivery_numbers import delivery_space
from vvuq_twin.reduction.delivery_reference import case_grid, reference
from vvuq_twin.reduction.delivery_validation import (
    error_parts,
    flow_errors,
    relative_errors,
    scheme_effect,
    truth,
    validate_delivery,
)
from vvuq_twin.reduction.flow_build import FlowBasis
from vvuq_twin.reduction.training import training_parameters
from vvuq_twin.virtual.glioma import make_patient

#: Uncertain numbers; all but K and Lp are recalled.
UNCERTAIN = (
    "K_tumour", "K_normal", "Lp_tumour", "Lp_normal", "P_drug_tumour", "P_drug_normal", "D_drug_tumour",
    "tissue_free_to_cell_vmax", "tissue_free_to_cell_half_in", "tissue_free_to_cell_cells", "central_to_out", "volume",
)  # fmt: skip
#: Output times (h) and the usual longest splitting steps up to each.
TIMES = (0.25, 0.5, 1.0, 4.0, 12.0, 24.0, 48.0)
USUAL = (1 / 60, 1 / 60, 1 / 60, 1 / 30, 0.1, 0.25, 0.5)
SMALL = {
    "spacing": 8.0, "training": 6, "unseen": 4, "crowd": 4, "timed": 1, "parts": 1, "repeats": 1, "gradient": False,
}  # fmt: skip


def problem(spacing: float, sd_log: float, seed: int) -> DeliveryCase:
    """A virtual patient's tumour with 20 mm of tissue round it; 90 mg over a quarter of an hour."""
    scans = make_patient(seed, spacing, 1).scans
    assert scans.perfusion is not None
    tumour = scans.visits[0].tumour & scans.brain
    site = delivery_site(
        scans.grid, scans.brain, tumour, perfusion=scans.perfusion.ktrans, interstitium=scans.perfusion.ve
    )
    agent = load_agent("doxorubicin")
    space = delivery_space(site, agent, dict.fromkeys(UNCERTAIN, sd_log or None))
    return DeliveryCase(site, agent, (Dose(0.0, 90.0, duration=0.25),), np.array(TIMES), space)


def words(errors: np.ndarray) -> str:
    return (
        f"median {np.median(errors):.1e}, 99 % {np.quantile(errors, 0.99, method='higher'):.1e}, "
        f"worst {errors.max():.1e}"
    )


def flow_row(case: DeliveryCase, trained: FlowBasis, theta: np.ndarray, repeats: int) -> common.Row:
    """Pressure and flow."""
    few = theta[:4]
    errors = flow_errors(trained, case, theta[:16])
    x = case.inputs(theta)
    y = case.inputs(few)

    def ours() -> None:
        trained.flow.parts(x.fluid, trained.flow.solve(x.fluid))

    mine, other, ratio = common.alternate(
        ours, lambda: [case.flow(y, i) for i in range(len(few))], repeats, (len(theta), len(few))
    )
    notes = (
        f"{trained.flow.vectors.shape[1]} modes, {len(trained.flow.left)} entries of the matrix, {len(trained.flow.upward)} of "
        "the flow; " + "; ".join(f"{name} {words(e)}" for name, e in errors.items())
    )
    return common.Row(
        "reduced pressure and flow, a member", mine, "full order", other, ratio, "",
        float(errors["pressure"].max()), notes=notes,
    )  # fmt: skip


def slopes(model: ReducedDelivery, case: DeliveryCase, theta: np.ndarray) -> float:
    """Largest relative difference of the gradient from fourth-order finite differences."""

    @jax.jit
    def taken_up(z: jax.Array) -> jax.Array:
        return model.run(case, z[None, :], jnp)[0][0, -1, 2].mean()

    z = jnp.asarray(theta)
    gradient, worst = np.asarray(jax.grad(taken_up)(z)), 0.0
    for i in range(len(theta)):
        h = 2e-4 * float(theta[i])
        at = [float(taken_up(z.at[i].add(k * h))) for k in (-2, -1, 1, 2)]
        slope = (8.0 * (at[2] - at[1]) - (at[3] - at[0])) / (12.0 * h)
        worst = max(worst, abs(float(gradient[i]) / slope - 1.0))
    return worst


def measure(
    spacing: float = 4.0,
    sd_log: float = 0.3,
    training: int = 40,
    unseen: int = 200,
    modes: int = 40,
    crowd: int = 8 * BATCH,
    timed: int = 2,
    parts: int = 8,
    repeats: int = 3,
    seed: int = 1,
    gradient: bool = True,
) -> list[common.Row]:
    case = problem(spacing, sd_log, seed)
    how = DeliveryTraining(modes=modes)
    start = time.process_time()
    design = training_parameters(case.space, training, seed)
    model, trained = build_delivery(case, design, training_runs(case, design, how), how)
    offline = time.process_time() - start

    theta = case.space.sample(unseen, seed, "benchmark-delivery")
    wanted = truth(case, theta)
    judged = validate_delivery(model, case, theta, wanted)
    half = unseen // 2
    scale = validate_delivery(model, case, theta[:half], wanted[:half]).scale()
    estimate = scale(judged.indicator[half:], judged.times).max(axis=1)
    effectivity = estimate / judged.error[half:].max(axis=(1, 2))
    free, cell = judged.worst(0), judged.worst(2)

    many = np.resize(theta, (crowd, case.space.size))
    few = theta[:timed]
    mine, other, ratio = common.alternate(
        lambda: model.run(case, many), lambda: case.full(few, USUAL), repeats, (crowd, timed)
    )
    inside = case.site.tumour
    usual = relative_errors(case.full(few, USUAL, cells=inside).sound().amount, wanted[:timed])
    grid = case_grid(case, how.first, how.rate, how.longest)
    mine2, other2, ratio2 = common.alternate(
        lambda: model.indicate(case, many),
        lambda: reference(case, few, grid, inside),
        repeats,
        (crowd, timed),
    )
    size = f"{case.site.faces.n} voxels, {int(inside.sum())} of them tumour"
    notes = [
        f"{size}, spread {sd_log or 'of the library'}; {unseen} unseen: free {words(free)}; in cells {words(cell)}; "
        f"{int((judged.status != 0).sum())} failed; {model.rank} modes, {len(model.nodes.cell)} nodes, {len(grid.which)} "
        f"steps; offline {offline:.0f} s for {training} runs, pays after {offline / (other - mine):.0f} members",
        f"the full order at usual steps is itself off by {words(usual.max(axis=(1, 2)))}",
        f"estimate calibrated on {half}, checked on the other {unseen - half}: above the truth for "
        f"{100 * (effectivity >= 1).mean():.0f} %, over it {np.median(effectivity):.1f} times in the median",
    ]
    found = error_parts(model, trained, case, theta[:parts], how)
    notes.append("by causes, " + "; ".join(f"{name} {words(e)}" for name, e in found.items()))
    effect = scheme_effect(case, theta[:timed], list(USUAL))
    notes.append(
        "the full order's other schemes against upwind: "
        + "; ".join(f"{name} {e.max():.1e}" for name, e in effect.items())
    )
    if gradient:
        worst = slopes(model, case, theta[0])
        notes.append(f"gradient against finite differences: worst of {case.space.size} {worst:.1e}")
    p99 = float(np.quantile(np.maximum(free, cell), 0.99, method="higher"))
    return [
        common.Row(
            "reduced delivery, a member", mine, "full order, usual steps", other, ratio, "1000, at an error of 1e-3", p99,
            notes="; ".join(notes),
        ),
        common.Row(
            "the same with its error estimate", mine2, "converged full order, equal steps", other2, ratio2, "", p99
        ),
        flow_row(case, trained, many, repeats),
    ]  # fmt: skip


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--spacing", type=float, default=4.0, help="voxel size, mm")
    options.add_argument(
        "--sd-log",
        type=float,
        default=0.3,
        help="spread of every prior; 0 takes each number's own of the library",
    )
    options.add_argument("--training", type=int, default=40, help="full-order runs the model is trained on")
    options.add_argument("--unseen", type=int, default=200, help="members that judge the error")
    options.add_argument("--modes", type=int, default=40, help="most modes of the drug's fields")
    common.show(measure(**vars(options.parse_args())))
