"""Batches inline: numbers, padding, resuming, guarding, failures."""

from __future__ import annotations

import ensemble_functions as functions
import numpy as np
import pytest

from vvuq_twin.domain.errors import BadInput, RunFailed
from vvuq_twin.ensemble import Context, run_batches
from vvuq_twin.ensemble.store import NOT_FINITE, RAISED, marker

X = np.random.Generator(np.random.Philox(3)).normal(size=(23, 4))


def test_batches_give_the_values_of_the_function(tmp_path):
    done = run_batches(functions.smooth, X, tmp_path / "s", batch=5)
    whole = functions.smooth(X, np.arange(23), None)
    assert sorted(done) == ["members", "status", "total", "y"]
    np.testing.assert_allclose(done.load("y"), whole["y"], rtol=1e-13)
    np.testing.assert_array_equal(done.load("members"), np.arange(23))
    assert (done.status == 0).all() and done["y"].chunks == (5, 7)
    assert done.summary()["members"] == 23 and done.summary()["status"] == {"good": 23}


def test_the_last_batch_is_filled_up_to_the_same_shape(tmp_path):
    seen = []

    def watch(inputs, members, context):
        seen.append((inputs.shape, members.tolist()))
        return {"y": inputs[:, 0]}

    done = run_batches(watch, X, tmp_path / "s", batch=5)
    assert {shape for shape, _ in seen} == {(5, 4)}
    assert seen[-1][1] == [20, 21, 22, 22, 22]
    np.testing.assert_array_equal(done.load("y"), X[:, 0])


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(tmp_path):
    whole = run_batches(functions.smooth, X, tmp_path / "whole", batch=4)

    def interrupt(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batches(functions.smooth, X, tmp_path / "part", batch=4, progress=interrupt)
    seen = []
    part = run_batches(
        functions.smooth, X, tmp_path / "part", batch=4, progress=lambda d, t: seen.append((d, t))
    )
    assert part.resumed == 8 and seen[0] == (8, 23) and seen[-1] == (23, 23)
    for name in whole:
        assert whole.load(name).tobytes() == part.load(name).tobytes()


def test_a_marker_without_its_chunk_or_half_a_marker_is_computed_again(tmp_path):
    store = tmp_path / "s"
    whole = run_batches(functions.smooth, X, store, batch=4).load("y")
    for chunk in ("status/c/1", "y/c/1/0"):
        (store / "members.zarr" / chunk).unlink()
    marker(store, 2).write_text('{"start": 8, ')
    again = run_batches(functions.smooth, X, store, batch=4)
    assert again.resumed == 23 - 8
    assert again.load("y").tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"inputs": X + 1e-16 + 1e-12}, "inputs"),
        ({"batch": 6}, "batch"),
        ({"version": "2"}, "version"),
        ({"function": functions.through_jax}, "function"),
        ({"context": {"a": 1}}, "context"),
        ({"inputs": X[:20]}, "members"),
    ],
)
def test_a_store_is_not_used_for_another_computation(tmp_path, change, word):
    run_batches(functions.smooth, X, tmp_path / "s", batch=5)
    call = {"function": functions.smooth, "inputs": X, "batch": 5} | change
    with pytest.raises(BadInput, match=word):
        run_batches(store=tmp_path / "s", **call)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="not empty"):
        run_batches(functions.smooth, X, tmp_path)


def test_a_mapping_of_inputs_and_a_plain_context(tmp_path):
    inputs = {"a": np.arange(6.0), "b": np.ones((6, 2))}
    done = run_batches(functions.from_mapping, inputs, tmp_path / "s", batch=4, context={"offset": 2.0})
    np.testing.assert_array_equal(done.load("y"), np.arange(6.0) + 2)
    with pytest.raises(BadInput, match="number of members"):
        run_batches(functions.from_mapping, {"a": np.ones(3), "b": np.ones(2)}, tmp_path / "t")
    with pytest.raises(BadInput, match="no members"):
        run_batches(functions.smooth, X[:0], tmp_path / "u")


