"""The body model of a radioligand: what closes, what competes, what decays."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.pbpk import Body, Injection, Ligand, Organ
from vvuq_twin.kinetics.plasma import Dose, PlasmaModel, course, simulate

DECAY = np.log(2) / (6.647 * 24)
TIMES = np.array([0.0, 0.1, 1.0, 6.0, 24.0, 96.0, 200.0])
PLACES = ("blood", "excreted", "kidneys", "liver", "spleen", "tumour")


def ligand(decay: float = DECAY, internalisation: float = 0.06) -> Ligand:
    return Ligand(5.4, 1.0, internalisation, 0.6, decay, 147.9)


def body(decay: float = DECAY, internalisation: float = 0.06, receptors: float = 1.0) -> Body:
    organs = (
        Organ("kidneys", 0.31, 40.0, 0.03, 0.05, 20.0, 5.6 * receptors, 0.0138, filtration=6.0),
        Organ("liver", 1.8, 15.0, 0.2, 0.35, 300.0),
        Organ("spleen", 0.15, 8.0, 0.02, 0.03, 30.0, 1.5 * receptors, 0.0138, drains="liver"),
        Organ("tumour", 0.05, 0.6, 0.003, 0.015, 1.0, 2.0 * receptors, 0.0084),
    )
    return Body(1.4, organs, ligand(decay, internalisation))


def test_constants_of_lutetium():
    """0.0853 Gy kg/(GBq h) from 147.9 keV; 727 MBq/nmol without carrier."""
    assert ligand().dose_factor == pytest.approx(0.0853, rel=1e-3)
    assert ligand().specific_activity == pytest.approx(726.8, rel=1e-3)


def test_ligand_and_receptors_are_conserved_and_flows_close():
    b = body()
    run = b.run([Injection(0.0, 7400.0, 120.0, duration=0.5), Injection(48.0, 3700.0, 60.0)], TIMES)
    given = np.array([0.0, 24.0, 120.0, 120.0, 120.0, 180.0, 180.0])
    np.testing.assert_allclose(sum(run.ligand(p)[0] for p in PLACES), given, rtol=1e-11)
    for organ in b.organs:
        if organ.receptors:
            held = run.run.of(*(f"{organ.name} {s}" for s in ("receptors", "bound hot", "bound cold")))
            np.testing.assert_allclose(held[0], organ.receptors, rtol=1e-11)
    assert b.through(b.organs[1]) == 23.0
    assert b.cardiac_output == pytest.approx(40 + 15 + 8 + 0.6)
    assert run.run.amounts.min() > -1e-9
    assert run.run.status.tolist() == [0]


def test_decay_does_not_move_ligand_and_is_the_law():
    """Activity is moles without decay times specific activity times exp(-lambda t)."""
    lasting, decaying = (body(d).run([Injection(0.0, 0.0, 100.0)], TIMES) for d in (0.0, DECAY))
    np.testing.assert_allclose(lasting.ligand("tumour"), decaying.ligand("tumour"), rtol=1e-7)
    full = 100.0 * ligand().specific_activity
    run = body().run([Injection(0.0, full, 100.0)], TIMES)
    law = ligand().specific_activity * lasting.ligand("tumour") * np.exp(-DECAY * TIMES)
    np.testing.assert_allclose(run.activity("tumour"), law, rtol=1e-6, atol=1e-6)
    total = sum(run.activity(p) for p in PLACES)
    np.testing.assert_allclose(total[0], full * np.exp(-DECAY * TIMES), rtol=1e-6)


def test_more_cold_ligand_leaves_less_activity_where_receptors_are_few():
    share = [
        float(body().run([Injection(0.0, 1000.0, cold)], TIMES).activity("tumour")[0, 4])
        for cold in (2.0, 40.0, 800.0)
    ]
    assert share[0] > 1.3 * share[1] > 3.0 * share[2]
    full = body().run([Injection(0.0, 1000.0, 800.0)], TIMES)
    assert full.occupancy("tumour").max() > 0.95


def test_without_receptors_it_is_the_linear_model():
    """The same flows through the plasma room's matrix exponential."""
    b = body(decay=0.0, receptors=0.0)
    net = b.network()
    matrix = np.zeros((len(net.names), len(net.names)))
    for r in net.reactions:
        assert len(r.reactants) == 1
        i = net.index(r.reactants[0])
        matrix[i, i] -= r.rate
        for p in r.products:
            matrix[net.index(p), i] += r.rate
    plan = course(PlasmaModel(net.names, matrix, 1.4, central="blood cold"), [Dose(0.0, 50.0, "blood cold")])
    exact = simulate(plan, TIMES)[0]
    got = b.run([Injection(0.0, 0.0, 50.0)], TIMES).run.amounts[0]
    np.testing.assert_allclose(got, exact, atol=1e-6)


def test_time_integrated_activity_and_dose_rate():
    times = np.linspace(0.0, 100.0, 1001)
    run = body().run([Injection(0.0, 7400.0, 120.0)], times)
    by_hand = np.trapezoid(run.activity("kidneys")[0, 20:], times[20:])
    assert run.decays("kidneys")[0, -1] - run.decays("kidneys")[0, 20] == pytest.approx(by_hand, rel=2e-4)
    np.testing.assert_allclose(
        run.dose_rate("kidneys"), 0.085306 * run.activity("kidneys") / 1000.0 / 0.31, rtol=1e-4
    )


def test_members():
    organs = tuple(
        Organ("tumour", 0.05, 0.6, 0.003, 0.015, 1.0, np.array([1.0, 4.0]), 0.0084)
        if o.name == "tumour"
        else o
        for o in body().organs
    )
    run = Body(1.4, organs, ligand()).run([Injection(0.0, 7400.0, 120.0)], TIMES)
    assert run.activity("tumour").shape == (2, len(TIMES))
    assert run.activity("tumour")[1, 4] > 2.0 * run.activity("tumour")[0, 4]
    assert run.occupancy("tumour").shape == (2, len(TIMES))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flow": -1.0}, "the flow of spleen"),
        ({"interstitium": 0.0}, "the interstitium of spleen"),
        ({"receptors": np.nan}, "the receptors of spleen"),
        ({"drains": "lever"}, "drains into 'lever', which is not there; did you mean 'liver'"),
        ({"drains": "spleen"}, "never comes back"),
        ({"name": "liver"}, "is there twice"),
    ],
)
def test_bad_bodies_are_sentences(change, message):
    spleen = {
        "name": "spleen", "mass": 0.15, "flow": 8.0, "plasma": 0.02, "interstitium": 0.03, "permeability": 30.0,
        "drains": "liver",
    }  # fmt: skip
    with pytest.raises(BadInput, match=message):
        Body(1.4, (Organ("liver", 1.8, 15.0, 0.2, 0.35, 300.0), Organ(**(spleen | change))), ligand())


def test_more_activity_than_ligand_is_bad_input():
    with pytest.raises(BadInput, match="more than the 5 nmol injected"):
        body().run([Injection(0.0, 7400.0, 5.0)], TIMES)
    with pytest.raises(BadInput, match="the organ 'kidney' is not known; did you mean 'kidneys'"):
        body().run([Injection(0.0, 10.0, 5.0)], TIMES).activity("kidney")
