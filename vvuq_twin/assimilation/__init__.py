"""Ensemble filters and smoothers in member space: ETKF, ES-MDA, local analyses, inflation, diagnostics."""

from .esmda import ESMDA, RootESMDA, coefficients
from .etkf import ETKF
from .letkf import LETKF
from .protocol import Carry, Key, Scheme, start
from .tapers import Tiles, gaspari_cohn
from .update import GlobalUpdate, Inflation, LocalUpdate, Update
from .voxelwise import VoxelETKF, VoxelUpdate

__all__ = [
    "ESMDA", "ETKF", "LETKF", "Carry", "GlobalUpdate", "Inflation", "Key", "LocalUpdate", "RootESMDA",
    "Scheme", "Tiles", "Update", "VoxelETKF", "VoxelUpdate", "coefficients", "gaspari_cohn", "start",
]  # fmt: skip
