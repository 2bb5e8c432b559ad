"""Updates written into an array that is there, or over the ensemble itself: the bits of the update that allocates."""

from __future__ import annotations

import numpy as np
import pytest

from vvuq_twin.assimilation import (
    ETKF,
    LETKF,
    Around,
    Cycling,
    FilterpyUnscented,
    GlobalUpdate,
    Inflation,
    Key,
    RootESMDA,
    SerialRoot,
    Tiles,
    VoxelETKF,
    in_place,
    start,
)  # fmt: skip
from vvuq_twin.domain.errors import BadInput
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

KEY, SIZE, N = Key(3), 24, 2700
PLACES = np.column_stack([np.arange(N) + 0.5, np.zeros((N, 2))])


def case(m: int = 60) -> tuple[np.ndarray, np.ndarray, Observations, np.ndarray]:
    """An ensemble, its predictions, the observations, and which columns they are of."""
    rng = generator(1, "update", m)
    E = 5.0 + rng.standard_normal((SIZE, N))
    at = np.sort(rng.choice(N, m, replace=False))
    y = 5.5 + rng.standard_normal(m)
    return E, E[:, at], Observations(y, ObservationError(np.full(m, 0.7)), PLACES[at], ["a"], 0.0), at


TILES, WIDE = Tiles.of(PLACES, 10.0), Tiles.of(PLACES, 300.0)
SOME = Inflation(rtps=0.3, factor=1.1)
SCHEMES = {
    "dense": (ETKF(), 60), "thin": (ETKF(), 4), "inflated": (ETKF(SOME), 60), "tiles": (LETKF(TILES, 9.0), 60),
    "tiles, inflated": (LETKF(TILES, 9.0, SOME), 60), "tiles, rotated": (LETKF(TILES, 9.0, rotate=True), 60),
    "wide tiles": (LETKF(WIDE, 9.0), 60), "around": (SerialRoot(Around(PLACES, 9.0)), 60),
    "columns": (RootESMDA(1, columns=True), 60),
}  # fmt: skip


def update_of(kind: str, status: np.ndarray | None = None):
    scheme, m = SCHEMES[kind] if kind != "voxels" else (None, 60)
    E, HE, observed, at = case(m)
    scheme = VoxelETKF(at, np.arange(N)) if scheme is None else scheme
    update, _ = scheme.analyse(start(SIZE), HE, observed, KEY, status)
    return E, update


@pytest.mark.parametrize("kind", [*SCHEMES, "voxels"])
def test_written_into_an_array_or_over_the_ensemble_is_bit_equal(kind):
    E, update = update_of(kind)
    new = update.apply(E)
    assert not np.array_equal(new, E)
    kept = np.full((SIZE, N), np.nan)
    assert update.apply(E, out=kept) is kept and np.array_equal(kept, new)
    fortran = np.full((N, SIZE), np.nan).T  # not walked through as the block is
    assert np.array_equal(update.apply(E, out=fortran), new)
    # part of a larger array, over itself, and nothing beside it
    large = np.full((SIZE, N + 9), -1.0)
    large[:, 4 : N + 4] = E
    view = large[:, 4 : N + 4]
    assert update.apply(view, out=view) is view and np.array_equal(view, new)
    assert (large[:, :4] == -1.0).all() and (large[:, N + 4 :] == -1.0).all()
    some = np.r_[7:1400, 1500]
    block = E[:, some]
    assert in_place(update, block, some) is block and np.array_equal(block, new[:, some])


@pytest.mark.parametrize("size, n", [(37, 129), (87, 2500), (450, 1300)])
def test_any_number_of_members_and_columns_is_bit_equal(size, n):
    """Products of all sizes that the libraries treat apart: one call for all columns, for few, and piece by piece."""
    rng = generator(2, "sizes", size)
    E, X = 3.0 + rng.standard_normal((size, n)), rng.standard_normal((size, size))
    update = GlobalUpdate(np.arange(size), size, dense=X)
    new, some = update.apply(E), np.sort(rng.choice(n, n // 3, replace=False))
    A = E - E.mean(axis=0)
    np.testing.assert_allclose(new, E.mean(axis=0) + X @ A, rtol=0, atol=1e-10)
    assert np.array_equal(update.apply(E[:, some]), new[:, some])
    assert np.array_equal(update.apply(E, out=E), new)


@pytest.mark.parametrize("kind", ["dense", "thin", "tiles", "voxels"])
def test_where_members_failed_the_array_has_fewer_rows(kind):
    status = np.zeros(SIZE, dtype=int)
    status[[2, 9]] = 1
    E, update = update_of(kind, status)
    new, before = update.apply(E), E.copy()
    kept = np.full((SIZE - 2, N), np.nan)
    assert np.array_equal(update.apply(E, out=kept), new)
    with pytest.raises(BadInput, match="2 of 24 members failed"):
        update.apply(E, out=E)
    assert np.array_equal(in_place(update, E), new) and np.array_equal(E, before)


def test_an_idle_update_and_single_precision():
    E, update = update_of("dense")
    idle = GlobalUpdate(np.arange(SIZE), SIZE)
    assert np.array_equal(idle.apply(E, out=E), case()[0])
    single = E.astype(np.float32)
    new = update.apply(single)
    assert new.dtype == np.float32 and np.array_equal(in_place(update, single), new)


def test_an_unscented_update_over_itself():
    scheme = FilterpyUnscented(2)
    E = scheme.points(np.array([1.0, 2.0]), np.eye(2))
    observed = Observations(np.array([1.5]), ObservationError(np.array([0.5])), np.zeros((1, 0)), ["a"], 0.0)
    update, _ = scheme.analyse(start(5), E[:, :1], observed, KEY)
    new = update.apply(E)
    assert update.apply(E, out=E) is E and np.array_equal(E, new)


def test_arrays_that_do_not_fit_are_refused():
    E, update = update_of("dense")
    with pytest.raises(BadInput, match="cannot be written into an array of shape"):
        update.apply(E, out=np.empty((SIZE, N + 1)))
    with pytest.raises(BadInput, match="float32"):
        update.apply(E, out=np.empty((SIZE, N), dtype=np.float32))
    with pytest.raises(BadInput, match="type int64"):
        whole = np.ones((SIZE, N), dtype=np.int64)
        update.apply(whole, out=whole)
    with pytest.raises(BadInput, match="read-only"):
        fixed = np.empty((SIZE, N))
        fixed.flags.writeable = False
        update.apply(E, out=fixed)
    with pytest.raises(BadInput, match="overlaps"):
        update.apply(E[:, :100], out=E[:, 50:150])
    # columns beside each other share no number
    update.apply(E[:, :100], out=E[:, 100:200])


def test_cycling_keeps_the_states_it_holds():
    """States before an analysis are what they were, also where the model returns the very array it was given."""
    E, _, observed, at = case()
    cycling = Cycling(ETKF(), lambda E, t0, t1, members: E, lambda E, scan: E[:, at], KEY)
    trail, before = cycling.begin(E), E.copy()
    later = cycling.add(trail, Observations(observed.y, observed.error, observed.coords, ["b"], 1.0))
    update, _ = ETKF().analyse(trail.now.carry, E[:, at], observed, KEY)
    assert np.array_equal(trail.now.E, before) and np.array_equal(later.now.E, update.apply(E))
