"""A patient folder whose truth is known, through every path of quantify, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.imaging.contrast import signal_of
from vvuq_twin.imaging.quantified import write_quantified
from vvuq_twin.imaging.quantify import Options, quantify
from vvuq_twin.imaging.read import read_image
from vvuq_twin.imaging.t1 import spoiled_gradient_echo
from vvuq_twin.imaging.write import write_image
from vvuq_twin.kinetics.aif import blood, plasma
from vvuq_twin.kinetics.tofts import extended_tofts
from vvuq_twin.kinetics.tracer import TWO_TISSUE_IRREVERSIBLE

GRID = Grid((20, 18, 8), (2.0, 2.0, 3.0), (5.0, -7.0, 11.0))
I, J, K = (c * h for c, h in zip(np.indices(GRID.shape), GRID.spacing))
TUMOUR = (I - 18) ** 2 + (J - 16) ** 2 + (K - 11) ** 2 <= 10**2
SMALLER = (I - 18) ** 2 + (J - 16) ** 2 + (K - 11) ** 2 <= 6**2
ARTERY = (I - 34) ** 2 + (J - 6) ** 2 <= 9
KTRANS, VE, VP, T1 = 0.25, 0.35, 0.05, 1.1
TIMES = np.arange(0.0, 300.0, 4.0)
LU = np.log(2) / (6.647 * 24)


def _dwi(rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
    b = [0.0, 400.0, 800.0]
    adc = np.where(TUMOUR, 1.3e-3, 0.8e-3)
    return np.stack([1000 * np.exp(-x * adc) + 4 * rng.standard_normal(GRID.shape) for x in b]), b


def _patient(folder: Path) -> dict[str, Any]:
    """Three visits: MR with everything, PET and a smaller tumour, and SPECT on four days after a dose."""
    rng = np.random.default_rng(0)
    dwi, b = _dwi(rng)
    write_image(folder / "dwi.nii.gz", dwi, GRID)
    flips, tr = [3.0, 10.0, 20.0], 0.004
    m0 = 3000.0 + 0 * I
    t1 = np.where(ARTERY, 1.44, T1)
    vfa = np.stack([spoiled_gradient_echo(m0, 1 / t1, np.deg2rad(a), tr) for a in flips])
    write_image(folder / "vfa.nii.gz", vfa + 0.3 * rng.standard_normal(vfa.shape), GRID)
    t = TIMES / 60
    c = np.zeros((len(t), *GRID.shape))
    c[:] = extended_tofts(plasma(t, onset=0.6), t, [0.05], [0.15], [0.01])[0][:, None, None, None]
    c[:, TUMOUR] = extended_tofts(plasma(t, onset=0.6), t, [KTRANS], [VE], [VP])[0][:, None]
    c[:, ARTERY] = blood(t, onset=0.6)[:, None]
    base = spoiled_gradient_echo(m0, 1 / t1, np.deg2rad(20.0), tr)
    dce = signal_of(c, base, t1, np.deg2rad(20.0), tr, 4.5)
    write_image(folder / "dce.nii.gz", dce + 0.3 * rng.standard_normal(dce.shape), GRID)
    for name, mask in (("tumour1", TUMOUR), ("tumour2", SMALLER), ("artery", ARTERY)):
        write_image(folder / f"{name}.nii.gz", mask, GRID)
    write_image(
        folder / "pet.nii.gz", np.where(TUMOUR, 20000.0, 5000.0) + 50 * rng.standard_normal(GRID.shape), GRID
    )
    acquisition = {
        "repetition_time_ms": 4.0, "flip_angle_deg": 20.0, "frame_times_s": TIMES.tolist(), "baseline_frames": 8,
        "relaxivity_per_mM_per_s": 4.5,
    }  # fmt: skip
    first = {
        "dwi": {"file": "dwi.nii.gz", "unit": "arbitrary", "acquisition": {"b_values_s_per_mm2": b}},
        "vfa": {
            "file": "vfa.nii.gz", "unit": "arbitrary",
            "acquisition": {"flip_angles_deg": flips, "repetition_time_s": tr},
        },
        "dce": {"file": "dce.nii.gz", "unit": "arbitrary", "acquisition": acquisition},
        "tumour": {"file": "tumour1.nii.gz"},
    }  # fmt: skip
    pet = {"injected_activity_Bq": 370e6, "half_life_s": 6586.2, "injection_to_reference_s": 3600.0}
    second = {
        "pet": {"file": "pet.nii.gz", "unit": "Bq/mL", "acquisition": pet}, "tumour": {"file": "tumour2.nii.gz"},
    }  # fmt: skip
    visits: list[dict[str, Any]] = [
        {"id": "v1", "day": 0, "images": first}, {"id": "v2", "day": 30, "images": second},
    ]  # fmt: skip
    for number, hours in enumerate((4.0, 24.0, 72.0), 1):
        activity = np.where(TUMOUR, 1e6, 1e4) * np.exp(-(LU + 0.005) * hours) + 20 * rng.standard_normal(
            GRID.shape
        )
        write_image(folder / f"spect{number}.nii.gz", np.maximum(activity, 0.0), GRID)
        image = {"file": f"spect{number}.nii.gz", "unit": "Bq/mL"}
        visits.append({"id": f"s{number}", "day": 40 + hours / 24, "images": {"spect": image}})
    data = {
        "id": "p-1", "body": {"mass": {"value": 70, "unit": "kg"}}, "visits": visits,
        "treatments": [
            {"kind": "drug", "agent": "lu177_psma", "amount": 7.4, "unit": "GBq", "route": "intravenous", "day": 40}
        ],
    }  # fmt: skip
    (folder / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("patient")
    _patient(path)
    return path


def test_every_map_is_near_its_truth_and_its_error_is_of_the_right_size(folder: Path, tmp_path: Path) -> None:
    found = quantify(folder)
    v1, v2 = found.visits[:2]
    inner = SMALLER
    # ktrans' error has T1's and the baseline's in it, which are common to the frames
    for name, truth in (("adc", 1.3e-3), ("ktrans", KTRANS), ("ve", VE), ("vp", VP), ("t1_map", T1)):
        one = v1.maps[name]
        off = (one.values[inner] - truth) / one.error[inner]
        # the input is read off a grid of one second and the curves are linear between four seconds: a bias of some per cent
        assert abs(np.median(one.values[inner]) / truth - 1) < 0.08, name
        assert 0.5 < np.std(off) < 1.6, (name, np.std(off))
    assert v1.numbers["perfusion"]["delay_min"] == pytest.approx(0.6, abs=0.05)
    assert v1.numbers["tumour"]["volume_mL"] == pytest.approx(TUMOUR.sum() * 0.012)
    assert v1.numbers["tumour"]["volume_sd_mL"] > 0
    assert v1.numbers["features"]["adc.mean"] == pytest.approx(1.3e-3, rel=0.01)
    # 370 MBq an hour later in 70 kg
    left = 370e6 * 0.5 ** (3600 / 6586.2)
    assert np.median(v2.maps["suv"].values[inner]) == pytest.approx(20000 / (left / 70e3), rel=0.01)
    integral = v1.maps["integrated_activity"]
    assert np.median(integral.values[inner]) == pytest.approx(1e6 / (LU + 0.005), rel=0.005)
    dose, local = v1.maps["dose"], v1.maps["dose_local"]
    assert np.median(local.values[inner]) == pytest.approx(0.0853 * 1 / (LU + 0.005), rel=0.01)
    assert dose.values[GRID.shape[0] // 2, 8, 4] < 1.3 * local.values[GRID.shape[0] // 2, 8, 4]
    assert v1.numbers["dose"]["escaped_J"] < v1.numbers["dose"]["emitted_J"]
    assert [r["category"] for r in found.responses["recist_1_1"]] == ["baseline", "PR"]
    out = write_quantified(found, tmp_path / "out")
    table = json.loads((out / "quantify.json").read_text())
    listed = {m["file"] for v in table["visits"] for m in v["maps"].values()}
    listed |= {m["error"] for v in table["visits"] for m in v["maps"].values() if "error" in m}
    assert {str(p.relative_to(out)) for p in out.rglob("*.nii.gz")} == listed
    array, grid = read_image(out / "v1" / "ktrans.nii.gz")
    assert grid.same_as(GRID) and np.allclose(array[inner], v1.maps["ktrans"].values[inner], rtol=1e-6)
    assert (out / "v1" / "perfusion.png").stat().st_size > 10_000
    # a second time replaces it; a foreign folder is left alone
    write_quantified(found, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="holds something else"):
        write_quantified(found, tmp_path / "mine")
    with pytest.raises(BadInput, match="a file, not a folder"):
        write_quantified(found, tmp_path / "mine" / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".part")] == []


def test_voxels_without_data_are_left_out(tmp_path: Path) -> None:
    """A visit that was moved onto another has no data at the edge; what is inside is found as before."""
    data = _patient(tmp_path)
    data["visits"] = data["visits"][:2]
    for name in ("dwi", "vfa", "dce", "pet"):
        array, grid = read_image(tmp_path / f"{name}.nii.gz")
        array = array.astype(float)
        array[..., :2, :, :] = np.nan
        write_image(tmp_path / f"{name}.nii.gz", array, grid)
        for visit in data["visits"]:
            if name in visit["images"]:
                visit["images"][name]["missing"] = "nan"
    (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    v1, v2 = quantify(tmp_path).visits
    for one, name, truth in ((v1, "adc", 1.3e-3), (v1, "ktrans", KTRANS), (v1, "t1_map", T1)):
        values, errors = one.maps[name].values, one.maps[name].error
        assert np.isnan(values[:2]).all()
        assert np.median(values[SMALLER]) == pytest.approx(truth, rel=0.08)
        assert np.isfinite(errors[SMALLER]).all()
    assert np.isfinite(v2.maps["suv"].error).all() and np.isfinite(v2.numbers["suv"]["maximum"])


def test_an_outlined_artery_is_the_input(tmp_path: Path) -> None:
    data = _patient(tmp_path)
    data["visits"] = data["visits"][:1]
    data["visits"][0]["images"]["organ_artery"] = {"file": "artery.nii.gz"}
    (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    found = quantify(tmp_path)
    numbers = found.visits[0].numbers["perfusion"]
    assert numbers["arterial_input"] == "vessel"
    assert found.visits[0].perfusion is not None and found.visits[0].perfusion.vessel is not None
    # sampled every four seconds the first pass is coarse: some per cent
    assert numbers["ktrans_median"] == pytest.approx(KTRANS, rel=0.1)
    assert numbers["ve_median"] == pytest.approx(VE, rel=0.1)
    # blood relaxes more slowly at 3 T: the same signal is another concentration
    series = data["visits"][0]["images"]["dce"]["acquisition"]
    for field in (2.89, 7.0):
        series["field_strength_T"] = field
        (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
        if field > 3:
            with pytest.raises(BadInput, match="no T1 of blood is known at '7 T'"):
                quantify(tmp_path)
        else:
            stronger = quantify(tmp_path).visits[0].numbers["perfusion"]["ktrans_median"]
            assert abs(stronger / numbers["ktrans_median"] - 1.0) > 0.02


def test_a_dynamic_pet_series_gives_net_uptake(tmp_path: Path) -> None:
    starts = np.concatenate([np.arange(0, 120, 10.0), np.arange(120, 600, 60.0), np.arange(600, 3600, 300.0)])
    durations = np.diff(np.append(starts, 3600.0))
    frames = np.stack([starts, starts + durations], axis=1) / 60
    # blood that is piecewise linear between the frames' middles, as it can be read off them
    times = np.concatenate([[0.0], frames.mean(axis=1), [60.0]])
    course = 4e4 * np.exp(-times / 40) * times / (times + 0.3)
    course[-1] = course[-2]
    truth = {"k1": 0.1, "k2": 0.3, "k3": 0.08, "vb": 0.04}
    mean = TWO_TISSUE_IRREVERSIBLE.curves(truth, course, times, frames=frames)[0]
    series = np.empty((len(starts), *GRID.shape))
    series[:] = 0.3 * mean[:, None, None, None]
    series[:, TUMOUR] = mean[:, None]
    series[:, ARTERY] = course[1:-1, None]
    series *= 1 + 0.005 * np.random.default_rng(0).standard_normal(series.shape)
    write_image(tmp_path / "pet.nii.gz", series, GRID)
    write_image(tmp_path / "tumour.nii.gz", TUMOUR, GRID)
    write_image(tmp_path / "artery.nii.gz", ARTERY, GRID)
    acquisition = {"frame_times_s": starts.tolist(), "frame_durations_s": durations.tolist()}
    images = {
        "pet_dynamic": {"file": "pet.nii.gz", "unit": "Bq/mL", "acquisition": acquisition},
        "tumour": {"file": "tumour.nii.gz"}, "organ_artery": {"file": "artery.nii.gz"},
    }  # fmt: skip
    data = {"id": "p", "visits": [{"id": "v", "day": 0, "images": images}]}
    (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data))
    visit = quantify(tmp_path).visits[0]
    numbers, ki = visit.numbers["uptake"], 0.1 * 0.08 / 0.38
    assert numbers["tumour_ki"] == pytest.approx(ki, rel=0.02)
    assert numbers["tumour_k1"] == pytest.approx(0.1, rel=0.05)
    # the plot's slope has the blood's share in it
    assert np.median(visit.maps["ki"].values[TUMOUR]) == pytest.approx(0.96 * ki, rel=0.03)
    spread = np.std(visit.maps["ki"].values[TUMOUR]) / np.median(visit.maps["ki"].error[TUMOUR])
    assert 0.7 < spread < 1.5
    del acquisition["frame_durations_s"]
    (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(BadInput, match="does not say its frame_durations_s"):
        quantify(tmp_path)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda i: i["dwi"]["acquisition"].clear(), r"dwi image does not say its b_values_s_per_mm2"),
        (lambda i: i["dwi"]["acquisition"].update(b_values_s_per_mm2=[0, 800]), "3 volumes for 2 b-values"),
        (lambda i: i["vfa"]["acquisition"].update(flip_angles_deg="many"), "flip_angles_deg is not numbers"),
        (lambda i: i["dce"]["acquisition"].pop("relaxivity_per_mM_per_s"), "does not say its relaxivity"),
        (lambda i: i["dce"]["acquisition"].update(frame_times_s=[0, 4]), "2 times came for 75 frames"),
        (lambda i: i["dce"]["acquisition"].update(baseline_frames=75), "baseline frames are none or all"),
        (lambda i: i["dwi"].update(unit="blips"), "unit .blips. is not known"),
        (
            lambda i: i["dce"]["acquisition"].update(flip_angle_deg=1.0),
            "beyond what any concentration|credible",
        ),
    ],
)
def test_faults_are_one_sentence(folder: Path, tmp_path: Path, edit, sentence: str) -> None:
    data = yaml.safe_load((folder / "patient.yaml").read_text())
    data["visits"] = data["visits"][:1]
    edit(data["visits"][0]["images"])
    for path in folder.glob("*.nii.gz"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "patient.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(BadInput, match=sentence):
        quantify(tmp_path)


def test_unknown_choices_are_named(folder: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'extended_tofts'"):
        quantify(folder, Options(model="extended_toft"))
    with pytest.raises(BadInput, match="did you mean 'parker'"):
        quantify(folder, Options(arterial="parkre"))


def test_the_command_writes_and_refuses(folder: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        code = "from vvuq_twin.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
        )

    done = run("quantify", str(folder), "--out", str(tmp_path / "q"), "--quiet")
    assert done.returncode == 0, done.stderr
    assert "v1: adc, " in done.stdout and (tmp_path / "q" / "quantify.json").is_file()
    failed = run("quantify", str(folder), "--out", str(tmp_path / "r"), "--model", "nonsense", "--quiet")
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and "nonsense" in failed.stderr
    assert not (tmp_path / "r").exists()


def test_the_real_series_end_to_end(shared_data: Path) -> None:
    """An independent fit of this series found for its mean Ktrans 0.23, ve 0.56, vp 0.06 and 0.13 mM of residual."""
    numbers = quantify(shared_data / "dce_mri_tumour").visits[0].numbers["perfusion"]
    assert numbers["ktrans_mean_curve"] == pytest.approx(0.23, abs=0.03)
    assert numbers["ve_mean_curve"] == pytest.approx(0.56, abs=0.05)
    assert numbers["vp_mean_curve"] == pytest.approx(0.06, abs=0.015)
    assert numbers["residual_rms_mean_curve_mM"] == pytest.approx(0.13, abs=0.01)
    # voxels move with the breath: their residual is twice the noise before the agent
    assert 0.15 < numbers["residual_rms_mM"] < 0.3
