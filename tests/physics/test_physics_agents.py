"""Agent files."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.kinetics.plasma import Dose, concentration, course
from vvuq_twin.physics.agents import library, load_agent

OWN = """
name: own
kind: drug
amount_unit: mg
plasma:
  compartments: [central]
  volume: {value: 5000, unit: mL, source: here, read: true}
  unbound: {value: 0.5, unit: "1", source: here, read: true}
  flows:
    - {from: central, to: out, rate: {value: 0.01, unit: 1/min, source: here, read: true}}
routes: {intravenous: central}
tissue:
  diffusivity:
    white: {value: 1.0e-10, unit: m2/s, source: here, read: false}
    grey: {value: 2.0e-10, unit: m2/s, source: here, read: false}
  reactions:
    - {from: free, to: bound, rate: {value: 1, unit: 1/h, source: here, read: true}}
    - {from: bound, to: free, rate: {value: 2, unit: 1/h, source: here, read: true}}
"""


def test_library():
    assert {"temozolomide", "gadolinium"} <= set(library())
    for name in library():
        agent = load_agent(name)
        assert agent.name == name
        assert all(p.source for p in agent.parameters())


def test_temozolomide_has_its_published_exposure_and_half_life():
    """Ostermann 2004: clearance 10 L/h, half-life 2.1 h; a dose of 150 mg gives 15 mg h/L."""
    model = load_agent("temozolomide").plasma_model()
    assert course(model, [Dose(0.0, 150.0, "gut")]).total_exposure() == pytest.approx(15.0, rel=0.01)
    late = concentration(course(model, [Dose(0.0, 150.0, "gut")]), np.array([10.0, 12.1]))
    assert late[1] / late[0] == pytest.approx(0.5, rel=0.01)


def test_gadolinium_is_weinmanns_curve():
    """Cp = D (3.99 exp(-0.144 t) + 4.78 exp(-0.0111 t)), t in minutes, D in mmol/kg, for 70 kg."""
    plan = course(load_agent("gadolinium").plasma_model(), [Dose(0.0, 0.1 * 70)])
    minutes = np.array([0.0, 1.0, 5.0, 30.0, 90.0])
    curve = 0.1 * (3.99 * np.exp(-0.144 * minutes) + 4.78 * np.exp(-0.0111 * minutes))
    np.testing.assert_allclose(concentration(plan, minutes / 60), curve, rtol=2e-3)


def test_own_file_with_units(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    agent = load_agent(path)
    model = agent.plasma_model()
    assert model.volume == pytest.approx(5.0)
    np.testing.assert_allclose(model.matrix, [[-0.6]])
    drug = agent.drug(("grey", "white"))
    np.testing.assert_allclose(drug.diffusivity, [0.72, 0.36])
    assert drug.names == ("free", "bound")
    np.testing.assert_allclose(drug.reactions, [[-1, 2], [1, -2]])
    assert "(not read there)" in {p.name: p for p in agent.parameters()}["D_drug_white"].source
    with pytest.raises(BadInput, match="no diffusivity for the tissue 'gray'"):
        agent.drug(("gray",))
    with pytest.raises(BadInput, match="has no route 'oral'"):
        agent.compartment("oral")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit: mL", "unit: mg", "cannot be converted"),
        ("value: 5000", "value: -5", "greater than or equal to 0"),
        ("kind: drug", "kind: drug\nkynd: drug", "'kynd' is not known"),
        ("to: out", "to: kidney", "'kidney' is not among"),
        ("from: central, to: out", "to: out", "missing"),
    ],
)
def test_faults_are_sentences(tmp_path, old, new, message):
    path = tmp_path / "own.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(BadInput, match=message):
        load_agent(path).plasma_model()


def test_unknown_agent_names_the_near_one():
    with pytest.raises(BadInput, match="did you mean 'temozolomide'"):
        load_agent("temozolamide")


def test_doxorubicin_is_the_published_tri_exponential():
    """Dose (74.6 exp(-2.69e-3 t) + 2.49 exp(-2.83e-4 t) + 0.552 exp(-1.18e-5 t)) per m3, t in seconds."""
    agent = load_agent("doxorubicin")
    hours = np.array([0.0, 0.1, 1.0, 10.0, 48.0])
    got = concentration(course(agent.plasma_model(), [Dose(0.0, 90.0)]), hours)
    terms = ((74.6, 2.69e-3), (2.49, 2.83e-4), (0.552, 1.18e-5))
    curve = sum(a * np.exp(-k * 3600.0 * hours) for a, k in terms)
    np.testing.assert_allclose(got, 90.0 * curve / 1000.0, rtol=1e-5)


def test_doxorubicin_in_tissue_has_its_species_and_units():
    drug = load_agent("doxorubicin").drug(("tumour", "normal"))
    assert drug.names == ("free", "bound", "cell") and drug.moving == 2
    np.testing.assert_allclose(drug.diffusivity_of(0), [1.224, 0.5688])
    np.testing.assert_allclose(drug.exchange[0].permeability, [10.8, 1.35])  # 3e-6 m/s
    assert drug.reactions[1, 0] == pytest.approx(0.833 * 3600)
    uptake = drug.uptake[0]
    assert (uptake.source, uptake.target) == (0, 2)
    # 1e15 cells per m3 are 1e7 times 1e5 cells per litre
    np.testing.assert_allclose(uptake.cells, 1e7)
    np.testing.assert_allclose(uptake.rate, 4.67e-15 * 1e6 * 3600)
    np.testing.assert_allclose(uptake.half_in, 0.219)


def test_a_carrier_releases_by_tissue_and_sees_its_own_plasma():
    agent = load_agent("liposomal_doxorubicin")
    drug = agent.drug(("tumour", "normal"))
    carrier, free = drug.names.index("carrier"), drug.names.index("free")
    np.testing.assert_allclose(drug.reactions[:, free, carrier], [180.0, 1.95012])
    plan = course(agent.plasma_model(), [Dose(0.0, 50.0, agent.compartment("intravenous"))])
    rows = drug.inputs(plan)
    np.testing.assert_allclose(rows[carrier], [1 / 3, 0, 0, 0])
    np.testing.assert_allclose(rows[0] * 3, rows[1])  # a quarter of the plasma's drug is free


def test_every_library_agent_says_on_which_basis_its_numbers_are():
    assert all(load_agent(name).tissue.basis for name in library())
