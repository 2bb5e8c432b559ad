"""Batches on worker processes: the same bits for any number of them, deaths, interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ensemble_functions as functions
import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput
from vvuq_twin.ensemble import Context, cluster, run_batches
from vvuq_twin.ensemble.store import RAISED

X = np.random.Generator(np.random.Philox(3)).normal(size=(23, 4))


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with cluster(workers=2, folder=tmp_path_factory.mktemp("scratch")) as client:
        yield client


def test_the_same_bits_inline_and_on_one_or_two_workers(tmp_path, two_workers):
    for function in (functions.smooth, functions.through_jax):
        name = function.__name__
        inline = run_batches(function, X, tmp_path / f"{name}-0", batch=4)
        two = run_batches(function, X, tmp_path / f"{name}-2", batch=4, client=two_workers)
        assert inline.load("y").tobytes() == two.load("y").tobytes()
    with cluster(workers=1) as client:
        one = run_batches(functions.through_jax, X, tmp_path / "1", batch=4, client=client)
    assert one.load("y").tobytes() == two.load("y").tobytes()


def test_workers_have_one_thread_and_load_a_context_once(tmp_path, two_workers):
    def environment(inputs, members, context):
        return {name: np.full(len(inputs), int(os.environ[name])) for name in context}

    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"]
    done = run_batches(environment, X, tmp_path / "e", batch=8, client=two_workers, context=names)
    assert all((done.load(n) == 1).all() for n in names)
    assert set(two_workers.nthreads().values()) == {1}
    np.save(tmp_path / "table.npy", np.eye(4))
    context = Context(functions.load_table, (str(tmp_path / "table.npy"),))
    done = run_batches(functions.with_table, X, tmp_path / "s", batch=2, client=two_workers, context=context)
    assert (done.load("loads") == 1).all()


def test_more_batches_than_the_window(tmp_path, two_workers):
    many = np.arange(150.0)[:, None]
    seen = []
    done = run_batches(
        functions.raises_on_some, many, tmp_path / "s", batch=1, client=two_workers,
        progress=lambda d, t: seen.append(d),
    )  # fmt: skip
    assert done.failed.tolist() == [4, 5, 6, 7]
    assert seen == sorted(seen) and seen[-1] == 150 and len(seen) == 151
    np.testing.assert_array_equal(done.load("y", good_only=True), 2 * np.delete(many[:, 0], range(4, 8)))


def test_a_killed_worker_costs_nothing_when_the_batch_can_be_done(tmp_path, two_workers):
    whole = run_batches(functions.smooth, X, tmp_path / "whole", batch=4)
    done = run_batches(
        functions.dies_once, X, tmp_path / "s", batch=4, client=two_workers, context=str(tmp_path)
    )
    assert (tmp_path / "tried-4").exists()
    assert done.load("y").tobytes() == whole.load("y").tobytes() and len(done.failed) == 0


def test_a_batch_that_kills_its_worker_fails_alone(tmp_path, two_workers):
    done = run_batches(
        functions.dies_on_some, X, tmp_path / "s", batch=4, client=two_workers, context=os.getpid()
    )
    assert done.failed.tolist() == [4, 5, 6, 7] and (done.status[4:8] == RAISED).all()
    np.testing.assert_array_equal(done.load("y", good_only=True), np.delete(X[:, 0], range(4, 8)) * 2)
    assert list(done.errors) == [1] and "Killed" in done.errors[1]


def test_an_interrupted_run_goes_on_with_another_number_of_workers(tmp_path, two_workers):
    whole = run_batches(functions.smooth, X, tmp_path / "whole", batch=2)

    def interrupt(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batches(functions.smooth, X, tmp_path / "s", batch=2, client=two_workers, progress=interrupt)
    part = run_batches(functions.smooth, X, tmp_path / "s", batch=2)
    assert part.resumed >= 6
    assert part.load("y").tobytes() == whole.load("y").tobytes()


def test_bad_input_in_a_worker_reaches_the_user(tmp_path, two_workers):
    def refuse(inputs, members, context):
        from vvuq_twin.domain.errors import BadInput

        raise BadInput("the grid is empty", "patient.yaml", "draw a mask")

    with pytest.raises(BadInput, match=r"patient.yaml: the grid is empty; draw a mask\."):
        run_batches(refuse, X, tmp_path / "s", batch=4, client=two_workers)


def test_an_address_is_used_or_its_absence_said(tmp_path, two_workers):
    address = two_workers.scheduler.address
    with cluster(address=address) as client:
        done = run_batches(functions.smooth, X, tmp_path / "s", batch=8, client=client)
    assert (done.status == 0).all()
    for nowhere in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(BadInput, match="no Dask scheduler"), cluster(address=nowhere, timeout=1.0):
            pass
    with pytest.raises(BadInput, match="not positive"), cluster(workers=0):
        pass


SCRIPT = """
    import sys, time
    import numpy as np
    from vvuq_twin.ensemble import cluster, run_batches

    def slow(inputs, members, context):
        time.sleep(0.2)
        return {"y": inputs[:, 0] ** 2}

    try:
        with cluster(workers=2, folder=sys.argv[1] + "/scratch") as client:
            run_batches(slow, np.arange(40.0)[:, None], sys.argv[1] + "/store", batch=1, client=client)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_on_an_unguarded_script_is_quiet_and_leaves_a_store_to_go_on_with(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 400  # a crowded machine takes its time to start the workers
    while len(list((tmp_path / "store" / "batches").glob("0*.json"))) < 3 and time.monotonic() < until:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=200)
    assert child.returncode == 130 and errors == ""
    left = len(list((tmp_path / "store" / "batches").glob("0*.json")))
    assert 3 <= left < 40 and not list(Path(tmp_path, "scratch").iterdir())
    again = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    assert again.stderr == ""
    from vvuq_twin.ensemble import Ensemble

    np.testing.assert_array_equal(Ensemble(tmp_path / "store").load("y"), np.arange(40.0) ** 2)
