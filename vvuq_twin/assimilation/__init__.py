"""Ensemble filters and smoothers in member space, local analyses, inflation, diagnostics."""

from .correlation import ColumnUpdate, sampling_error_taper
from .cycling import Cycling, State, Trail
from .esmda import ESMDA, EnKF, RootESMDA, coefficients
from .etkf import ESTKF, ETKF, DEnKF, EnKFN
from .ies import IES
from .inflation import Adaptive, Inflation
from .letkf import LETKF, LocalUpdate
from .observing import SuperObs, screen, superobs, thinned
from .protocol import Carry, Key, Scheme, start
from .serial import Around, RankHistogram, SerialRoot
from .small import FilterpyEnKF, FilterpyKalman, FilterpyUnscented
from .smoother import Past
from .stream import analyse_stream
from .tapers import Taper, Tiles, boxcar, gaspari_cohn, spherical, wendland
from .update import GlobalUpdate, Update
from .voxelwise import VoxelETKF, VoxelUpdate

__all__ = [
    "ESMDA", "ESTKF", "ETKF", "IES", "LETKF", "Adaptive", "Around", "Carry", "ColumnUpdate", "Cycling",
    "DEnKF", "EnKF", "EnKFN", "FilterpyEnKF", "FilterpyKalman", "FilterpyUnscented", "GlobalUpdate",
    "Inflation", "Key", "LocalUpdate", "Past", "RankHistogram", "RootESMDA", "Scheme", "SerialRoot",
    "State", "SuperObs", "Taper", "Tiles", "Trail", "Update", "VoxelETKF", "VoxelUpdate",
    "analyse_stream", "boxcar", "coefficients", "gaspari_cohn", "sampling_error_taper", "screen",
    "spherical", "start", "superobs", "thinned", "wendland",
]  # fmt: skip
