"""A reduced model on disk: the same after a round trip, refused when stale or broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from growth_small import SETTINGS

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.reduction.case import GrowthCase
from vvuq_twin.reduction.store import identity, load, save
from vvuq_twin.reduction.training import Trained


def test_round_trip(trained: Trained, case: GrowthCase, tmp_path: Path) -> None:
    mark = SETTINGS.fingerprint(case, 11)
    path = save(tmp_path / "reduced.zarr.zip", trained.reduced, trained.probe)
    model, probe = load(path, mark)
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
            load(path, SETTINGS.fingerprint(other, 11))
    with pytest.raises(BadInput, match="another"):
        load(path, SETTINGS.fingerprint(case, 12))


def test_a_broken_or_missing_file_is_refused(trained: Trained, tmp_path: Path) -> None:
    path = save(tmp_path / "reduced.zarr.zip", trained.reduced, trained.probe)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadInput, match="cannot be read"):
        load(path, "x")
    with pytest.raises(BadInput, match="missing"):
        load(tmp_path / "none.zarr.zip", "x")
