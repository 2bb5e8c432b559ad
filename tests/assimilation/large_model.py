"""A model that spawned workers can import: fields that decay and drift, with keyed noise; members may be made to fail."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from vvuq_twin.domain.keys import member_normals

SIZE = 2000


def initial(members, context):
    draws = member_normals(1, "initial", members, 12)
    x = np.linspace(0, 2 * np.pi, SIZE)
    modes = np.array([np.cos(k * x + k) for k in range(12)]) / (1 + np.arange(12)[:, None])
    return (draws[:, :, None] * modes).sum(axis=1)


def propagate(E, members, t0, t1, context):
    time.sleep(context.get("sleep", 0.0))
    flag = Path(context["flag"]) if "flag" in context else None
    if flag is not None and members[0] == 6 and not flag.exists():
        flag.touch()
        os._exit(9)
    out = np.roll(E, int(10 * (t1 - t0)), axis=1) * np.exp(-0.05 * (t1 - t0))
    out += 0.05 * member_normals(1, "noise", members, 1, str(t1))
    out[members == context.get("fails", -1)] = np.nan
    return out, np.where(members == context.get("says", -1), 3, 0)


def observe(E, scan, context):
    return E[:, scan.coords[:, 0].astype(int)]
