"""Ensemble filters and smoothers in member space, local analyses, inflation, diagnostics."""

from .correlation import ColumnUpdate, sampling_error_taper
from .esmda import ESMDA, EnKF, RootESMDA, coefficients
from .etkf import ESTKF, ETKF, DEnKF, EnKFN
from .ies import IES
from .inflation import Adaptive, Inflation
from .letkf import LETKF, LocalUpdate
from .protocol import Carry, Key, Scheme, start
from .serial import Around, RankHistogram, SerialRoot
from .small import FilterpyEnKF, FilterpyKalman, FilterpyUnscented
from .smoother import Past
from .tapers import Taper, Tiles, boxcar, gaspari_cohn, spherical, wendland
from .update import GlobalUpdate, Update
from .voxelwise import VoxelETKF, VoxelUpdate

__all__ = [
    "ESMDA", "ESTKF", "ETKF", "IES", "LETKF", "Adaptive", "Around", "Carry", "ColumnUpdate", "DEnKF",
    "EnKF", "EnKFN", "FilterpyEnKF", "FilterpyKalman", "FilterpyUnscented", "GlobalUpdate", "Inflation",
    "Key", "LocalUpdate", "Past", "RankHistogram", "RootESMDA", "Scheme", "SerialRoot", "Taper",
    "Tiles", "Update", "VoxelETKF", "VoxelUpdate", "boxcar", "coefficients", "gaspari_cohn",
    "sampling_error_taper", "spherical", "start", "wendland",
]  # fmt: skip
