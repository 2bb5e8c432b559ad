"""How sure the drug's exposure is: plasma and tissue parameters through the reduced transport model."""

from __future__ import annotations

import numpy as np

from ..domain.evidence import Evidence
from ..domain.parameters import LogNormal, Parameter, ParameterSpace
from ..domain.runfolder import Number, RunFolder
from ..imaging.noise import repeatability
from ..imaging.series import ScanSeries
from ..kinetics.plasma import Dose
from ..reduction.training import training_parameters
from ..reduction.transport import build_transport, validate_transport
from ..reduction.transport_case import TransportCase
from ..twin.transport import ReducedTransportTwin
from .exposure import HORIZON, STEP, Exposure
from .growth_figures import BLUE, new_figure

MEMBERS, TRAINING, UNSEEN = 400, 8, 3
LIMIT = 0.02


def exposure_uncertainty(run: RunFolder, series: ScanSeries, exposure: Exposure, seed: int) -> None:
    """Tumour concentration after a unit dose over the agent's priors, and the reduced model's error.

    Parameters
    ----------
    run : RunFolder
    series : ScanSeries
    exposure : Exposure
    seed : int
    """
    if (run.path / "tables" / "exposure.json").exists():
        return
    agent, faces = exposure.agent, exposure.faces
    # no other organ's repeatability of Ktrans is known
    wcv = repeatability("ktrans", "prostate")
    scan = Parameter(
        "ktrans_factor",
        "1",
        LogNormal(1.0, wcv.wcv),
        "scan-level error of Ktrans, the prostate's",
        wcv.source,
    )
    space = ParameterSpace((*agent.parameters(), scan))
    times = np.concatenate([[0.25, 0.5, 0.75], np.arange(1.0, HORIZON + 0.5, 1.0)])
    route = "oral" if "oral" in agent.routes else "intravenous"
    case = TransportCase(exposure.tissue, agent, (Dose(0.0, 1.0, agent.compartment(route)),), times, space)
    tumour = faces.gather(series.visits[0].tumour).astype(bool)
    reduced = build_transport(case, training_parameters(space, TRAINING, seed), STEP)
    unseen = space.sample(UNSEEN, seed, "transport validation")
    errors = validate_transport(reduced, case, unseen, STEP / 5.0, tumour)
    run.evidence(
        Evidence(
            "reduction.transport", "numerical_solver_error",
            "The reduced transport model follows the full order on parameters it was not trained on.",
            f"relative L2 error in the tumour, worst output time, below {100 * LIMIT:g} %",
            {**errors, "modes": reduced.vectors.shape[1], "unseen members": UNSEEN},
            "passed" if errors["amount_worst"] < LIMIT else "failed",
        )
    )  # fmt: skip
    twin = ReducedTransportTwin(case, reduced)
    theta = space.sample(MEMBERS, seed, "exposure ensemble")
    found = twin.trajectory(theta)
    good = found.status == 0
    readout = reduced.vectors[tumour].mean(axis=0)
    phi = float(exposure.tissue.phi[tumour].mean())
    course = found.values[good] @ readout / phi
    area = np.asarray(twin.mean_exposure(tumour)(theta[good]))[:, 0] / phi
    unit = agent.amount_unit
    rows = [
        _row("area under the tumour interstitium's concentration", f"{unit} h/L per {unit}", area),
        _row("peak concentration in the tumour interstitium", f"{unit}/L per {unit}", course.max(axis=1)),
        _row("time of the peak", "h", times[course.argmax(axis=1)]),
    ]
    run.table(
        "exposure", [("quantity", ""), ("unit", ""), ("5 %", ""), ("median", ""), ("95 %", "")], rows,
        title=f"Exposure of the tumour to {agent.name}", section="forecast", order=20,
        caption=f"{int(good.sum())} draws of the agent's priors and of Ktrans' scan-level error. The growth model takes "
        "the exposure's pattern from the nominal run; its size is in alpha_drug.",
    )  # fmt: skip
    low, mid, high = np.quantile(area, [0.05, 0.5, 0.95])
    run.summary(
        Number("tumour_exposure", float(mid), f"{unit} h/L per {unit}", (float(low), float(high)), 0.9, "exposure",
               "forecast", f"area under the tumour interstitium's concentration of {agent.name} after a unit dose")
    )  # fmt: skip
    figure = new_figure(5.5, 3.4)
    axis = figure.subplots()
    at = np.concatenate([[0.0], times])
    bands = np.concatenate([np.zeros((len(course), 1)), course], axis=1)
    for level, alpha in ((0.9, 0.18), (0.5, 0.35)):
        edges = np.quantile(bands, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        axis.fill_between(
            at, edges[0], edges[1], color=BLUE, alpha=alpha, lw=0, label=f"{100 * level:.0f} % interval"
        )
    axis.plot(at, np.median(bands, axis=0), color=BLUE, lw=1.5, label="median")
    axis.set(
        xlabel="time after the dose (h)",
        ylabel=f"tumour interstitium ({unit}/L per {unit})",
        xlim=(0, HORIZON),
        ylim=(0, None),
    )
    axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    run.figure(
        "exposure", figure, title=f"{agent.name} in the tumour", section="forecast", order=19,
        caption="Mean concentration in the tumour's interstitium after one unit dose, by the reduced transport model.",
        alt="Concentration against time with uncertainty bands.",
    )  # fmt: skip


def _row(name: str, unit: str, values: np.ndarray) -> list[object]:
    return [name, unit, *np.quantile(values, [0.05, 0.5, 0.95]).tolist()]
