"""Sobol indices by few expensive and many cheap runs, on functions whose indices are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensitivity_cases import ISHIGAMI, LINEAR_SPACE, ishigami, ishigami_indices, linear_field

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.multifidelity import Fidelity
from vvuq_twin.sensitivity.fidelity import multifidelity_sobol, sobol_terms
from vvuq_twin.sensitivity.sobol import sobol_design, sobol_indices


def exact(z, members, context):
    return {"y": ishigami(np.asarray(ISHIGAMI.from_gaussian(z)))[:, None]}


def rough(z, members, context):
    """Another Ishigami function, with other indices and another variance."""
    return {"y": 0.9 * ishigami(np.asarray(ISHIGAMI.from_gaussian(z)), a=6.0, b=0.09)[:, None] + 2.0}


def field(z, members, context):
    return {"y": linear_field(np.asarray(LINEAR_SPACE.from_gaussian(z)))[0]}


def rough_field(z, members, context):
    y = linear_field(np.asarray(LINEAR_SPACE.from_gaussian(z)))[0]
    return {"y": 0.8 * y + 0.02 * y**2}


def test_terms_of_base_points_give_the_sampled_indices() -> None:
    """On the same inputs the means of the terms are the estimates of the plain Sobol analysis."""
    design = sobol_design(ISHIGAMI, 64, 1)
    cube = design.z.reshape(64, design.block, ISHIGAMI.size)
    inputs = np.concatenate([cube[:, 0], cube[:, -1]], axis=1)
    y = exact(design.z, None, None)["y"]
    plain = sobol_indices(design, y, 1, resamples=0)
    found = sobol_terms(
        inputs, np.arange(64), None, function=exact, output="y", membership=np.arange(3), shift=y.mean(axis=0)
    )["y"].mean(axis=0)
    # the plain analysis divides by the variance of A and B together
    both = exact(np.concatenate([cube[:, 0], cube[:, -1]]), None, None)["y"].var()
    np.testing.assert_allclose(found[1:4] / both, plain.first[:, 0], atol=1e-9)
    np.testing.assert_allclose(found[4:] / both, plain.total[:, 0], rtol=1e-9)
    halves = [exact(cube[:, i], None, None)["y"] for i in (0, -1)]
    assert found[0] == pytest.approx(0.5 * ((halves[0] - halves[1]) ** 2).mean())


def test_ishigami_from_a_rough_copy(tmp_path: Path) -> None:
    models = [Fidelity("exact", exact, 1.0, batch=512), Fidelity("rough", rough, 0.005, batch=4096)]
    found = multifidelity_sobol(models, ISHIGAMI, 4000.0, 5, tmp_path / "s", pilot=100)
    first, total, variance, _ = ishigami_indices()
    se, _, _ = found.result.interval("mean")
    assert abs(found.variance[0] - variance) < 4 * se[0]
    assert (np.abs(found.first[:, 0] - first) < 2 * found.first_half[:, 0]).all()
    assert (np.abs(found.total[:, 0] - total) < 2 * found.total_half[:, 0]).all()
    assert found.result.plan.gain("mean").min() > 3
    # the rough copy by itself has other indices: what is left is not its bias
    assert found.total_half[:, 0].max() < 0.15


def test_a_field_whose_indices_are_known_at_every_point(tmp_path: Path) -> None:
    models = [Fidelity("field", field, 1.0, batch=512), Fidelity("rough", rough_field, 0.01, batch=2048)]
    found = multifidelity_sobol(models, LINEAR_SPACE, 3000.0, 5, tmp_path / "s", pilot=60)
    _, indices, _ = linear_field(np.zeros((1, 3)))
    assert found.first.shape == indices.shape
    assert (np.abs(found.first - indices) < 2.5 * found.first_half + 1e-9).all()
    assert (np.abs(found.total - indices) < 2.5 * found.total_half + 1e-9).all()
    assert set(found.to_dict()["factors"]) == {"a", "b", "c"}


def test_what_cannot_be_analysed_is_refused(tmp_path: Path) -> None:
    models = [Fidelity("exact", exact, 1.0), Fidelity("rough", rough, 0.01)]
    with pytest.raises(BadInput, match="two factors"):
        multifidelity_sobol(models, ISHIGAMI, 400.0, 1, tmp_path / "a", {"all": ["x*"]})
    with pytest.raises(BadInput, match="does not pay"):
        multifidelity_sobol(models, ISHIGAMI, 130.0, 1, tmp_path / "b")
    with pytest.raises(BadInput, match="1 outputs and 2 names"):
        multifidelity_sobol(models, ISHIGAMI, 4000.0, 1, tmp_path / "c", outputs=("a", "b"))
    with pytest.raises(BadInput, match="at least two models"):
        multifidelity_sobol([], ISHIGAMI, 400.0, 1, tmp_path / "d")
