"""The two orders of a delivery behind one contract."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "reduction"))

from delivery_small import small_case, small_judged, small_model

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.twin.reduced_delivery import FullOrderDelivery, ReducedDeliveryTwin


def test_both_orders_give_the_same_fields() -> None:
    case, (model, _) = small_case(), small_model()
    theta = case.space.sample(1, 21, "twin")
    steps = (1 / 120, 1 / 60, 1 / 30, 0.1, 0.25)
    full = FullOrderDelivery(case, steps, "cell", 1e-3)
    twin = ReducedDeliveryTwin(case, model, "cell")
    a, b = full.trajectory(theta), twin.trajectory(theta)
    assert a.status.tolist() == b.status.tolist() == [0]
    region = np.flatnonzero(case.site.tumour)
    for t in range(len(case.times)):
        x, y = full.fields(a.values[:, t]).at(region), twin.fields(b.values[:, t]).at(region)
        assert np.linalg.norm(x - y) < 3e-3 * np.linalg.norm(x)
    mean = np.asarray(twin.mean_amount(region)(theta[0]))
    np.testing.assert_allclose(mean, (b.values[0] @ twin._readout()[region].T).mean(axis=1), rtol=1e-10)


def test_members_to_trust() -> None:
    case, (model, _) = small_case(), small_model()
    twin = ReducedDeliveryTwin(case, model, scale=small_judged().scale())
    theta = case.space.sample(3, 22, "trust")
    theta[1, 0] *= 1e3
    theta[2, 0] = np.nan
    found = twin.trust(theta, 0.05)
    assert not found.flagged[0] and found.flagged[2]
    assert found.failed == 1 and found.outside == {"K_tumour": 2}
    with pytest.raises(BadInput, match="no calibrated error estimate"):
        ReducedDeliveryTwin(case, model).trust(theta)


def test_a_species_that_is_not_there() -> None:
    with pytest.raises(BadInput, match="no species 'receptor'"):
        FullOrderDelivery(small_case(), 0.1, "receptor")
