"""A reduced model on disk: the same after a round trip, refused when stale or broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from delivery_small import HOW, small_case, small_judged, small_model
from growth_small import SETTINGS

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.reduction.archive import write
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.delivery import ReducedDelivery
from vvuq_twin.reduction.growth import ReducedGrowth
from vvuq_twin.reduction.store import identity, load, save
from vvuq_twin.reduction.training import Trained, training_parameters


def test_round_trip(trained: Trained, case: GrowthCase, tmp_path: Path) -> None:
    mark = SETTINGS.fingerprint(case, 11)
    path = save(tmp_path / "reduced.zarr.zip", trained.reduced, trained.probe)
    model, probe = load(path, mark, ReducedGrowth)
    theta = case.space.sample(4, 1, "store")
    assert np.array_equal(model.run(case, theta)[0], trained.reduced.run(case, theta)[0])
    assert np.array_equal(probe.spread, trained.probe.spread)
    assert model.errors["worst"] == trained.validation.worst
    assert identity(model) == identity(trained.reduced)


def test_a_stale_model_is_refused(trained: Trained, case: GrowthCase, tmp_path: Path) -> None:
    path = save(tmp_path / "reduced.zarr.zip", trained.reduced, trained.probe)
    for other in (
        replace(case, mean=case.mean * 1.0001),
        replace(case, fixed={"alpha_beta": 3.0}),
        replace(case, exposure=None),
    ):
        with pytest.raises(BadInput, match="another patient, prior or setting"):
            load(path, SETTINGS.fingerprint(other, 11), ReducedGrowth)
    with pytest.raises(BadInput, match="another"):
        load(path, SETTINGS.fingerprint(case, 12), ReducedGrowth)


def test_a_broken_or_missing_file_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = save(tmp_path / "reduced.zarr.zip", trained.reduced, trained.probe)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="cannot be read"):
        load(path, "x", ReducedGrowth)
    with pytest.raises(BadInput, match="missing"):
        load(tmp_path / "none.zarr.zip", "x", ReducedGrowth)


def test_a_delivery_comes_back_the_same_and_stale_ones_are_refused(tmp_path: Path) -> None:
    case, (model, _), scale = small_case(), small_model(), small_judged().scale()
    design = training_parameters(case.space, 24, 3)
    path = save(tmp_path / "delivery.zarr.zip", model, scale)
    again, calibrated = load(path, HOW.fingerprint(case, design), ReducedDelivery)
    theta = case.space.sample(3, 1, "store")
    for mine, theirs in zip(again.indicate(case, theta), model.indicate(case, theta)):
        assert np.array_equal(mine, theirs)
    assert calibrated == scale and again.doses == model.doses and again.fingerprint == model.fingerprint
    assert again.bases[0] is again.bases[-1]  # one basis for all species is kept once
    for other in (
        replace(case, times=case.times[:-1]),
        replace(case, subgrid=not case.subgrid),
        replace(case, site=replace(case.site, phi=case.site.phi * 1.001)),
        replace(case, agent=case.agent.model_copy(update={"name": "another"})),
    ):
        with pytest.raises(BadInput, match="another patient, prior or setting"):
            load(path, HOW.fingerprint(other, design), ReducedDelivery)
    with pytest.raises(BadInput, match="another patient"):
        load(path, HOW.fingerprint(case, design[:-1]), ReducedDelivery)
    with pytest.raises(BadInput, match="holds a ReducedDelivery, not a ReducedGrowth"):
        load(path, model.fingerprint, ReducedGrowth)


def test_what_has_no_place_in_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        write(tmp_path / "x.zarr.zip", {"a": object()}, "mark")
    assert not list(tmp_path.iterdir())
