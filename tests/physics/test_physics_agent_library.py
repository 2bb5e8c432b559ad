"""The library's agents against figures their sources give, and an agent made up here: no code for either."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.dose_rate import dose_effect
from vvuq_twin.kinetics.pbpk import Injection
from vvuq_twin.kinetics.plasma import Dose, concentration, course
from vvuq_twin.physics.agents import library, load_agent

WANTED = {
    "doxorubicin", "liposomal_doxorubicin", "temozolomide", "paclitaxel", "gadolinium", "fdg", "lu177_psma",
    "lu177_psma_compartments",
}  # fmt: skip


def test_the_library_is_whole_and_every_number_says_where_it_comes_from():
    assert set(library()) == WANTED
    for name in WANTED:
        agent = load_agent(name)
        found = agent.parameters()
        assert len({p.name for p in found}) == len(found)
        assert all(p.source and p.prior.sd_log > 0 for p in found)
        assert all("(not read there)" in p.source or "ecalled" not in p.source.split(";")[0] for p in found)
        assert agent.tissue.basis
        agent.drug(("tumour", "normal"))


def test_paclitaxel_has_its_labelled_exposure_and_is_more_than_proportional():
    """Label, 175 mg/m2 over 3 h: peak 3650 ng/mL, area 15007 ng h/mL (recalled); 24 h infusion: less."""
    model = load_agent("paclitaxel").saturable_model()
    micromol, t = 175 * 1.8 / 853.9 * 1000, np.linspace(0.0, 96.0, 961)
    volume = model.linear.volume
    run = model.run([Dose(0.0, micromol, duration=3.0)], t)
    assert run.of("central").max() / volume == pytest.approx(3.65 / 0.8539, rel=0.2)
    area = run.integral_of("central")[0, -1] / volume
    assert area == pytest.approx(15.007 / 0.8539, rel=0.2)
    slow = model.run([Dose(0.0, micromol, duration=24.0)], t).integral_of("central")[0, -1] / volume
    assert slow < 0.7 * area
    half = model.run([Dose(0.0, micromol / 2, duration=3.0)], t).integral_of("central")[0, -1] / volume
    assert area / half > 2.5


def test_paclitaxel_feeds_tissue_as_a_curve():
    agent = load_agent("paclitaxel")
    with pytest.raises(BadInput, match="are not linear"):
        agent.plasma_model()
    doses = [Dose(0.0, 369.0, agent.compartment("intravenous"), 3.0)]
    plan, t = agent.course(doses, 72.0), np.array([1.0, 3.0, 10.0, 40.0])
    exact = agent.saturable_model().concentration(doses, t)[0]
    np.testing.assert_allclose(concentration(plan, t), exact, atol=3e-4 * exact.max())
    assert load_agent("temozolomide").course([Dose(0.0, 1.0, "gut")], 24.0).area is None


def test_which_agents_are_linear():
    assert {n for n in WANTED if load_agent(n).linear} == {"temozolomide", "gadolinium", "fdg"}


def test_fdg_in_plasma_and_its_two_tissue_influx():
    """Ki = K1 k3/(k2 + k3) when nothing comes back."""
    agent = load_agent("fdg")
    plan = course(agent.plasma_model(), [Dose(0.0, 370.0)])
    suv = concentration(plan, np.array([1.0]))[0] / 370.0 * 70.0
    assert suv == pytest.approx(2.0, rel=0.05)
    assert agent.nuclide.decay == pytest.approx(np.log(2) * 60 / 109.77)
    reactions = agent.drug(("tumour",)).reactions
    assert reactions[1, 0] == pytest.approx(3.6) and reactions[0, 1] == pytest.approx(0.36)


def test_siebingas_compartments_conserve_activity_and_saturate():
    model = load_agent("lu177_psma_compartments").saturable_model()
    run = model.run([Dose(0.0, 7400.0)], np.array([0.0, 1.0, 24.0, 96.0, 400.0]))
    parts = [n for n in run.names if not n.endswith("sites")]
    np.testing.assert_allclose(run.of(*parts), 7400.0, rtol=1e-12)
    assert 35.0 < run.of("salivary").max() <= 40.4
    little = model.run([Dose(0.0, 7.4)], np.array([1.0])).of("salivary")[0, 0] / 7.4
    much = run.of("salivary")[0, 1] / 7400.0
    assert little > 2.0 * much


def test_psma_body_gives_doses_of_the_published_order():
    """Published means per GBq: kidneys 0.3 to 0.8 Gy, salivary glands 0.5 to 1.5 Gy, tumours 1 to 10 Gy (recalled)."""
    agent = load_agent("lu177_psma")
    body = agent.body_model()
    assert body.cardiac_output == pytest.approx(214.5, rel=1e-3)
    t = np.unique(np.concatenate([[0.0], np.geomspace(0.02, 400.0, 80)]))
    run = body.run([Injection(0.0, 7400.0, 150.0)], t)
    gray = {}
    for organ in body.organs:
        effect = dose_effect(
            t, run.dose_rate(organ.name)[0], agent.radiobiology.repair.to("1/h"), body.ligand.decay
        )
        gray[organ.name] = float(effect.dose[-1]) / 7.4
    assert 0.2 < gray["kidneys"] < 0.8
    assert 0.4 < gray["salivary"] < 1.5
    assert 0.5 < gray["tumour"] < 10.0
    assert gray["marrow"] < 0.05
    assert gray["tumour"] > gray["salivary"] > gray["kidneys"] > gray["liver"]


def test_numbers_of_the_body_can_be_replaced_for_an_ensemble():
    agent = load_agent("lu177_psma")
    names = {p.name: p for p in agent.parameters()}
    assert names["tumour_receptors"].unit == "nmol/L" and names["body_association"].unit == "L/nmol/h"
    body = agent.body_model({"tumour_receptors": np.array([10.0, 94.0])})
    run = body.run([Injection(0.0, 7400.0, 150.0)], np.array([24.0]))
    assert run.activity("tumour")[1, 0] > 3 * run.activity("tumour")[0, 0]
    with pytest.raises(BadInput, match="no number 'tumor_receptors'; did you mean 'tumour_receptors'"):
        agent.body_model({"tumor_receptors": 1.0})
    with pytest.raises(BadInput, match="temozolomide has no body"):
        load_agent("temozolomide").body_model()


MADE_UP = """
name: made_up
kind: radioligand
amount_unit: nmol
plasma:
  compartments: [central]
  volume: {value: 5000, unit: mL, source: here, read: true}
  unbound: {value: 0.5, unit: "1", source: here, read: true}
  flows:
    - {from: central, to: out, rate: {value: 0.0, unit: 1/h, source: here, read: true}}
  saturable:
    - {from: central, to: out, vmax: {value: 3, unit: umol/day, source: here, read: true}, half: {value: 2, unit: nmol/mL, source: here, read: true}}
