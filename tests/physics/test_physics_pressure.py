"""Pressure: what goes wrong is said in a sentence, and a few cases small enough to do by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.grid import Grid
from vvuq_twin.physics.faces import assemble
from vvuq_twin.physics.interstitium import Interstitium, load_fluid_tissues, surface_map
from vvuq_twin.physics.pressure import Boundary, interstitial_flow, point_infusion, region_infusion


def row(n, h=1.0):
    """A row of n cells of one tissue."""
    grid = Grid((n, 1, 1), (h, h, h))
    return assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"tumour": 1})


def plain(faces, k=2.0, b=0.5, p_e=10.0, drain=0.0):
    one = np.ones(faces.n)
    return Interstitium(faces, k * one, b * one, p_e * one, drain * one, 0.0 * one)


def test_library_has_the_effective_pressures_of_the_sources():
    tissues = load_fluid_tissues()
    assert tissues["tumour"].effective_pressure == pytest.approx(11.5)
    assert tissues["normal"].effective_pressure == pytest.approx(6.5)
    assert tissues["tumour"].layer == pytest.approx(0.2716, abs=1e-4)  # mm
    np.testing.assert_allclose(surface_map(row(2), tissues), 20.0)


def test_closed_tissue_is_at_its_effective_pressure_and_still():
    flow = interstitial_flow(plain(row(5)), Boundary())
    np.testing.assert_allclose(flow.pressure, 10.0)
    assert not flow.velocity[0].any() and not flow.filtered.any()


def test_lymphatics_lower_the_pressure():
    tissue = plain(row(3), b=0.3, p_e=10.0, drain=0.1)
    flow = interstitial_flow(tissue, Boundary())
    np.testing.assert_allclose(flow.pressure, 0.3 * 10.0 / 0.4)
    np.testing.assert_allclose(flow.filtered, flow.drained)


def test_one_cell_by_hand():
    """b (p_e - p) = sides of the array at 0: 6 faces of 2K/h over h."""
    flow = interstitial_flow(plain(row(1), k=2.0, b=0.5, p_e=10.0), Boundary(array=0.0))
    assert flow.pressure[0] == pytest.approx(0.5 * 10.0 / (0.5 + 6 * 2 * 2.0))
    assert flow.outflow[0] == pytest.approx(flow.filtered[0])


def test_infused_fluid_leaves_where_it_may():
    faces = row(5)
    q = point_infusion(faces, (0.0, 0.0, 0.0), 3.0)
    tissue = replace(plain(faces), filtration=np.zeros(5))
    outside = np.zeros((5, 1, 1), int)
    with pytest.raises(BadInput, match="nothing fixes the pressure in a part of 5 voxels"):
        interstitial_flow(tissue, Boundary(outside=outside), q)
    flow = interstitial_flow(tissue, Boundary(array=0.0), q)
    assert flow.outflow.sum() == pytest.approx(3.0)
    assert flow.velocity[0].ravel()[faces.place[1]] > 0  # away from the tip


def test_subgrid_is_the_plain_scheme_where_the_layer_is_resolved():
    grid = Grid((8, 7, 6), (0.5, 0.5, 0.5))
    faces = assemble(grid, np.ones(grid.shape, bool), np.ones(grid.shape, int), {"tumour": 1})
    tissue = plain(faces, k=5.0, b=0.1)
    a, b = (interstitial_flow(tissue, Boundary(array=0.0), subgrid=s).pressure for s in (False, True))
    np.testing.assert_allclose(a, b, atol=0.01)


def test_subgrid_is_exact_across_a_flat_interface():
    """Two half spaces: the flow across is (p_t - p_n)/(L_t/K_t + L_n/K_n), whatever the voxel."""
    tissues = load_fluid_tissues()
    t, n = tissues["tumour"], tissues["normal"]
    for h in (0.2, 1.0, 4.0):
        grid = Grid((60, 1, 1), (h, h, h))
        labels = np.where(np.arange(60) < 30, 1, 2)[:, None, None]
        faces = assemble(grid, np.ones(grid.shape, bool), labels, {"tumour": 1, "normal": 2})
        tissue = replace(Interstitium.of(faces, tissues), drainage=np.zeros(60))
        flow = interstitial_flow(tissue, Boundary(), subgrid=True)
        speed = flow.velocity[0].ravel()[faces.place[30]]
        drop = t.effective_pressure - n.effective_pressure
        assert speed == pytest.approx(drop / (t.layer / t.conductivity + n.layer / n.conductivity), rel=1e-6)


def test_bad_input():
    faces = row(4)
    tissue = plain(faces)
    with pytest.raises(BadInput, match="conductivity has a value of -1"):
        replace(tissue, conductivity=np.array([1.0, 1.0, -1.0, 1.0]))
    with pytest.raises(BadInput, match="filtration has non-finite"):
        replace(tissue, filtration=np.array([1.0, np.nan, 1.0, 1.0]))
    with pytest.raises(BadInput, match="drainage has shape"):
        replace(tissue, drainage=np.ones(3))
    with pytest.raises(BadInput, match="touches no active voxel"):
        point_infusion(faces, (9.0, 0.0, 0.0), 1.0)
    with pytest.raises(BadInput, match="touches no active voxel"):
        region_infusion(faces, np.zeros((4, 1, 1), bool), 1.0)
    with pytest.raises(BadInput, match="negative or not finite"):
        point_infusion(faces, (0.0, 0.0, 0.0), -1.0)
    with pytest.raises(BadInput, match="'near' is not known"):
        interstitial_flow(tissue, Boundary(array="near"))
    with pytest.raises(BadInput, match="need the labels"):
        interstitial_flow(tissue, Boundary(labels={3: 0.0}))
    with pytest.raises(BadInput, match="no fluid properties for the tissue 'tumour'"):
        Interstitium.of(faces, {"normal": load_fluid_tissues()["normal"]})


def test_a_fluid_file_with_a_fault_names_the_key(tmp_path):
    path = tmp_path / "fluid.yaml"
    path.write_text("tumour:\n  surface: {value: 200, unit: 1/cm, source: here, read: true}\n")
    with pytest.raises(BadInput, match="vessel_conductivity: this key is missing"):
        load_fluid_tissues(path)
