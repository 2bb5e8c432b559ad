"""A small synthetic run folder, written with the package's own writer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vvuq_twin.credibility.budget import BudgetLine, budget_table
from vvuq_twin.domain.evidence import Evidence
from vvuq_twin.domain.runfolder import Number, RunFolder

STUDY = """\
kind: growth
title: A virtual glioma under chemoradiation
seed: 20260101
use:
  question: >-
    What will the total tumour cellularity of this patient be at the three visits after the last scan,
    under the regimen on record?
  context_of_use: >-
    Research: the forecast is read beside the scans by the treating team, who decide without it.
  model_influence: low
  decision_consequence: high
  limitations:
    - One virtual patient; the truth has the twin's own growth law.
    - No mass effect, oedema or necrosis.
"""

EVIDENCE = (
    Evidence(
        "growth.mms.space", "numerical_code_verification",
        "The growth kernel converges at second order in space to a manufactured solution",
        "observed order within 0.1 of 2",
        {"order": 1.98, "errors": [4.1e-3, 1.03e-3, 2.6e-4], "cells": [16, 32, 64]},
        "passed", ("figures/totals.png",), {"seed": 7, "command": "vvuq-twin verify"},
    ),
    Evidence(
        "growth.logistic", "numerical_code_verification",
        "Without diffusion each voxel follows the logistic closed form", "relative error below 1e-10",
        {"relative_error": 3.1e-14}, "passed",
    ),
    Evidence(
        "reduction.unseen", "numerical_solver_error",
        "The reduced model's error on unseen parameters is below one percent",
        "relative L2 inside the tumour, worst visit, 99th percentile below 0.01",
        {"error_99th_percentile": 0.0042, "members": 24, "speed_up": 212.0}, "passed",
        provenance={"seed": 11},
    ),
    Evidence(
        "grid.gci", "discretization_error", "The grid convergence index of total cellularity is below 5 %",
        "GCI below 5 percent", {"gci_percent": 2.2, "order": 1.53}, "passed",
    ),
    Evidence("model.form", "model_form", "A mechanism missing from the twin costs less than the stated error",
             "truth inside 90 % intervals at all visits", {"inside": 2, "of": 3}, "failed"),
    Evidence("sensitivity.sobol", "model_inputs", "Inputs are ranked by their share of variance",
             "bootstrap interval of every first-order index below 0.1", {"widest": 0.061}, "passed"),
    Evidence("output.coverage", "output_comparison", "90 % intervals cover 90 % of virtual patients",
             "99 % binomial interval over patients includes 0.9", {}, "planned"),
    Evidence("output.crps", "output_comparison", "The forecast's CRPS is below persistence",
             "bootstrap interval of the difference below zero",
             {"crps_total_cellularity": 1.12, "persistence": 3.4}, "passed"),
    Evidence("conditions", "test_conditions", "The regimen tested is that of the question", "same agent",
             {"agent": "temozolomide"}, "not applicable"),
)  # fmt: skip


def write_run(path: Path) -> RunFolder:
    """A whole run folder with every kind of content."""
    from matplotlib.figure import Figure

    run = RunFolder.open(path, STUDY, {"adc_visit_1": "ab" * 32}, {"assimilate": 4})
    run.summary(
        Number("total_cellularity", 31.87342, "cm3", (27.1234, 36.98), 0.9, "forecast",
               description="Total cellularity at visit 7"),
        Number("volume", 44.2, "cm3", (38.0, 51.0), 0.9, "forecast", description="Tumour volume at visit 7"),
        Number("reduction_error", 0.0042, "1", None, None, "reduction",
               description="Reduced model's error, 99th percentile"),
        Number("speed_up", 212.0, "1", group="reduction"),
        Number("crps_total_cellularity", 1.12, "cm3", (0.4, 1.9), 0.95, "scores",
               description="CRPS of total cellularity, mean over visits 5 to 7"),
        Number("crps_total_cellularity", 3.4, "cm3", (2.2, 4.7), 0.95, "scores", "baseline: persistence"),
        Number("crps_total_cellularity", 2.71, "cm3", None, None, "scores", "baseline: no assimilation"),
        Number("coverage_90", 0.67, "1", None, None, "scores", description="Coverage of 90 % intervals"),
        Number("coverage_90", float("nan"), "1", None, None, "scores", "baseline: persistence"),
    )  # fmt: skip
    day = np.arange(0.0, 190.0, 30.0)
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    axes.fill_between(day, 20 + day / 20, 24 + day / 9, alpha=0.3, color="#17457a")
    axes.plot(day, 22 + day / 12, color="#17457a")
    axes.set_xlabel("day")
    axes.set_ylabel("total cellularity, cm³")
    run.figure(
        "totals", figure, title="Total cellularity over time", section="forecast",
        caption="Mean and 90 % interval; held-out visits are open circles.", alt="Cellularity rises slowly",
    )  # fmt: skip
    run.table(
        "sobol", [("Parameter", ""), ("First order", "1"), ("Total", "1"), ("Evidence", "")],
        [["k", 0.61, 0.66, "sensitivity.sobol"],
         ["alpha_rt", 0.2, None, ""], ["D_white", float("nan"), 0.11, ""]],
        title="Sobol indices of total cellularity", caption="512 base samples.", section="sensitivity",
    )  # fmt: skip
    run.table(
        "cycles", [("Visit", ""), ("Spread", "1"), ("RMSE", "1")],
        [[i, 0.1 / i, 0.11 / i] for i in (1, 2, 3)],
        title="Spread over error by cycle", caption="", section="assimilation",
    )  # fmt: skip
    lines = [
        BudgetLine("parameters", 2.1, "ensemble", "sensitivity.sobol"),
        BudgetLine("initial field", 1.2, "ensemble"),
        BudgetLine("reduction", 0.13, "error on unseen parameters", "reduction.unseen"),
        BudgetLine("model form", None, "not assessed for this patient"),
    ]
    table = budget_table("total cellularity", "cm3", lines, total_sd=2.9)
    run.table("budget", table["columns"], table["rows"], title="Uncertainty budget at visit 7",
              caption="", section="budget")  # fmt: skip
    run.text(
        "patient", "patient", "A virtual patient, seven visits of which four are assimilated.\n\nNo person."
    )
    run.evidence(*EVIDENCE)
    run.journal.append("run finished")
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that tests only read."""
    return write_run(tmp_path_factory.mktemp("credibility") / "run").path


@pytest.fixture
def make_run(finished: Path, tmp_path: Path) -> Callable[[], RunFolder]:
    """Makes a copy of the run folder that a test may damage."""

    def make() -> RunFolder:
        return RunFolder.existing(Path(shutil.copytree(finished, tmp_path / "run")))

    return make