routes: {intravenous: central}
tissue:
  basis: made up
  diffusivity: {value: 1.0, unit: mm2/h, source: here, read: true}
effect:
  species: free
  emax: {value: 2.4, unit: 1/day, source: here, read: true}
  ec50: {value: 3, unit: umol/L, source: here, read: true}
  power: {value: 2, unit: "1", source: here, read: true}
nuclide:
  half_life: {value: 2, unit: day, source: here, read: true}
  electrons: {value: 0.1, unit: MeV, source: here, read: true}
body:
  blood: {value: 3, unit: L, source: here, read: true}
  density: {value: 1, unit: g/mL, source: here, read: true}
  association: {value: 1, unit: L/nmol/h, source: here, read: true}
  dissociation: {value: 5, unit: nmol/L, source: here, read: true}
  internalisation: {value: 0.1, unit: 1/h, source: here, read: true}
  unbound: {value: 1, unit: "1", source: here, read: true}
  organs:
    thyroid:
      volume: {value: 20, unit: mL, source: here, read: true}
      flow: {value: 100, unit: mL/min, source: here, read: true}
      plasma: {value: 2, unit: mL, source: here, read: true}
      interstitium: {value: 4, unit: mL, source: here, read: true}
      permeability: {value: 1, unit: L/h, source: here, read: true}
      receptors: {value: 50, unit: nmol/L, source: here, read: true}
"""


def test_a_new_agent_with_saturation_effect_and_a_body_needs_no_code(tmp_path):
    path = tmp_path / "made_up.yaml"
    path.write_text(MADE_UP)
    agent = load_agent(path)
    flow = agent.saturable_model().flows[0]
    assert flow.vmax == pytest.approx(125.0) and flow.half == pytest.approx(2000.0)
    law = agent.kill_law()
    assert law.rate(np.array([0.0, 3000.0, 1e9])) == pytest.approx([0.0, 0.05, 0.1])
    run = agent.body_model().run([Injection(0.0, 10.0, 5.0)], np.array([0.0, 1.0, 48.0]))
    total = run.ligand("blood") + run.ligand("thyroid")
    np.testing.assert_allclose(total, 5.0, rtol=1e-11)
    everywhere = run.activity("blood") + run.activity("thyroid")
    np.testing.assert_allclose(everywhere[0], 10.0 * 0.5 ** (np.array([0.0, 1.0, 48.0]) / 48.0), rtol=1e-7)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("      flow: {value: 100, unit: mL/min, source: here, read: true}\n", "", "body.organs.thyroid.flow: this key is missing"),
        ("value: 100, unit: mL/min", "value: 100, unit: mL", "the unit 'mL' cannot be converted to 'L/h'"),
        ("vmax: {value: 3, unit: umol/day, source: here, read: true}, ", "", "vmax: this key is missing"),
        ("species: free", "species: fre", "the species 'fre' of the effect"),
        ("      plasma: {value: 2,", "      plasma: {value: 0,", "the plasma of thyroid"),
        ("source: here, read: true}\n  dissociation", "source: here}\n  dissociation", "read: this key is missing"),
        ("nuclide:\n  half_life: {value: 2, unit: day, source: here, read: true}\n  electrons: {value: 0.1, unit: MeV, source: here, read: true}\n", "", "need a nuclide"),
    ],
)  # fmt: skip
def test_faults_name_the_field(tmp_path, old, new, message):
    assert old in MADE_UP
    path = tmp_path / "made_up.yaml"
    path.write_text(MADE_UP.replace(old, new, 1))
    with pytest.raises(BadInput, match=message):
        load_agent(path).body_model()
