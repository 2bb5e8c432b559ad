"""The exposure map of a drug that crosses vessels by its own permeability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.study.exposure import exposure_map
from vvuq_twin.virtual.glioma import make_patient


def test_doxorubicin_is_run_with_pressure_and_flow():
    series = make_patient(1, 8.0, 1).scans
    drug = replace(series.treatments, agent="doxorubicin", drug_doses=((14.0, 90.0),))
    found = exposure_map(replace(series, treatments=drug))
    tumour = series.visits[0].tumour & series.brain
    assert not found.reducible and found.balance < 1e-12
    assert found.weight[tumour].mean() == pytest.approx(1.0)
    assert found.weight[tumour].mean() > found.weight[series.brain & ~tumour].mean() > 0
    assert found.tissue.flow.pressure.max() > 10.0
    lost = replace(series.perfusion, ktrans=np.full(series.grid.shape, np.nan))
    with pytest.raises(BadInput, match="no usable voxel"):
        exposure_map(replace(series, treatments=drug, perfusion=lost))
