"""Batch functions that spawned workers can import."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vvuq_twin.domain.keys import member_normals

LOADED: list[str] = []


def smooth(inputs, members, context):
    """Matrix products (whose last bits depend on shapes) and keyed draws."""
    matrix = np.cos(np.arange(inputs.shape[1] * 7)).reshape(inputs.shape[1], 7)
    noise = member_normals(5, "noise", members, 7)
    return {"y": np.tanh(inputs @ matrix) + 0.1 * noise, "members": members, "total": inputs.sum(axis=1)}


def through_jax(inputs, members, context):
    from vvuq_twin.reduction.backend import jax, jnp

    weights = jnp.cos(jnp.arange(inputs.shape[1] * 64.0)).reshape(inputs.shape[1], 64)
    y = jax.jit(lambda x: jnp.exp(jnp.sin(x @ weights) @ weights.T))(jnp.asarray(inputs))
    return {"y": np.asarray(y)}


def from_mapping(inputs, members, context):
    return {"y": inputs["a"] * inputs["b"][:, 0] + context["offset"]}


def load_table(path):
    LOADED.append(path)
    return np.load(path)


def with_table(inputs, members, table):
    return {"y": inputs @ table, "loads": np.full(len(inputs), len(LOADED))}


def raises_on_some(inputs, members, context):
    if 4 <= members[0] < 8:
        raise ArithmeticError("the solver\ndid not converge")
    return {"y": inputs[:, 0] * 2, "count": np.ones(len(inputs), dtype=np.int64)}


def raises_always(inputs, members, context):
    raise ArithmeticError("nothing works")


def raises_once(inputs, members, folder):
    flag = Path(folder) / f"tried-{members[0]}"
    if members[0] == 4 and not flag.exists():
        flag.touch()
        raise OSError("a passing disturbance")
    return {"y": inputs[:, 0] * 2}


def dies_on_some(inputs, members, parent):
    if 4 <= members[0] < 8 and os.getpid() != parent:
        os._exit(9)
    return {"y": inputs[:, 0] * 2}


def dies_once(inputs, members, folder):
    flag = Path(folder) / f"tried-{members[0]}"
    if members[0] == 4 and not flag.exists():
        flag.touch()
        os._exit(9)
    return smooth(inputs, members, None)


def some_not_finite(inputs, members, context):
    y = inputs[:, 0].copy()
    y[members == 3] = np.nan
    return {"y": y, "status": np.where(members == 5, 2, 0)}


def wrong_shape(inputs, members, context):
    return {"y": np.zeros(3)}
