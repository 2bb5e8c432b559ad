"""What the cycles of an assimilation say together: alarms, consistency, skill, what parameters were learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..domain.errors import BadInput
from ..domain.files import cannot_read, write_text

Line = Mapping[str, Any]

#: An alarm looks at this many analyses.
WINDOW = 3


def analyses(history: Sequence[Line]) -> list[Line]:
    """The lines of analyses that used observations."""
    return [line for line in history if "chi_square_over_m" in line]


def alarms(history: Sequence[Line], started: int) -> list[str]:
    """Signs that the filter is losing the truth, in words; none if there are none.

    Parameters
    ----------
    history : sequence of dict
        Of the carry; the last three analyses count.
    started : int
        Members at the start.

    Notes
    -----
    The innovation's chi square over m has mean 1 and variance 2/m if spread and error are right and the errors
    Gaussian; with spread that is misjudged by a factor of two it stays below four. The alarm is at two and five
    standard deviations above one, over the window.
    """
    last = analyses(history)[-WINDOW:]
    out: list[str] = []
    if not last:
        return out
    m = sum(line["observations"] for line in last)
    chi = sum(line["chi_square_over_m"] * line["observations"] for line in last) / m
    if not np.isfinite(chi) or chi > max(2.0, 1.0 + 5.0 * np.sqrt(2.0 / m)):
        out.append(f"innovations are {np.sqrt(chi):.1f} times as large as spread and error explain")
    size = last[-1].get("effective_size")
    if size is not None and len(last) == WINDOW and last[-1]["observations"] > 10 and size < 1.2:
        out.append("the spread of the predictions lies in a single direction")
    if last[-1]["members"] < 0.5 * started:
        out.append(f"{started - last[-1]['members']} of {started} members were lost")
    return out


def over_cycles(history: Sequence[Line], name: str) -> np.ndarray:
    """One entry of every analysis, NaN where it has none, shape (cycles,)."""
    values = [line.get(name) for line in analyses(history)]
    return np.array([np.nan if v is None else float(v) for v in values])


def ranks_of(history: Sequence[Line]) -> np.ndarray:
    """Rank histogram summed over the analyses, shape (10,)."""
    return np.sum([line["rank_histogram"] for line in analyses(history)], axis=0)


def write_history(path: str | Path, history: Sequence[Line]) -> None:
    """Store the diagnostics of every cycle as JSON, atomically."""
    write_text(Path(path), json.dumps(list(history), indent=1) + "\n")


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """What :func:`write_history` stored.

    Raises
    ------
    BadInput
        If the file cannot be read or holds something else.
    """
    try:
        found: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_read(Path(path), error) from error
    except ValueError as error:
        raise BadInput(
            "the file is not JSON", str(path), "give a history that write_history stored"
        ) from error
    return found


def identifiability(prior: np.ndarray, posterior: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Which parameters, and which combinations of them, the observations determined.

    Parameters
    ----------
    prior, posterior : ndarray, shape (N, p)
        Members' scores before and after (Gaussian space); the numbers of members may differ.
    names : sequence of str

    Returns
    -------
    dict
        ``contraction`` per name, ``1 - var_posterior / var_prior``; ``correlation`` (p, p) of the posterior;
        ``variance_left`` per direction, ascending: the generalised eigenvalues of posterior against prior
        covariance, near one where nothing was learned; ``best`` and ``worst``, the unit combinations (in prior
        standard deviations) with the least and most left; ``determined``, the number of directions with less than
        half left.
    """
    before, after = prior - prior.mean(axis=0), posterior - posterior.mean(axis=0)
    sd = np.maximum(before.std(axis=0, ddof=1), 1e-300)
    before, after = before / sd, after / sd
    P = before.T @ before / (len(before) - 1)
    Q = after.T @ after / (len(after) - 1)
    values, vectors = np.linalg.eigh(P)
    keep = values > 1e-10 * values[-1]
    back = vectors[:, keep] / np.sqrt(values[keep])
    left, turned = np.linalg.eigh(back.T @ Q @ back)
    directions = (back @ turned).T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    spread = np.sqrt(np.maximum(np.diag(Q), 1e-300))

    def named(direction: np.ndarray) -> dict[str, float]:
        return {name: float(v) for name, v in zip(names, direction)}

    return {
        "names": list(names),
        "contraction": named(1.0 - np.diag(Q) / np.diag(P)),
        "correlation": (Q / np.outer(spread, spread)).tolist(),
        "variance_left": [float(v) for v in left],
        "best": named(directions[0]),
        "worst": named(directions[-1]),
        "determined": int(np.sum(left < 0.5)),
    }
