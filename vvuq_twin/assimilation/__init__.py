"""Ensemble filters and smoothers in member space, local analyses, inflation, diagnostics."""

from .correlation import ColumnUpdate, sampling_error_taper
from .cycling import Cycling, State, Trail
from .esmda import ESMDA, EnKF, RootESMDA, coefficients
from .etkf import ESTKF, ETKF, DEnKF, EnKFN
from .ies import IES
from .inflation import Adaptive, Inflation, sampling_inflation
from .joint import Autoregressive, Joint, KernelSmoothing, Part, Persistence, RandomWalk
from .large import Large, LargeModel, Layout, assimilate_large
from .letkf import LETKF, LocalUpdate
from .modelerror import ErrorVariance
from .observing import SuperObs, screen, superobs, thinned
from .protocol import Carry, Key, Scheme, start
from .serial import Around, RankHistogram, SerialRoot
from .series import alarms, identifiability, read_history, write_history
from .small import FilterpyEnKF, FilterpyKalman, FilterpyUnscented
from .smoother import Past
from .stream import analyse_stream
from .tapers import Taper, Tiles, boxcar, gaspari_cohn, spherical, wendland
from .update import GlobalUpdate, Update, in_place
from .voxelwise import VoxelETKF, VoxelUpdate

__all__ = [
    "ESMDA", "ESTKF", "ETKF", "IES", "LETKF", "Adaptive", "Around", "Autoregressive", "Carry",
    "ColumnUpdate", "Cycling", "DEnKF", "EnKF", "EnKFN", "ErrorVariance", "FilterpyEnKF",
    "FilterpyKalman", "FilterpyUnscented", "GlobalUpdate", "Inflation", "Joint", "KernelSmoothing",
    "Key", "Large", "LargeModel", "Layout", "LocalUpdate", "Part", "Past", "Persistence", "RandomWalk",
    "RankHistogram", "RootESMDA", "Scheme", "SerialRoot", "State", "SuperObs", "Taper", "Tiles",
    "Trail", "Update", "VoxelETKF", "VoxelUpdate", "alarms", "analyse_stream", "assimilate_large",
    "boxcar", "coefficients", "gaspari_cohn", "identifiability", "in_place", "read_history", "sampling_error_taper",
    "sampling_inflation", "screen", "spherical", "start", "superobs", "thinned", "wendland", "write_history",
]  # fmt: skip
