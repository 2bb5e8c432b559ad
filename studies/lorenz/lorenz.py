"""Lorenz-63 and Lorenz-96 twin experiments: analysis error of the filters beside the published values.

    python studies/lorenz/lorenz.py [--realisations 16] [--cycles 1000] [--only lorenz96]

Settings: Lorenz-96 of Sakov & Oke (2008): 40 variables, F 8, RK4 of 0.05, all observed each step with R = I, X0 =
N(e1, 0.001), the first 400 cycles not counted. Lorenz-63 of Sakov, Oliver & Bertino (2012): RK4 of 0.01, all observed
each 25 steps with R = 2 I, the first 64 cycles not counted. A realisation whose mean error passes half of the
climate's standard deviation has lost the truth: it is counted, and left out of the mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numba as nb
import numpy as np

from vvuq_twin.assimilation import (
    ESTKF,
    ETKF,
    LETKF,
    Adaptive,
    Around,
    DEnKF,
    EnKF,
    EnKFN,
    Inflation,
    Key,
    RankHistogram,
    Scheme,
    SerialRoot,
    Tiles,
    start,
)  # fmt: skip
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations


@nb.njit(cache=True)
def tendency96(x, out):
    n = len(x)
    for i in range(n):
        out[i] = (x[(i + 1) % n] - x[i - 2]) * x[i - 1] - x[i] + 8.0


@nb.njit(cache=True)
def tendency63(x, out):
    out[0] = 10.0 * (x[1] - x[0])
    out[1] = x[0] * (28.0 - x[2]) - x[1]
    out[2] = x[0] * x[1] - 8.0 / 3.0 * x[2]


@nb.njit(cache=True)
def _runge_kutta(E, dt, steps, small):
    """Members E (N, n) run on by classical Runge-Kutta steps, in place."""
    n = E.shape[1]
    k = np.empty((4, n))
    for x in E:
        for _ in range(steps):
            for s in range(4):
                y = x if s == 0 else x + (dt if s == 3 else 0.5 * dt) * k[s - 1]
                if small:
                    tendency63(y, k[s])
                else:
                    tendency96(y, k[s])
            x += dt / 6.0 * (k[0] + 2.0 * k[1] + 2.0 * k[2] + k[3])


@dataclass(frozen=True)
class Model:
    """A model with its experiment."""

    name: str
    first: np.ndarray
    spread: float
    dt: float
    steps: int
    noise: float
    burn_in: int
    lost: float
    small: bool

    def run(self, E: np.ndarray) -> np.ndarray:
        """One cycle of members (N, n)."""
        out = E.copy()
        _runge_kutta(out, self.dt, self.steps, self.small)
        return out

    @property
    def coords(self) -> np.ndarray:
        """Positions on a ring, in a plane of which the other axis means nothing."""
        n = len(self.first)
        return np.column_stack([np.arange(n, dtype=float), np.zeros(n)])


LORENZ96 = Model("lorenz96", np.eye(1, 40)[0], 0.001**0.5, 0.05, 1, 1.0, 400, 1.8, False)
LORENZ63 = Model("lorenz63", np.array([1.509, -1.531, 25.46]), 2.0**0.5, 0.01, 25, 2.0**0.5, 64, 4.0, True)
RING = (40.0, 1e3)


@dataclass(frozen=True)
class Case:
    """A scheme with its settings and its published error."""

    name: str
    model: Model
    scheme: Scheme
    members: int
    published: float | None
    source: str = ""


def _tiles() -> Tiles:
    return Tiles.of(LORENZ96.coords, 0.0)


def _around(radius: float) -> Around:
    return Around(LORENZ96.coords, radius, period=RING)


def f(factor: float) -> Inflation:
    return Inflation(factor=factor)


SAKOV, BOCQUET, RAANES = "Sakov & Oke 2008", "Bocquet et al. 2015", "suggested tuning of DAPPER"
CASES = (
    Case("EnKF, inflation 1.06", LORENZ96, EnKF(f(1.06)), 40, 0.22, SAKOV),
    Case("DEnKF, inflation 1.01", LORENZ96, DEnKF(f(1.01)), 40, 0.18, SAKOV),
    Case("ETKF, 1.013, rotated", LORENZ96, ETKF(f(1.013), rotate=True), 24, 0.18, SAKOV),
    Case("ETKF, 1.04, rotated", LORENZ96, ETKF(f(1.04), rotate=True), 20, 0.20, SAKOV),
    Case("ESTKF, 1.013, rotated", LORENZ96, ESTKF(f(1.013), rotate=True), 24, 0.18, "as the ETKF"),
    Case("LETKF, 1.04, radius 4, rotated", LORENZ96, LETKF(_tiles(), 4.0, f(1.04), True, RING), 7, 0.22, SAKOV),
    Case("EnKF-N, certainty 2, rotated", LORENZ96, EnKFN(rotate=True, certainty=2.0), 24, 0.18, RAANES),
    Case("EnKF-N", LORENZ96, EnKFN(), 20, 0.24, RAANES),
    Case("serial root, 1.07, radius 6", LORENZ96, SerialRoot(_around(6.0), f(1.07)), 7, 0.23, RAANES),
    Case("rank histogram, 1.05, radius 6", LORENZ96, RankHistogram(_around(6.0), f(1.05)), 20, None),
    Case("ETKF, adaptive, rotated", LORENZ96, ETKF(adaptive=Adaptive(), rotate=True), 24, None),
    Case("LETKF, adaptive, radius 4, rotated", LORENZ96,
         LETKF(_tiles(), 4.0, rotate=True, period=RING, adaptive=Adaptive()), 7, None),
    Case("LETKF, RTPS 0.3, radius 4", LORENZ96, LETKF(_tiles(), 4.0, Inflation(rtps=0.3), period=RING), 10, None),
    Case("LETKF, RTPP 0.3, radius 4", LORENZ96, LETKF(_tiles(), 4.0, Inflation(rtpp=0.3), period=RING), 10, None),
    Case("EnKF, 1.04", LORENZ63, EnKF(f(1.04)), 10, 0.65, "Sakov et al. 2012"),
    Case("EnKF, 1.01", LORENZ63, EnKF(f(1.01)), 100, 0.56, "Sakov et al. 2012"),
    Case("ETKF, 1.02, rotated", LORENZ63, ETKF(f(1.02), rotate=True), 10, 0.60, RAANES),
    Case("EnKF-N, rotated", LORENZ63, EnKFN(rotate=True), 10, 0.54, RAANES),
    Case("rank histogram, 1.02", LORENZ63, RankHistogram(inflation=f(1.02)), 100, None),
)  # fmt: skip


def experiment(case: Case, cycles: int, seed: int) -> tuple[float, float]:
    """Mean analysis error and spread over the cycles after the burn-in; infinite where the filter broke down."""
    model = case.model
    rng = generator(seed, "truth", model.name)
    n = len(model.first)
    truth = model.first + model.spread * rng.standard_normal(n)
    E = model.first + model.spread * generator(seed, "ensemble", model.name).standard_normal(
        (case.members, n)
    )
    carry, key, error = (
        start(case.members),
        Key(seed, (case.name,)),
        ObservationError(np.full(n, model.noise)),
    )
    errors, spreads = [], []
    for cycle in range(cycles):
        truth, E = model.run(truth[None])[0], model.run(E)
        y = truth + model.noise * rng.standard_normal(n)
        scan = Observations(y, error, model.coords, [str(cycle)], float(cycle))
        if not np.isfinite(E).all():
            return np.inf, np.inf
        update, carry = case.scheme.analyse(carry, E, scan, key)
        E = update.apply(E)
        if cycle >= model.burn_in:
            errors.append(np.sqrt(np.mean((E.mean(axis=0) - truth) ** 2)))
            spreads.append(np.sqrt(E.var(axis=0, ddof=1).mean()))
    return float(np.mean(errors)), float(np.mean(spreads))


@dataclass(frozen=True)
class Found:
    """Means over the realisations that kept the truth."""

    error: float
    standard_error: float
    spread: float
    lost: int


def realisations(
    case: Case, count: int, cycles: int, tell: Callable[[str], None] = lambda text: None
) -> Found:
    """A case over several realisations, those that lost the truth counted apart."""
    both = np.array([experiment(case, cycles, seed) for seed in range(count)])
    kept = both[both[:, 0] < case.model.lost]
    if not len(kept):
        return Found(np.nan, np.nan, np.nan, count)
    wide = kept[:, 0].std(ddof=1) / np.sqrt(len(kept)) if len(kept) > 1 else np.nan
    found = Found(float(kept[:, 0].mean()), float(wide), float(kept[:, 1].mean()), count - len(kept))
    tell(row(case, found))
    return found


def row(case: Case, found: Found) -> str:
    """A line of the table."""
    published = "" if case.published is None else f"{case.published:.2f} ({case.source})"
    return (
        f"| {case.model.name} | {case.name} | {case.members} | {found.error:.3f} ± {found.standard_error:.3f} | "
        f"{found.spread:.3f} | {found.lost} | {published} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--realisations", type=int, default=16)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--only", choices=["lorenz63", "lorenz96"])
    parser.add_argument("--from-case", type=int, default=0)
    chosen = parser.parse_args()
    print("| model | scheme | members | analysis error ± standard error | spread | lost | published |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES[chosen.from_case :]:
        if chosen.only in (None, case.model.name):
            realisations(case, chosen.realisations, chosen.cycles, print)


if __name__ == "__main__":
    main()
