"""NIfTI headers that are broken: handled by one rule, reported once."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.imaging.read import read_image

_GOOD = np.diag([-2.0, -2.0, 3.0, 1.0])
_GOOD[:3, 3] = [10.0, 20.0, 30.0]


def _write(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, sizes: tuple[float, ...]) -> Path:
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(5, 6, 7), None)
    if qform is not None:
        image.header.set_qform(qform, code=1)
    if sform is not None:
        image.header.set_sform(sform, code=1)
    image.header["pixdim"][1:4] = sizes
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("name", "sform", "qform", "sizes", "spacing", "origin", "said"),
    [
        ("good", _GOOD, _GOOD, (2, 2, 3), (2, 2, 3), (-10, -20, 30), ""),
        ("scales", np.diag([-1.0, -1, 1, 1]), None, (2, 2, 3), (2, 2, 3), (0, 0, 0), "contradict those of its pixdim"),
        ("zero", np.zeros((4, 4)), _GOOD, (2, 2, 3), (2, 2, 3), (-10, -20, 30), "the sform of 'zero.nii' cannot be used"),
        ("nan", np.full((4, 4), np.nan), _GOOD, (2, 2, 3), (2, 2, 3), (-10, -20, 30), "cannot be used"),
        ("flat", np.ones((4, 4)), _GOOD, (2, 2, 3), (2, 2, 3), (-10, -20, 30), "is singular"),
        ("none", None, None, (2, 2, 3), (2, 2, 3), (0, 0, 0), "does not say how it lies"),
        ("pixdim", _GOOD, None, (0, 0, 0), (2, 2, 3), (-10, -20, 30), "(1 x 1 x 1 mm); the sform serves"),
    ],
)  # fmt: skip
def test_a_broken_header_is_handled_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], name: str,
    sform: np.ndarray | None, qform: np.ndarray | None, sizes: tuple[float, ...], spacing: tuple[float, ...],
    origin: tuple[float, ...], said: str,
) -> None:  # fmt: skip
    path = _write(tmp_path / f"{name}.nii", sform, qform, sizes)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            array, grid = read_image(path)
    assert grid.spacing == pytest.approx(spacing) and grid.origin == pytest.approx(origin)
    np.testing.assert_allclose(np.array(grid.direction).reshape(3, 3), np.eye(3), atol=1e-7)
    np.testing.assert_array_equal(array.ravel(), np.arange(210))
    own = [r for r in caplog.records if r.name.startswith("vvuq_twin")]
    assert len(own) == (1 if said else 0) and (not said or said in own[0].message)
    assert "sform" not in capfd.readouterr().err.replace(own[0].message if own else "", "")


def test_a_header_without_any_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"geometry of 'x\.nii' is missing"):
        read_image(_write(tmp_path / "x.nii", None, None, (0, np.nan, 1)))
