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
