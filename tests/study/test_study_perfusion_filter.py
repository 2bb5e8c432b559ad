"""The perfusion filter where the truth has what the filter looks for: a response to breathing, and shared errors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from perfusion_case import study_text

from vvuq_twin.kinetics.aif import plasma
from vvuq_twin.kinetics.tofts import extended_tofts
from vvuq_twin.study.perfusion_breathing import principal_scores, seen_range
from vvuq_twin.study.perfusion_filter import FilterSettings, _ErrorModel, assimilate, exact
from vvuq_twin.study.perfusion_forecast import Forecast, forecast
from vvuq_twin.study.perfusion_scores import ErrorLaw, Predicted, score
from vvuq_twin.study.perfusion_spec import PerfusionSpec
from vvuq_twin.study.schema import read_study
from vvuq_twin.twin.tracer import TracerModel

FRAMES, SEEN, N = 52, 40, 90
FIRST = 6


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> PerfusionSpec:
    path = tmp_path_factory.mktemp("spec") / "study.yaml"
    path.write_text(study_text())
    found, _ = read_study(path)
    assert isinstance(found, PerfusionSpec)
    return found


def _model(spec: PerfusionSpec) -> TracerModel:
    times = 5.0 * np.arange(FRAMES)

    class Series:
        baseline = FIRST

    series = Series()
    series.times = times  # type: ignore[attr-defined]
    return spec.model(series)  # type: ignore[arg-type]


def _settings(spec: PerfusionSpec, **changes: float) -> FilterSettings:
    made = spec.settings(FIRST, spec.candidates[-1], 1.0)
    return FilterSettings(**{**{k: getattr(made, k) for k in made.__dataclass_fields__}, **changes})


@pytest.fixture(scope="module")
def case(spec: PerfusionSpec) -> dict[str, np.ndarray]:
    """Curves with a response to two breathing scores and voxel noise, in voxels far apart."""
    rng = np.random.default_rng(4)
    t = 5.0 * np.arange(FRAMES) / 60
    fine = np.arange(0.0, t[-1] + 1e-9, 0.5 / 60)
    ve = rng.uniform(0.3, 0.6, N)
    cp = plasma(fine, onset=33.0 / 60, scale=0.7)
    curves = extended_tofts(cp, fine, 0.5 * ve, ve, 0.03)[:, :: round(t[1] / fine[1])]
    z = rng.standard_normal((FRAMES, 2))
    beta = np.stack([0.12 * rng.standard_normal(N), 0.08 * rng.standard_normal(N)])
    past = np.arange(FRAMES) > FIRST + 5
    y = curves + past * (z @ beta).T + 0.05 * rng.standard_normal(curves.shape)
    return {"y": y, "z": z, "beta": beta, "coords": 30.0 * rng.standard_normal((N, 3))}


def _both(
    spec: PerfusionSpec, case: dict[str, np.ndarray], z: np.ndarray
) -> tuple[Forecast, Forecast, np.ndarray]:
    model, settings = _model(spec), _settings(spec, members=48, response=0.7)
    (a,) = assimilate(case["y"][:, :SEEN], case["coords"], z[:SEEN], model, settings, (SEEN,), 3, "t")
    blind, given = forecast(a, z, model, settings, FRAMES, np.ones(N, bool))
    return blind, given, a.response.mean(axis=0)


def test_the_response_to_breathing_is_learned(spec: PerfusionSpec, case: dict[str, np.ndarray]) -> None:
    blind, given, found = _both(spec, case, case["z"])
    for mine, truth in zip(found, case["beta"]):
        assert np.corrcoef(mine, truth)[0, 1] > 0.85
    truth = case["y"][:, SEEN:]
    normal = ErrorLaw(np.sort(np.random.default_rng(0).standard_normal(2001)))
    knows, not_ = (score(Predicted(f.mean, f.sd), truth, normal) for f in (given, blind))
    assert knows.rmse < 0.75 * not_.rmse
    assert knows.mean_crps < 0.8 * not_.mean_crps
    # the blind forecast knows that it does not know (its voxels share each frame's breathing, so it swings more)
    assert 82 < knows.coverage(90) < 97
    assert 70 < not_.coverage(90) < 99
    assert (blind.sd.mean(axis=1) > given.sd.mean(axis=1)).mean() > 0.9


def test_parts_of_the_variance_add_up(spec: PerfusionSpec, case: dict[str, np.ndarray]) -> None:
    blind, given, _ = _both(spec, case, case["z"])
    for f in (blind, given):
        assert (f.parts >= 0).all()
        assert np.allclose(f.parts.sum(axis=0), f.sd[:, -1] ** 2)
    ahead = (case["beta"] ** 2).sum(axis=0)
    assert np.corrcoef(blind.parts[2], ahead)[0, 1] > 0.8
    assert not given.parts[2].any()


def test_blind_forecast_reads_no_breathing_ahead(spec: PerfusionSpec, case: dict[str, np.ndarray]) -> None:
    other = case["z"].copy()
    other[SEEN:] = 5.0
    first, known, _ = _both(spec, case, case["z"])
    second, held, _ = _both(spec, case, other)
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.sd, second.sd)
    # a state never seen is held at the edge of what was: no response is extrapolated
    most = case["z"][FIRST + 5 : SEEN].max(axis=0)
    assert np.abs(held.mean - known.mean).max() < 4 * np.abs(case["beta"]).max() * np.abs(most).max()


def test_without_breathing_scores_both_forecasts_are_one(
    spec: PerfusionSpec, case: dict[str, np.ndarray]
) -> None:
    blind, given, found = _both(spec, case, np.zeros((FRAMES, 0)))
    assert found.shape == (0, N)
    assert np.array_equal(blind.mean, given.mean)
    assert np.array_equal(blind.sd, given.sd)


def test_scores_are_those_of_the_modes_put_in() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((30, 2)) * [3.0, 1.0]
    modes = np.linalg.qr(rng.standard_normal((500, 2)))[0].T
    found = principal_scores(z @ modes + 7.0, 20, 2)
    assert np.allclose(found[:20].mean(axis=0), 0, atol=1e-9)
    assert np.allclose((found[:20] ** 2).mean(axis=0), 1)
    fit = np.linalg.lstsq(np.c_[found, np.ones(30)], z, rcond=None)[0]
    assert np.allclose(np.c_[found, np.ones(30)] @ fit, z, atol=1e-8)
    assert principal_scores(z @ modes, 20, 0).shape == (30, 0)


def test_range_is_that_of_the_frames_named() -> None:
    z = np.array([[9.0], [0.0], [2.0], [5.0], [-4.0]])
    assert seen_range(z, 1, 3)[:, 0].tolist() == [2.0, 0.0, 2.0, 2.0, 0.0]


def test_draws_are_exact() -> None:
    rng = np.random.default_rng(2)
    shared, own = rng.standard_normal(40), rng.standard_normal((40, 7))
    x = exact(rng.standard_normal((40, 7)), [shared, own])
    assert np.allclose(x.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(x.var(axis=0, ddof=1), 1)
    assert np.abs((shared - shared.mean()) @ x).max() < 1e-6
    assert np.abs(((own - own.mean(axis=0)) * x).sum(axis=0)).max() < 1e-6


def test_scan_level_modes_are_those_shared_and_not_noise(spec: PerfusionSpec) -> None:
    rng = np.random.default_rng(6)
    settings = _settings(spec, modes=1)
    n, sd, pattern = 400, 0.1, 0.08 * rng.uniform(0.5, 1.5, 400)
    for size in (0.0, 1.0):
        errors = _ErrorModel(np.full(n, sd**2), settings)
        for _ in range(25):
            e = sd * rng.standard_normal(n) + size * pattern * rng.standard_normal()
            errors.add(e, np.zeros(n), np.full(n, sd**2))
        total = errors.variance(np.full(n, 0.2))
        found = np.abs(errors.modes(np.full(n, 0.2), total)[:, 0])
        if size:
            assert np.corrcoef(found, pattern)[0, 1] > 0.5
            assert 0.7 < (found @ pattern) / (pattern @ pattern) < 1.4
        else:
            assert (found**2).mean() < 0.03 * sd**2


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "perfusion.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    exec(compile(block, "docs/perfusion.md", "exec", dont_inherit=True), {"__name__": "example"})
    blind, given = (float(line.split()[1]) for line in capsys.readouterr().out.splitlines())
    assert 0.04 < given < 0.8 * blind
