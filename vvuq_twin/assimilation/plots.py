"""Pictures of the diagnostics: each function takes the history of a carry and returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .series import Line, analyses, over_cycles, ranks_of

BLUE, RED, GREY = "#2a5c8a", "#b5483a", "#8a8a8a"


def _figure(title: str, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axis = figure.subplots()
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _lines(
    title: str, ylabel: str, history: Sequence[Line], named: dict[str, str], level: float | None = None
) -> Any:
    """Entries of the history over the analyses, with the value they should have."""
    figure, axis = _figure(title, "analysis", ylabel)
    at = np.arange(1, len(analyses(history)) + 1)
    for (name, label), colour in zip(named.items(), (BLUE, RED, GREY, "#d9a441")):
        axis.plot(at, over_cycles(history, name), "o-", ms=3, lw=1, color=colour, label=label)
    if level is not None:
        axis.axhline(level, color="black", lw=0.8, ls="--")
    axis.legend(fontsize=8, frameon=False)
    return figure


def innovations(history: Sequence[Line]) -> Any:
    """Innovation beside what spread and error lead one to expect."""
    named = {
        "innovation_rmse": "innovation (root mean square)",
        "expected_rmse": "expected",
        "innovation_mean": "innovation (mean)",
    }
    return _lines("Innovations", "unit of the observation", history, named, 0.0)


def consistency(history: Sequence[Line]) -> Any:
    """Ratios that are one where spread and error are right."""
    named = {
        "chi_square_over_m": "chi square / m", "desroziers_error": "Desroziers, error",
        "desroziers_spread": "Desroziers, spread", "spread_over_error": "expected over actual",
    }  # fmt: skip
    figure = _lines("Consistency", "ratio, 1 is right", history, named, 1.0)
    figure.axes[0].set_yscale("log")
    return figure


def spread_skill(history: Sequence[Line]) -> Any:
    """Each analysis: expected against actual innovation; on the diagonal if the spread tells the error."""
    figure, axis = _figure("Spread and skill", "expected (root mean square)", "actual (root mean square)")
    x, y = over_cycles(history, "expected_rmse"), over_cycles(history, "innovation_rmse")
    axis.plot(x, y, "o", ms=4, color=BLUE)
    most = float(np.nanmax(np.concatenate([x, y]), initial=1e-12))
    axis.plot([0, most], [0, most], color="black", lw=0.8)
    return figure


def rank_histogram(history: Sequence[Line]) -> Any:
    """Ranks of the observations over all analyses, with the range that chance allows."""
    figure, axis = _figure(
        "Ranks of the observations", "rank among the members (tenths)", "frequency over expected"
    )
    counts = ranks_of(history)
    expected = counts.sum() / len(counts)
    axis.bar(np.arange(len(counts)) + 0.5, counts / expected, width=0.9, color=BLUE)
    half = 1.96 * np.sqrt((1 - 1 / len(counts)) / expected)
    axis.axhspan(1 - half, 1 + half, color=GREY, alpha=0.3, lw=0)
    axis.axhline(1.0, color="black", lw=0.8, ls="--")
    return figure


def scores(history: Sequence[Line]) -> Any:
    """CRPS of the predicted observations."""
    return _lines("CRPS of the predicted observations", "unit of the observation", history, {"crps": "CRPS"})


def signal(history: Sequence[Line]) -> Any:
    """How much was learned, and in how many directions there was spread to learn with."""
    named = {
        "degrees_of_freedom_for_signal": "degrees of freedom for signal",
        "effective_size": "effective ensemble size",
    }
    return _lines("Signal", "number", history, named)


def parameters(found: dict[str, Any]) -> Any:
    """Correlation of the posterior, with what was learned of each parameter beside the names (``identifiability``)."""
    figure, axis = _figure("Parameters after the scans", "", "")
    names = found["names"]
    image = axis.imshow(found["correlation"], vmin=-1, vmax=1, cmap="RdBu_r")
    labels = [f"{n} ({100 * found['contraction'][n]:.0f} %)" for n in names]
    axis.set_yticks(range(len(names)), labels, fontsize=8)
    axis.set_xticks(range(len(names)), names, fontsize=8, rotation=45, ha="right")
    figure.colorbar(image, label="correlation")
    return figure


def directions(found: dict[str, Any]) -> Any:
    """Variance that is left in each combination of the parameters (``identifiability``)."""
    figure, axis = _figure("What is left of the prior's variance", "direction", "part left")
    left = np.array(found["variance_left"])
    axis.bar(np.arange(1, len(left) + 1), left, color=BLUE)
    axis.axhline(1.0, color="black", lw=0.8, ls="--")
    return figure


def all_figures(history: Sequence[Line]) -> dict[str, Any]:
    """Every figure of a history by name."""
    makers = (innovations, consistency, spread_skill, rank_histogram, scores, signal)
    return {maker.__name__: maker(history) for maker in makers}
