"""Ensembles in batches on Dask: submit, resume, store."""

from .beside import Begin, beside, here
from .cluster import cluster
from .context import Context
from .run import run_batches
from .store import Ensemble

__all__ = ["Begin", "Context", "Ensemble", "beside", "cluster", "here", "run_batches"]
