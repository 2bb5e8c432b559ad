"""Lengths against voxels."""

from __future__ import annotations

import pytest

from vvuq_twin.physics.agents import load_agent
from vvuq_twin.physics.interstitium import load_fluid_tissues
from vvuq_twin.physics.lengths import cell_peclet, drug_lengths, fluid_lengths, rim_speed, sentences


def test_lengths_by_hand():
    tissues, agent = load_fluid_tissues(), load_agent("doxorubicin")
    layers = {x.what: x.mm for x in fluid_lengths(tissues)}
    assert layers["pressure layer of tumour tissue"] == pytest.approx(0.2716, abs=1e-4)
    depths = {x.what: x.mm for x in drug_lengths(agent, tissues)}
    back = depths["penetration of doxorubicin (free) against return to vessels in tumour tissue"]
    assert back == pytest.approx((1.224 / (10.8 * 20 / 0.4)) ** 0.5)
    binding = depths["penetration of doxorubicin (free) against becoming bound in tumour tissue"]
    assert binding == pytest.approx((3.4e-10 / 0.833) ** 0.5 * 1e3)


def test_sentences_say_what_is_not_resolved():
    tissues = load_fluid_tissues()
    said = "\n".join(sentences([load_agent("doxorubicin"), load_agent("temozolomide")], tissues, 1.0))
    assert "pressure layer of tumour tissue: 0.27 mm, voxel 1 mm, not resolved: the sub-grid flux" in said
    assert "nothing below the voxel is reported" in said
    assert "cell Peclet number of doxorubicin at a tumour's rim: 0.049, moved mostly by diffusion" in said
    fine = "\n".join(sentences([], tissues, 0.05))
    assert "voxel 0.05 mm, resolved" in fine and "not resolved" not in fine


def test_cell_peclet_is_the_rims():
    tissues, agent = load_fluid_tissues(), load_agent("doxorubicin")
    speed = rim_speed(tissues["tumour"], tissues["normal"])
    assert speed == pytest.approx(0.02407, rel=1e-3)  # mm/h
    assert cell_peclet(agent, tissues, 2.0) == pytest.approx(speed * 2.0 / (0.4 * 1.224))
    assert cell_peclet(agent, {}, 2.0) is None
