"""Shape of a lesion after the Image Biomarker Standardisation Initiative (IBSI 1, Zwanenburg et al. 2020).

The surface is the mesh half-way between voxels inside and outside (marching cubes); the axes are the principal
components of the voxel centres. Names follow IBSI's chapters; lengths in mm, areas in mm2, volumes in mm3.
"""

from __future__ import annotations

import numpy as np
from scipy import spatial

from ..domain.errors import BadInput
from ..domain.grid import Grid


def mesh(mask: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Triangulated surface: vertices (v, 3) in mm from the first voxel's centre, triangles (f, 3)."""
    from skimage.measure import marching_cubes

    vertices, faces, *_ = marching_cubes(np.pad(mask.astype(float), 1), 0.5, spacing=grid.spacing)
    return np.asarray(vertices) - np.asarray(grid.spacing), np.asarray(faces)


def surface_and_volume(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """Area and enclosed volume of a closed mesh (sum of signed tetrahedra)."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return float(area), float(abs(np.einsum("ij,ij->i", a, np.cross(b, c)).sum()) / 6.0)


def shape_features(mask: np.ndarray, grid: Grid, image: np.ndarray | None = None) -> dict[str, float]:
    """Morphological features of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape ``grid.shape``
    grid : Grid
    image : ndarray, same shape, optional
        For the features that weigh by intensity: the shift of the centre of mass and the integrated intensity.

    Returns
    -------
    dict of str to float
        Names carry the unit where there is one.

    Raises
    ------
    BadInput
        If the mask is empty or off the grid.
    """
    if mask.shape != grid.shape or not mask.any():
        raise BadInput(
            "the mask is empty or not on its grid", "shape features", "give a mask with at least one voxel"
        )
    vertices, faces = mesh(mask, grid)
    area, volume = surface_and_volume(vertices, faces)
    centres = grid.points(mask)
    spread = centres - centres.mean(axis=0)
    least, minor, major = (
        np.sort(np.linalg.eigvalsh(spread.T @ spread / (len(spread) - 1))).clip(0.0)
        if len(spread) > 1
        else np.zeros(3)
    )
    hull = spatial.ConvexHull(vertices)
    corners = vertices[hull.vertices]
    box = np.ptp(vertices, axis=0)
    compactness = 36.0 * np.pi * volume**2 / area**3
    found = {
        "volume_mesh_mm3": volume,
        "volume_voxels_mm3": float(mask.sum()) * grid.voxel_volume,
        "surface_area_mm2": area,
        "surface_to_volume_per_mm": area / volume,
        "compactness_1": volume / (np.sqrt(np.pi) * area**1.5),
        "compactness_2": compactness,
        "spherical_disproportion": compactness ** (-1.0 / 3.0),
        "sphericity": compactness ** (1.0 / 3.0),
        "asphericity": compactness ** (-1.0 / 3.0) - 1.0,
        "maximum_3d_diameter_mm": float(spatial.distance.pdist(corners).max()),
        "major_axis_mm": 4.0 * np.sqrt(major),
        "minor_axis_mm": 4.0 * np.sqrt(minor),
        "least_axis_mm": 4.0 * np.sqrt(least),
        "elongation": np.sqrt(minor / major) if major > 0 else np.nan,
        "flatness": np.sqrt(least / major) if major > 0 else np.nan,
        "volume_density_box": volume / float(np.prod(box)),
        "area_density_box": area / float(2.0 * (box[0] * box[1] + box[0] * box[2] + box[1] * box[2])),
        "volume_density_hull": volume / float(hull.volume),
        "area_density_hull": area / float(hull.area),
    }
    if image is not None:
        values = np.asarray(image, dtype=float)[mask]
        there = np.isfinite(values)
        if not there.any():
            raise BadInput(
                "the image holds no value in the mask", "shape features", "give the image of this mask"
            )
        if values[there].sum() > 0:
            weighted = (values[there, None] * centres[there]).sum(axis=0) / values[there].sum()
            found["centre_of_mass_shift_mm"] = float(np.linalg.norm(weighted - centres.mean(axis=0)))
        found["integrated_intensity"] = volume * float(values[there].mean())
    return {k: float(v) for k, v in found.items()}
