"""JAX as the package switches it on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_COUNT = """
from pathlib import Path
from vvuq_twin.reduction.backend import jax, jnp
x = jnp.ones((500, 500))
jax.jit(lambda a: a @ a)(x).block_until_ready()
print(sum((t / "comm").read_text().strip() == "tf_XLAEigen" for t in Path("/proc/self/task").iterdir()))
"""


def _pool(**given: str) -> int:
    """Threads of XLA's pool in a fresh process."""
    clean = {k: v for k, v in os.environ.items() if k not in {"XLA_FLAGS", "PJRT_NPROC", "NPROC"}}
    out = subprocess.run(
        [sys.executable, "-c", _COUNT], env=clean | given, capture_output=True, text=True, check=True
    )
    return int(out.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_a_process_has_one_thread_of_xla_unless_the_user_wants_more():
    assert _pool() == 1
    assert _pool(PJRT_NPROC="3") == 3
