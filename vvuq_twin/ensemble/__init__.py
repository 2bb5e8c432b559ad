"""Ensembles in batches on Dask: submit, resume, store."""

from .beside import Begin, beside, here
from .cluster import cluster
from .context import Context
from .fingerprint import fingerprint
from .run import run_batches
from .store import Ensemble

__all__ = ["Begin", "Context", "Ensemble", "beside", "cluster", "fingerprint", "here", "run_batches"]
