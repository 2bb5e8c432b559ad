"""Sobol indices against closed forms and against SALib's own analysis."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sensitivity_cases as cases

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.keys import generator, integer
from vvuq_twin.domain.parameters import Normal, Parameter, ParameterSpace
from vvuq_twin.sensitivity import agreement_evidence, fit_chaos, sobol_design, sobol_evidence, sobol_indices


def test_ishigami():
    design = sobol_design(cases.ISHIGAMI, 2048, seed=1, second=True)
    found = sobol_indices(design, cases.ishigami(design.theta), seed=1)
    first, total, variance, pair = cases.ishigami_indices()
    np.testing.assert_allclose(found.first, first, atol=0.02)
    np.testing.assert_allclose(found.total, total, atol=0.02)
    assert found.second[0, 2] == pytest.approx(pair, abs=0.03)
    assert found.variance == pytest.approx(variance, rel=0.03)
    assert found.ranking() == ["x1", "x2", "x3"]
    inside = np.abs(found.total - total) <= found.total_half + 0.005
    assert inside.all() and (found.total_half < 0.1).all() and (found.total_half[:2] > 0).all()


def test_rows_said_to_be_independent_are():
    for second in (False, True):
        design = sobol_design(cases.ISHIGAMI, 256, seed=4, second=second)
        z = design.z[design.independent]
        assert len(np.unique(z, axis=0)) == 512
        np.testing.assert_allclose(np.corrcoef(z, rowvar=False), np.eye(3), atol=0.1)
        others = np.delete(design.z, design.independent, axis=0)
        assert all(
            (others[:, [i]] == z[:, i]).any(axis=1).all() for i in range(3)
        )  # the rest is mixed from them


def test_sobol_g_function():
    design = sobol_design(cases.G_SPACE, 4096, seed=2)
    found = sobol_indices(design, cases.g_function(design.theta), seed=2)
    first, total, variance = cases.g_indices()
    np.testing.assert_allclose(found.first, first, atol=0.02)
    np.testing.assert_allclose(found.total, total, atol=0.02)
    assert found.variance == pytest.approx(variance, rel=0.03)


def test_a_linear_field_has_the_known_indices_at_each_point():
    design = sobol_design(cases.LINEAR_SPACE, 2048, seed=3)
    field, indices, variance = cases.linear_field(design.theta)
    found = sobol_indices(design, field.reshape(-1, 11, 1), seed=3, chunk=4)
    assert found.first.shape == (3, 11, 1)
    np.testing.assert_allclose(found.first[..., 0], indices, atol=0.02)
    np.testing.assert_allclose(found.total[..., 0], indices, atol=0.02)
    np.testing.assert_allclose(found.variance[:, 0], variance, rtol=0.02)
    np.testing.assert_allclose(found.total.sum(axis=0), 1, atol=0.03)


@pytest.mark.parametrize("second", [False, True])
def test_the_same_estimates_and_intervals_as_salib(second):
    from SALib.analyze import sobol

    design = sobol_design(cases.G_SPACE, 256, seed=4, second=second)
    y = cases.g_function(design.theta)
    found = sobol_indices(design, y, seed=4, resamples=400)
    other = sobol.analyze(
        cases.G_SPACE.problem(), y, calc_second_order=second, num_resamples=400, seed=integer(4, "salib")
    )
    np.testing.assert_allclose(found.first, other["S1"], atol=1e-12)
    np.testing.assert_allclose(found.total, other["ST"], atol=1e-12)
    np.testing.assert_allclose(found.first_half, other["S1_conf"], rtol=0.25)
    np.testing.assert_allclose(found.total_half, other["ST_conf"], rtol=0.25)
    if second:
        upper = np.triu_indices(5, 1)
        np.testing.assert_allclose(found.second[upper], other["S2"][upper], atol=1e-12)
        np.testing.assert_allclose(found.second_half[upper], other["S2_conf"][upper], rtol=0.25)


def test_bootstrap_by_counts_is_the_bootstrap_by_rows():
    design = sobol_design(cases.G_SPACE, 64, seed=4)
    y = cases.g_function(design.theta)
    found = sobol_indices(design, y, seed=9, resamples=50, confidence=0.9)
    rows = generator(9, "sobol", "bootstrap").integers(64, size=(50, 64))
    cube = (y.reshape(64, 7) - y.mean()) / y.std()
    totals = []
    for r in rows:
        a, ab, b = cube[r, 0], cube[r, 1], cube[r, -1]
        totals.append(0.5 * np.mean((a - ab) ** 2) / np.var(np.r_[a, b]))
    assert found.total_half[0] == pytest.approx(1.6448536 * np.std(totals, ddof=1), rel=1e-6)


def test_groups_act_as_one_factor():
    design = sobol_design(cases.MIXED_SPACE, 1024, seed=5, groups={"initial field": ["mode_*"]})
    assert design.names == ("rate", "initial field", "share")
    z = design.z
    y = 2 * z[:, 0] + z[:, 1] * z[:, 2] + z[:, 1]
    found = sobol_indices(design, y, seed=5)
    np.testing.assert_allclose(found.first, [4 / 6, 2 / 6, 0], atol=0.03)
    np.testing.assert_allclose(found.total, [4 / 6, 2 / 6, 0], atol=0.03)


def test_the_design_repeats_is_keyed_and_follows_the_priors():
    one, again = (sobol_design(cases.MIXED_SPACE, 256, seed=6) for _ in range(2))
    other = sobol_design(cases.MIXED_SPACE, 256, seed=7)
    zero = sobol_design(cases.MIXED_SPACE, 256, seed=0)
    assert one.theta.tobytes() == again.theta.tobytes() != other.theta.tobytes()
    assert zero.theta.tobytes() == sobol_design(cases.MIXED_SPACE, 256, seed=0).theta.tobytes()
    assert one.theta.shape == (256 * 6, 4)
    assert np.median(one.theta[:, 0]) == pytest.approx(0.1, rel=0.02)
    assert one.theta[:, 3].min() > 0.2 and one.theta[:, 3].max() < 0.8


def test_failed_members_cost_their_base_point():
    design = sobol_design(cases.ISHIGAMI, 512, seed=8)
    y = cases.ishigami(design.theta)
    clean = sobol_indices(design, y, seed=8)
    bad, status = y.copy(), np.zeros(len(y), int)
    bad[7], status[100] = np.nan, -1
    found = sobol_indices(design, bad, seed=8, status=status)
    assert found.dropped == 2 and "2 of 512" in found.notes[0]
    np.testing.assert_allclose(found.total, clean.total, atol=0.02)
    bad[: len(y) // 2 + 10] = np.inf
    with pytest.raises(RunFailed, match="lost"):
        sobol_indices(design, bad, seed=8)


def test_an_output_that_does_not_vary_has_zero_indices():
    design = sobol_design(cases.ISHIGAMI, 64, seed=9)
    y = np.stack([np.full(len(design.theta), 0.1) * 3, cases.ishigami(design.theta)], axis=1)
    found = sobol_indices(design, y, seed=9, outputs=("still", "moving"))
    assert (found.total[:, 0] == 0).all() and found.variance[0] == 0 and found.total[0, 1] > 0.3
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["outputs"] == ["still", "moving"]
    json.dumps(sobol_indices(design, y, seed=9, resamples=0).to_dict(), allow_nan=False)


def test_correlated_factors_are_said_to_be():
    pair = tuple(Parameter(n, "1", Normal(0, 1)) for n in "abc")
    space = ParameterSpace(pair, np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]))
    assert sobol_design(space, 16, seed=1).dependent
    assert not sobol_design(space, 16, seed=1, groups={"both": ["a", "b"]}).dependent


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"base": 100}, "power of two"),
        ({"groups": {"g": ["mode_9"]}}, "mode_1|mode_2"),
        ({"groups": {"g": ["mode_1"], "h": ["mode_*"]}}, "two groups"),
        ({"groups": {"rate": ["mode_*"]}}, "name of a parameter"),
        ({"groups": {"all": ["*"]}}, "two factors"),
    ],
)
def test_bad_designs_are_refused(call, word):
    with pytest.raises(BadInput, match=word):
        sobol_design(cases.MIXED_SPACE, **{"base": 16, "seed": 1} | call)


def test_bad_outputs_are_refused():
    design = sobol_design(cases.ISHIGAMI, 16, seed=1)
    y = cases.ishigami(design.theta)
    for args, word in (
        ({"y": y[:-1]}, "rows"),
        ({"y": y, "confidence": 95}, "confidence"),
        ({"y": y, "outputs": ("a", "b")}, "names"),
    ):
        with pytest.raises(BadInput, match=word):
            sobol_indices(design, seed=1, **args)


def test_evidence_passes_and_fails():
    fine, rough = (sobol_design(cases.ISHIGAMI, base, seed=1) for base in (2048, 16))
    good = sobol_indices(fine, cases.ishigami(fine.theta), seed=1)
    assert sobol_evidence(good).status == "passed"
    assert sobol_evidence(sobol_indices(rough, cases.ishigami(rough.theta), seed=1)).status == "failed"
    assert (
        sobol_evidence(sobol_indices(fine, cases.ishigami(fine.theta), 1, resamples=0)).status
        == "not assessed"
    )
    z = cases.ISHIGAMI.gaussian_sample(500, 1, "training")
    y = cases.ishigami(cases.ISHIGAMI.from_gaussian(z))
    chaos = fit_chaos(cases.ISHIGAMI, z, y, degrees=(8,)).sobol()
    assert agreement_evidence(good, chaos).status == "passed"
    linear = fit_chaos(cases.ISHIGAMI, z, y, degrees=(1,)).sobol()
    assert agreement_evidence(good, linear).status == "failed"
