"""Every family of OSIPI's reference cases, each value as a share of OSIPI's own tolerance (one is the limit)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vvuq_twin.imaging.contrast import concentration
from vvuq_twin.kinetics.aif import blood
from vvuq_twin.kinetics.fit import fit_tracer
from vvuq_twin.kinetics.tracer import EXCHANGE, EXTENDED_TOFTS, PATLAK, TracerModel

#: Our parameter, OSIPI's column, ours in OSIPI's unit, absolute and relative tolerance (the data's README).
Rows = list[tuple[str, str, float, float, float]]
PS = ("ps", 1.0, 0.005, 0.1)


def _cases(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(10**7)
    with open(path, encoding="utf-8-sig") as source:
        return list(csv.DictReader(source))


def _numbers(text: str) -> np.ndarray:
    return np.array([float(x) for x in text.split()])


def _model(
    cases: list[dict[str, str]], model: TracerModel, curve: str, cp: str, rows: Rows
) -> dict[str, np.ndarray]:
    share: dict[str, list[float]] = {name: [] for name, *_ in rows}
    for case in cases:
        fit = fit_tracer(model, _numbers(case[curve])[None], _numbers(case[cp]), _numbers(case["t"]) / 60.0)
        for name, column, unit, absolute, relative in rows:
            true = float(case[column])
            share[name].append(abs(fit.values[name][0] * unit - true) / (absolute + relative * true))
    return {name: np.array(values) for name, values in share.items()}


def test_all_families_are_within_osipis_tolerances(shared_data: Path) -> None:
    folder = shared_data / "osipi"
    tofts: Rows = [
        ("ktrans", "Ktrans", 1.0, 0.005, 0.1),
        ("ve", "ve", 1.0, 0.05, 0.0),
        ("vp", "vp", 1.0, 0.025, 0.0),
    ]
    patlak: Rows = [("ktrans", *PS), ("vp", "vp", 1.0, 0.025, 0.0)]
    exchange: Rows = [
        ("fp", "fp", 100.0, 5.0, 0.1), ("ps", *PS), ("vp", "vp", 1.0, 0.025, 0.0), ("ve", "ve", 1.0, 0.05, 0.0),
    ]  # fmt: skip
    found = {}
    for label, file, count, model, curve, cp, rows in (
        ("extended Tofts", "dce_DRO_data_extended_tofts.csv", 15, EXTENDED_TOFTS, "C", "ca", tofts),
        ("Patlak", "patlak_sd_0.02_delay_0.csv", 9, PATLAK, "C_t", "cp_aif", patlak),
        ("2CXM", "2cxm_sd_0.001_delay_0.csv", 24, EXCHANGE, "C_t", "cp_aif", exchange),
    ):
        cases = _cases(folder / file)
        assert len(cases) == count
        for name, share in _model(cases, model, curve, cp, rows).items():
            found[f"{label} {name}"] = share
    points = _cases(folder / "ParkerAIF_ref.csv")
    assert len(points) == 1931
    t, delay, true = (np.array([float(r[c] or 0) for r in points]) for c in ("time", "delay", "Cb"))
    ours = np.concatenate([blood(t[delay == d], onset=d / 60.0) for d in dict.fromkeys(delay)])
    true = np.concatenate([true[delay == d] for d in dict.fromkeys(delay)])
    found["Parker input"] = np.abs(ours - true) / (1e-4 + 0.01 * np.abs(true))
    shares = []
    for case in _cases(folder / "SI2Conc_data.csv"):
        s, true = _numbers(case["s"]), _numbers(case["conc"])
        # the reference skips the first frame and averages the next ones
        base = s[1 : int(case["numbaselinepts"])].mean()
        c = concentration(
            s,
            base,
            float(case["T1base"]),
            np.deg2rad(float(case["FA"])),
            float(case["TR"]),
            float(case["r1"]),
        )
        shares.append(np.abs(c - true) / (1e-5 + 1e-5 * np.abs(true)))
    found["signal to concentration"] = np.concatenate(shares)
    print(f"\n{'family':26s} {'values':>7s} {'worst share of the tolerance':>29s}")
    for name, share in found.items():
        print(f"{name:26s} {len(share):7d} {share.max():29.3f}")
    assert {n: s.max() for n, s in found.items() if not s.max() <= 1.0} == {}
