"""Ensembles on the disk: the same bits as in memory, whatever the workers, and whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import large_model
import numpy as np
import pytest

from vvuq_twin.assimilation import ESMDA, ETKF, LETKF, DEnKF, Inflation, Key, Tiles, start
from vvuq_twin.assimilation.large import LargeModel, Layout, assimilate_large
from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations
from vvuq_twin.ensemble import cluster

KEY = Key(4)
N, LAYOUT = 13, Layout(batch=3, width=300)
POINTS = np.column_stack([np.arange(large_model.SIZE, dtype=float), np.zeros((large_model.SIZE, 2))])


def model(**context):
    return LargeModel(
        large_model.SIZE, large_model.initial, large_model.propagate, large_model.observe, context
    )


def scans():
    out = []
    for t in (1.0, 2.0, 3.0):
        rng = generator(3, "large", str(t))
        at = np.sort(rng.choice(large_model.SIZE, 40, replace=False))
        out.append(
            Observations(
                rng.standard_normal(40),
                ObservationError(np.full(40, 0.3), np.full((40, 1), 0.1)),
                POINTS[at],
                [f"day {t:g}"],
                t,
            )
        )
    return out


def schemes():
    return {
        "etkf": ETKF(Inflation(rtps=0.2)),
        "letkf": LETKF(Tiles.of(POINTS, 16.0), 12.0, Inflation(factor=1.02)),
        "denkf": DEnKF(),
    }


def in_memory(scheme, **context):
    E, carry, t = large_model.initial(np.arange(N), {}), start(N), 0.0
    for scan in scans():
        E, status = large_model.propagate(E, carry.members, t, scan.time, context)
        HE = np.where((status == 0)[:, None], large_model.observe(E, scan, context), np.nan)
        update, carry = scheme.analyse(carry, HE, scan, KEY, status)
        E, t = update.apply(E), scan.time
    return E, carry


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with cluster(workers=2, folder=tmp_path_factory.mktemp("scratch")) as client:
        client.run(lambda p: sys.path.insert(0, p), str(Path(__file__).parent))
        client.register_plugin(_Path(str(Path(__file__).parent)))
        yield client


def _Path(folder):
    from distributed import WorkerPlugin

    class AddPath(WorkerPlugin):
        name = "tests"

        def setup(self, worker):
            sys.path.insert(0, folder)

    return AddPath()


@pytest.mark.parametrize("name", ["etkf", "letkf", "denkf"])
def test_on_the_disk_is_bit_equal_to_in_memory(name, tmp_path):
    scheme = schemes()[name]
    E, carry = in_memory(scheme)
    done = assimilate_large(tmp_path / "a", scheme, model(), scans(), KEY, N, layout=LAYOUT)
    assert np.array_equal(done.E[:], E)
    mean, sd = done.moments()
    np.testing.assert_allclose(mean, E.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(sd, E.std(axis=0, ddof=1), atol=1e-14)
    assert [c["cycle"] for c in done.carry.history] == [0, 1, 2] and done.carry.history == carry.history
    assert not list(tmp_path.glob("a/*/forecast.zarr"))
    single = assimilate_large(
        tmp_path / "b", scheme, model(), scans(), KEY, N, layout=Layout(3, 300, "float32")
    )
    np.testing.assert_allclose(single.E[:], E, atol=1e-4)


def test_any_number_of_workers_and_a_killed_one_give_the_same_bits(tmp_path, two_workers):
    scheme = schemes()["letkf"]
    E, _ = in_memory(scheme)
    context = {"flag": str(tmp_path / "killed")}
    done = assimilate_large(
        tmp_path / "s", scheme, model(**context), scans(), KEY, N, layout=LAYOUT, client=two_workers
    )
    assert (tmp_path / "killed").exists()
    assert np.array_equal(done.E[:], E) and not done.carry.dropped


def test_failed_members_are_dropped_and_logged(tmp_path):
    scheme, context = schemes()["etkf"], {"fails": 4, "says": 9}
    E, carry = in_memory(scheme, **context)
    done = assimilate_large(tmp_path / "s", scheme, model(**context), scans(), KEY, N, layout=LAYOUT)
    assert np.array_equal(done.E[:], E) and len(E) == N - 2
    assert sorted(i for i, _ in done.carry.dropped) == [4, 9]
    assert done.carry.members.tolist() == carry.members.tolist()


def nothing(E, members, t0, t1, context):
    return np.full_like(E, np.nan)


def test_what_cannot_be_done_is_said(tmp_path):
    with pytest.raises(BadInput, match="one step"):
        assimilate_large(tmp_path / "a", ESMDA(2), model(), scans(), KEY, N)
    with pytest.raises(BadInput, match="order"):
        assimilate_large(tmp_path / "a", ETKF(), model(), scans()[::-1], KEY, N)
    assimilate_large(tmp_path / "a", ETKF(), model(), scans()[:1], KEY, N, layout=LAYOUT)
    with pytest.raises(BadInput, match="another"):
        assimilate_large(tmp_path / "a", ETKF(), model(), scans()[:1], Key(5), N, layout=LAYOUT)
    dead = LargeModel(large_model.SIZE, large_model.initial, nothing, large_model.observe, {})
    with pytest.raises(RunFailed):
        assimilate_large(tmp_path / "b", ETKF(), dead, scans(), KEY, N, layout=LAYOUT)


SCRIPT = """
    import sys
    sys.path[:0] = [sys.argv[2]]
    import test_assimilation_large as t
    from vvuq_twin.assimilation.large import assimilate_large

    assimilate_large(sys.argv[1], t.schemes()["etkf"], t.model(sleep=0.15), t.scans(), t.KEY, t.N, layout=t.LAYOUT)
"""


def test_a_killed_process_goes_on_where_it_stopped(tmp_path):
    """Killed in the middle of the second cycle, as a machine that loses its power."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), str(tmp_path / "run"), str(Path(__file__).parent)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    until = time.monotonic() + 200
    marks = tmp_path / "run" / "cycle-0002" / "forecast" / "batches"
    while not list(marks.glob("0*.json")) and time.monotonic() < until:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stderr.close()
    assert (tmp_path / "run" / "cycle-0001" / "done.pickle").exists()
    assert not (tmp_path / "run" / "cycle-0002" / "done.pickle").exists()
    seen = []
    done = assimilate_large(
        tmp_path / "run", schemes()["etkf"], model(sleep=0.15), scans(), KEY, N, layout=LAYOUT,
        progress=lambda cycle, part, done, total: seen.append((cycle, part, done)),
    )  # fmt: skip
    E, _ = in_memory(schemes()["etkf"])
    assert np.array_equal(done.E[:], E)
    assert seen[0][0] == 2 and seen[0][2] > 0  # neither the first cycle nor the finished batches again
