"""Absorbed dose: unit conversions by hand, conservation of energy, limits, and the carried error."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.dose import (
    Emission,
    Nuclide,
    VoxelKernel,
    kernel_dose,
    local_dose,
    make_kernel,
    nuclide,
)

LU = nuclide()
ELECTRONS = Nuclide("beta", LU.half_life, LU.emissions[:1])


def test_local_deposition_is_the_textbook_factor() -> None:
    # 147.9 keV of electrons: 0.0853 Gy kg/(GBq h); 1 GBq h in 1 kg of density 1 is 1e6 Bq h/mL
    assert local_dose(np.array([1e6]), 147.9)[0] == pytest.approx(0.0853, rel=5e-4)
    assert local_dose(np.array([1e6]), 147.9, 1.05)[0] == pytest.approx(0.0853 / 1.05, rel=5e-4)
    with pytest.raises(BadInput, match="density"):
        local_dose(np.ones(2), 147.9, np.array([1.0, 0.0]))


def test_energy_of_a_kernel_is_that_of_the_decay() -> None:
    kernel = make_kernel(LU, (4.0, 4.0, 4.0), reach=40.0)
    assert kernel.deposit.sum() + kernel.outside == pytest.approx(LU.energy, rel=1e-12)
    # the electrons stay, nearly all photons leave 40 mm
    assert 0.5 * (LU.energy - 147.9) < kernel.outside < LU.energy - 147.9
    assert np.allclose(kernel.deposit, kernel.deposit[::-1, ::-1, ::-1])
    assert np.allclose(kernel.deposit, kernel.deposit.transpose(1, 0, 2), rtol=5e-3, atol=1e-5)
    # MIRD's unit: 1 mGy/(MBq s) = 1e-9 Gy/(Bq s), 1 keV = 1.602e-16 J, 64 mm3 of water = 6.4e-5 kg
    assert kernel.s_values()[10, 10, 10] == pytest.approx(
        kernel.deposit[10, 10, 10] * 1.602177e-16 / 6.4e-5 * 1e9, rel=1e-6
    )


def test_share_that_stays_in_the_source_voxel_against_a_plain_average() -> None:
    # independent of the hat functions: random sources in the voxel, random displacements
    kernel = make_kernel(ELECTRONS, (2.0, 2.0, 3.0), reach=8.0)
    rng = np.random.default_rng(0)
    n = 400_000
    x = rng.uniform(-0.5, 0.5, (n, 3)) * [2.0, 2.0, 3.0]
    v = rng.standard_normal((n, 3))
    x += v / np.linalg.norm(v, axis=1)[:, None] * rng.exponential(0.269, n)[:, None]
    inside = (np.abs(x) < [1.0, 1.0, 1.5]).all(axis=1).mean()
    assert kernel.deposit[4, 4, 3] / 147.9 == pytest.approx(
        inside, abs=4 * np.sqrt(inside * (1 - inside) / n)
    )


def test_convolution_conserves_energy_and_has_the_local_limit() -> None:
    rng = np.random.default_rng(1)
    spacing = (4.0, 4.0, 5.0)
    integral = np.zeros((20, 18, 16))
    integral[8:12, 7:11, 6:10] = rng.uniform(1e6, 5e6, (4, 4, 4))
    density = rng.uniform(0.3, 1.8, integral.shape)
    kernel = make_kernel(LU, spacing, reach=30.0)
    found = kernel_dose(integral, kernel, spacing, density)
    mass = density * 4 * 4 * 5 * 1e-6
    assert (found.dose * mass).sum() == pytest.approx(found.deposited, rel=1e-12)
    decays = integral.sum() * 3600 * 0.08
    assert found.emitted == pytest.approx(decays * LU.energy * 1.602176634e-16, rel=1e-12)
    assert found.deposited + found.escaped == pytest.approx(found.emitted, rel=1e-12)
    # electrons alone lose nothing away from the edge
    beta = kernel_dose(integral, make_kernel(ELECTRONS, spacing, reach=20.0), spacing)
    assert beta.escaped / beta.emitted < 1e-6
    # a kernel without reach is local deposition
    point = Nuclide("point", 1.0, (Emission("e", 147.9, 1e-9),))
    found = kernel_dose(integral, make_kernel(point, spacing, reach=10.0), spacing)
    assert np.allclose(found.dose, local_dose(integral, 147.9), rtol=1e-6, atol=1e-6 * found.dose.max())
    # and far from any edge a uniform source gives the local dose as well
    uniform = kernel_dose(np.full((15, 15, 15), 1e6), make_kernel(ELECTRONS, spacing, reach=12.0), spacing)
    assert uniform.dose[7, 7, 7] == pytest.approx(local_dose(np.array([1e6]), 147.9)[0], rel=1e-6)


def test_error_of_the_activity_is_carried_over() -> None:
    rng = np.random.default_rng(3)
    spacing = (3.0, 3.0, 3.0)
    kernel = make_kernel(ELECTRONS, spacing, reach=9.0)
    mean, se = np.full((9, 9, 9), 1e6), rng.uniform(1e5, 3e5, (9, 9, 9))
    found = kernel_dose(mean, kernel, spacing, integral_se=se)
    draws = [
        kernel_dose(mean + se * rng.standard_normal(se.shape), kernel, spacing).dose[4, 4, 4]
        for _ in range(400)
    ]
    assert np.std(draws) == pytest.approx(found.error[4, 4, 4], rel=0.12)
    assert found.error[4, 4, 4] < local_dose(se, 147.9)[4, 4, 4]


def test_bad_input_is_one_sentence() -> None:
    kernel = VoxelKernel(np.ones((3, 3, 3)), (4.0, 4.0, 4.0), 0.0, "by hand")
    with pytest.raises(BadInput, match="for voxels of 4x4x4 mm, the image has 2x2x2 mm"):
        kernel_dose(np.ones((4, 4, 4)), kernel, (2.0, 2.0, 2.0))
    with pytest.raises(BadInput, match="missing in some voxels"):
        kernel_dose(np.full((4, 4, 4), np.nan), kernel, (4.0, 4.0, 4.0))
    with pytest.raises(BadInput, match="no emissions of 'lutetium'"):
        nuclide("lutetium")
