"""The one place where JAX is switched on: 64-bit numbers, one thread per process, compilation cache.

Everything in the package that uses JAX imports it from here (``from vvuq_twin.reduction.backend import
jax, jnp``), so that double precision is set before anything is traced. Workers are processes with
one thread each, so XLA's own thread pools are switched off unless the user has set them.

Environment
-----------
XLA_FLAGS
    Flags already present win; only those that are missing are appended.
PJRT_NPROC
    Threads of XLA's pool, 1 unless it is set. The flags alone leave one per processor in it, and two workers then have
    four on two processors.
VVUQ_TWIN_JAX_CACHE
    A folder for compiled programs, shared by all processes of a run.
"""

from __future__ import annotations

import os
import sys

_SINGLE_THREAD = {
    "--xla_cpu_multi_thread_eigen": "--xla_cpu_multi_thread_eigen=false",
    "intra_op_parallelism_threads": "intra_op_parallelism_threads=1",
}


def _quiet_flags(present: str) -> str:
    """XLA flags with the single-thread ones appended where the user has not set them."""
    missing = [flag for name, flag in _SINGLE_THREAD.items() if name not in present]
    return " ".join([present, *missing]).strip()


if "jaxlib" not in sys.modules:
    os.environ["XLA_FLAGS"] = _quiet_flags(os.environ.get("XLA_FLAGS", ""))
    os.environ.setdefault("PJRT_NPROC", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

jax.config.update("jax_enable_x64", True)


def use_cache(folder: str | os.PathLike[str]) -> None:
    """Keep compiled programs in ``folder``, so that workers load them instead of compiling again."""
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if os.environ.get("VVUQ_TWIN_JAX_CACHE"):
    use_cache(os.environ["VVUQ_TWIN_JAX_CACHE"])

__all__ = ["jax", "jnp", "use_cache"]