def test_a_context_is_loaded_once_a_process_and_known_by_its_content(tmp_path):
    path = tmp_path / "table.npy"
    np.save(path, np.eye(4)[:, :2] * 3)
    before = len(functions.LOADED)
    context = Context(functions.load_table, (str(path),), content="abc")
    done = run_batches(functions.with_table, X, tmp_path / "s", batch=5, context=context)
    np.testing.assert_array_equal(done.load("y"), X[:, :2] * 3)
    assert len(functions.LOADED) == before + 1
    moved = tmp_path / "moved.npy"
    path.rename(moved)
    again = run_batches(
        functions.with_table,
        X,
        tmp_path / "s",
        batch=5,
        context=Context(functions.load_table, (str(moved),), "abc"),
    )
    assert again.resumed == 23
    with pytest.raises(BadInput, match="context"):
        run_batches(
            functions.with_table,
            X,
            tmp_path / "s",
            batch=5,
            context=Context(functions.load_table, (str(moved),), "xyz"),
        )


def test_a_batch_that_raises_is_marked_and_the_rest_goes_on(tmp_path):
    done = run_batches(functions.raises_on_some, X, tmp_path / "s", batch=4)
    assert done.failed.tolist() == [4, 5, 6, 7] and (done.status[4:8] == RAISED).all()
    assert np.isnan(done.load("y")[4:8]).all() and (done.load("count")[4:8] == -1).all()
    np.testing.assert_array_equal(done.load("y", good_only=True), np.delete(X[:, 0], range(4, 8)) * 2)
    assert done.errors == {1: "ArithmeticError: the solver did not converge"}
    assert "killed" in " ".join(done.summary()["status"])


def test_a_passing_failure_is_tried_again(tmp_path):
    done = run_batches(functions.raises_once, X, tmp_path / "s", batch=4, context=str(tmp_path))
    assert len(done.failed) == 0 and not done.errors
    np.testing.assert_array_equal(done.load("y"), X[:, 0] * 2)


def test_failed_batches_are_tried_again_by_the_next_run(tmp_path):
    first = run_batches(functions.raises_on_some, X, tmp_path / "s", batch=4)
    again = run_batches(functions.raises_on_some, X, tmp_path / "s", batch=4)
    assert again.resumed == 19
    assert again.errors == first.errors


def test_all_failed_is_a_failed_run_with_the_reason(tmp_path):
    with pytest.raises(RunFailed, match="nothing works"):
        run_batches(functions.raises_always, X, tmp_path / "s", batch=4)
    with pytest.raises(RunFailed, match="first axis"):
        run_batches(functions.wrong_shape, X, tmp_path / "t", batch=4)


def test_values_that_are_not_finite_get_a_status(tmp_path):
    done = run_batches(functions.some_not_finite, X, tmp_path / "s", batch=4)
    assert done.status[3] == NOT_FINITE and done.status[5] == 2 and done.failed.tolist() == [3, 5]
    allowed = run_batches(functions.some_not_finite, X, tmp_path / "t", batch=4, allow_nan=True)
    assert allowed.failed.tolist() == [5]


def test_moments_batch_by_batch_are_those_of_the_good_members(tmp_path):
    done = run_batches(functions.raises_on_some, X, tmp_path / "s", batch=4)
    mean, sd = done.moments("y")
    kept = np.delete(X[:, 0], range(4, 8)) * 2
    np.testing.assert_allclose([mean, sd], [kept.mean(), kept.std(ddof=1)], rtol=1e-13)


def test_no_permission_is_one_sentence(tmp_path, monkeypatch):
    import errno

    from vvuq_twin.ensemble import store

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "open_group", full)
    with pytest.raises(BadInput, match="disk is full"):
        run_batches(functions.smooth, X, tmp_path / "s", batch=4)
