"""Ensembles in batches on Dask: submit, resume, store."""

from .cluster import cluster
from .context import Context
from .fingerprint import fingerprint
from .run import run_batches
from .store import Ensemble

__all__ = ["Context", "Ensemble", "cluster", "fingerprint", "run_batches"]
