"""Single pieces of work on the workers beside this process."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.ensemble import beside, cluster, here


def where(array: np.ndarray) -> tuple[int, float]:
    return os.getpid(), float(array.sum())


def refused() -> None:
    raise BadInput("nothing to do", "work")


def deadly(parent: int) -> int:
    if os.getpid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    return parent


def test_work_is_done_elsewhere_and_what_it_raises_comes_back() -> None:
    large = np.ones(400_000)
    with cluster(1) as client:
        begin = beside(client)
        light, heavy, bad = begin(where, np.ones(3)), begin(where, large), begin(refused)
        assert light()[1] == 3.0 and heavy()[1] == 400_000.0
        assert light()[0] != os.getpid()
        with pytest.raises(BadInput, match="nothing to do"):
            bad()
        # a worker that dies of it leaves the work to this process
        assert begin(deadly, os.getpid())() == os.getpid()


def test_without_workers_it_is_done_when_asked_for() -> None:
    seen: list[int] = []
    outcome = here(seen.append, 1)
    assert seen == []
    outcome()
    assert seen == [1]
