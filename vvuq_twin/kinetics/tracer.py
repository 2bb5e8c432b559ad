"""Tracer models as sums of exponentials convolved with the arterial input.

Every linear model of one or two compartments is ``C = v Cb + a0 (1 * Cp) + sum_i a_i exp(-k_i t) * Cp``: a share of
the blood, tracer that stays, and tracer that leaves at one or two rates. A model says which of these terms it has
and how its own parameters follow from the amplitudes and rates, so that all share one exact forward model and two
fits. References: Tofts et al. 1999 (J Magn Reson Imaging 10:223), Patlak et al. 1983 (J Cereb Blood Flow Metab
3:1), Sourbron & Buckley 2012 (Phys Med Biol 57:R1) for exchange and uptake, Gunn et al. 2001 (J Cereb Blood Flow
Metab 21:635) for the two tissue compartments. Times in minutes, rates and flows in 1/min.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..domain.errors import BadInput, near
from .convolution import checked_input, integrate, tables

Terms = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class TracerModel:
    """A linear compartment model.

    Parameters
    ----------
    name : str
    parameters : tuple of str
        In the order of ``physical`` and ``terms``.
    units : tuple of str
    blood, stays : bool
        Whether a share of the blood's own curve and a term that never leaves are part of it.
    rates : int
        How many exponentials.
    physical : callable
        (amplitudes (m, n), rates (r, n)) to parameters and derived ones (p + q, n); analytic, for complex steps.
    terms : callable
        Parameters (p, n) to (amplitudes (m, n), rates (r, n)).
    derived : tuple of str
        What follows from the parameters and is reported with them.
    derived_units : tuple of str
    """

    name: str
    parameters: tuple[str, ...]
    units: tuple[str, ...]
    blood: bool
    stays: bool
    rates: int
    physical: Callable[[np.ndarray, np.ndarray], np.ndarray]
    terms: Callable[[np.ndarray], Terms]
    derived: tuple[str, ...] = ()
    derived_units: tuple[str, ...] = ()

    def curves(
        self,
        values: Mapping[str, ArrayLike],
        cp: ArrayLike,
        times: ArrayLike,
        *,
        at: ArrayLike | None = None,
        delay: ArrayLike = 0.0,
        blood: ArrayLike | None = None,
        frames: ArrayLike | None = None,
    ) -> np.ndarray:
        """Tissue concentration for parameters of shape (n,).

        Parameters
        ----------
        values : mapping of str to array_like, shape (n,)
        cp, times : array_like, shape (A,)
            Plasma concentration, piecewise linear between its times (min); zero before the first.
        at : array_like, shape (T,), optional
            Sample times; ``times`` by default.
        delay : array_like, shape (n,)
            The tissue sees the input so many minutes later.
        blood : array_like, shape (A,), optional
            Whole blood, where it differs from plasma, for the blood's own share.
        frames : array_like, shape (T, 2), optional
            In place of ``at``: beginnings and ends, over which the curve is averaged.

        Returns
        -------
        ndarray, shape (n, T)

        Raises
        ------
        BadInput
            If a parameter is missing, unknown, negative, or a volume or rate it divides by is zero.
        """
        theta = self._theta(values)
        c, ta = checked_input(cp, times)
        whole = c if blood is None else checked_input(blood, times)[0]
        edges = _edges(ta if at is None else at, frames)
        amplitudes, rates = self.terms(theta)
        shifts = np.broadcast_to(np.asarray(delay, dtype=float), theta.shape[1:])
        out = np.zeros((theta.shape[1], edges.shape[0] if edges.ndim == 1 else len(edges)))
        for shift in np.unique(shifts):
            rows = np.flatnonzero(shifts == shift)
            columns = fixed_columns(self, ta, c, whole, edges, float(shift))
            part = amplitudes[: len(columns), rows].T @ columns
            for i in range(self.rates):
                e = exponential_columns(ta, c, rates[i, rows], edges, float(shift))
                part += amplitudes[len(columns) + i, rows, None] * e
            out[rows] = part
        return out

    def _theta(self, values: Mapping[str, ArrayLike]) -> np.ndarray:
        for name in values:
            if name not in self.parameters:
                raise BadInput(
                    f"'{name}' is no parameter of {self.name}", "tracer", near(name, self.parameters)
                )
        missing = [n for n in self.parameters if n not in values]
        if missing:
            raise BadInput(f"the parameter {missing[0]} of {self.name} is missing", "tracer", "give it")
        given = (np.atleast_1d(np.asarray(values[n], dtype=float)) for n in self.parameters)
        theta = np.stack(np.broadcast_arrays(*given))
        if not (np.isfinite(theta).all() and (theta >= 0).all()):
            raise BadInput(f"a parameter of {self.name} is negative or not finite", "tracer")
        with np.errstate(divide="ignore", invalid="ignore"):
            amplitudes, rates = self.terms(theta)
        if not (np.isfinite(amplitudes).all() and np.isfinite(rates).all()):
            raise BadInput(
                f"a volume or rate that {self.name} divides by is zero", "tracer", "make it positive"
            )
        return theta


def _edges(at: ArrayLike, frames: ArrayLike | None) -> np.ndarray:
    """Sample times (T,), or frames (T, 2) that do not overlap."""
    if frames is None:
        t = np.ascontiguousarray(at, dtype=float)
        if t.ndim != 1 or len(t) < 1 or not (np.diff(t) > 0).all():
            raise BadInput("the sample times do not increase", "tissue curves")
        return t
    f = np.ascontiguousarray(frames, dtype=float)
    if (
        f.ndim != 2
        or f.shape[1] != 2
        or not (f[:, 1] > f[:, 0]).all()
        or not (f[1:, 0] >= f[:-1, 1] - 1e-9).all()
    ):
        raise BadInput(
            "the frames are not beginnings and ends in order", "tissue curves", "give (T, 2) minutes"
        )
    return f


def fixed_columns(
    model: TracerModel, ta: np.ndarray, c: np.ndarray, blood: np.ndarray, edges: np.ndarray, delay: float
) -> np.ndarray:
    """The terms without a rate, shape (0 to 2, T): the blood's curve and the input's running integral."""
    at = edges.ravel() - delay
    out = []
    for there, curve, k in ((model.blood, blood, 0), (model.stays, c, 1)):
        if not there:
            continue
        parts = [np.zeros(len(at)) for _ in range(4)]
        integrate(ta, curve, at, *parts)
        value, _, one, two = parts
        if edges.ndim == 1:
            out.append((value, one)[k])
        else:
            out.append(np.diff((one, two)[k].reshape(edges.shape))[:, 0] / np.diff(edges)[:, 0])
    return np.array(out).reshape(len(out), len(edges))


def exponential_columns(
    ta: np.ndarray, c: np.ndarray, rates: np.ndarray, edges: np.ndarray, delay: float
) -> np.ndarray:
    """``exp(-k t) * Cp`` at sample times or averaged over frames, shape (n, T)."""
    at = edges.ravel() - delay
    e = tables(ta, c, np.ascontiguousarray(rates, dtype=float), at)[0]
    if edges.ndim == 1:
        return e
    # E' = c - k E, so the integral of E is (integral of c - change of E) / k
    parts = [np.zeros(len(at)) for _ in range(4)]
    integrate(ta, c, at, *parts)
    width = np.diff(edges)[:, 0]
    gain = np.diff(parts[2].reshape(edges.shape))[:, 0]
    change = np.diff(e.reshape(len(rates), *edges.shape))[..., 0]
    stays = np.diff(parts[3].reshape(edges.shape))[:, 0]
    k = np.asarray(rates)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(k > 0, (gain - change) / k, stays)
    return np.asarray(mean / width)


def _tofts(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.stack([a[0], a[0] / k[0]])


def _extended(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.stack([a[1], a[1] / k[0], a[0]])


def _patlak(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    return np.stack([a[1], a[0]])


def _uptake(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    flow = a[0] + a[1]
    return np.stack([flow, flow * a[0] / a[1], flow**2 / (a[1] * k[0])])


def _uptake_terms(p: np.ndarray) -> Terms:
    flow, ps, vp = p
    stays = flow * ps / (flow + ps)
    return np.stack([stays, flow - stays]), ((flow + ps) / vp)[None]


def _exchange(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    # impulse response: its start is Fp, its first slope -Fp^2/vp, its area vp + ve, k1 k2 = Fp PS/(vp ve)
    flow = a[0] + a[1]
    vp = flow**2 / (a[0] * k[0] + a[1] * k[1])
    ve = a[0] / k[0] + a[1] / k[1] - vp
    return np.stack([flow, k[0] * k[1] * vp * ve / flow, vp, ve])


def _exchange_terms(p: np.ndarray) -> Terms:
    flow, ps, vp, ve = p
    out, back = (flow + ps) / vp, ps / ve
    root = np.sqrt(np.maximum((out - back) ** 2 + 4.0 * ps**2 / (vp * ve), 0.0))
    fast = (out + back + root) / 2.0
    slow = flow * ps / (vp * ve) / fast
    # two equations: a_f + a_s = Fp and a_f k_f + a_s k_s = Fp^2/vp
    first = flow * (flow / vp - slow) / (fast - slow)
    return np.stack([first, flow - first]), np.stack([fast, slow])


def _irreversible(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    uptake = (a[1] + a[2]) / (1.0 - a[0])
    total = a[1] + a[2]
    return np.stack([uptake, k[0] * a[2] / total, k[0] * a[1] / total, a[0], a[1] / (1.0 - a[0])])


def _irreversible_terms(p: np.ndarray) -> Terms:
    k1, k2, k3, vb = p
    share = (1.0 - vb) * k1 / (k2 + k3)
    return np.stack([vb, share * k3, share * k2]), (k2 + k3)[None]


def _reversible(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    total = a[1] + a[2]
    k2 = (a[1] * k[0] + a[2] * k[1]) / total
    k4 = k[0] * k[1] / k2
    k3 = k[0] + k[1] - k2 - k4
    k1 = total / (1.0 - a[0])
    return np.stack([k1, k2, k3, k4, a[0], k1 / k2 * (1.0 + k3 / k4)])


def _reversible_terms(p: np.ndarray) -> Terms:
    k1, k2, k3, k4, vb = p
    total = k2 + k3 + k4
    fast = (total + np.sqrt(np.maximum(total**2 - 4.0 * k2 * k4, 0.0))) / 2.0
    slow = k2 * k4 / fast
    gain = (1.0 - vb) * k1 / (fast - slow)
    return np.stack([vb, gain * (fast - k3 - k4), gain * (k3 + k4 - slow)]), np.stack([fast, slow])


def _pair(first: int, second: int, rate: int, over: int) -> Callable[[np.ndarray], Terms]:
    return lambda p: (np.stack([p[first], p[second]]), (p[rate] / p[over])[None])


_PER_MINUTE = ("1/min", "1", "1")

TOFTS = TracerModel(
    "Tofts", ("ktrans", "ve"), ("1/min", "1"), False, False, 1, _tofts, lambda p: (p[:1], (p[0] / p[1])[None])
)
EXTENDED_TOFTS = TracerModel(
    "extended Tofts", ("ktrans", "ve", "vp"), _PER_MINUTE, True, False, 1, _extended, _pair(2, 0, 0, 1)
)
PATLAK = TracerModel(
    "Patlak",
    ("ktrans", "vp"),
    ("1/min", "1"),
    True,
    True,
    0,
    _patlak,
    lambda p: (p[::-1], np.zeros((0, p.shape[1]))),
)
UPTAKE = TracerModel(
    "two-compartment uptake",
    ("fp", "ps", "vp"),
    ("1/min", "1/min", "1"),
    False,
    True,
    1,
    _uptake,
    _uptake_terms,
)
EXCHANGE = TracerModel(
    "two-compartment exchange", ("fp", "ps", "vp", "ve"), ("1/min", "1/min", "1", "1"), False, False, 2,
    _exchange, _exchange_terms,
)  # fmt: skip
#: FDG: trapped after phosphorylation; ``ki = K1 k3/(k2 + k3)`` is the net uptake.
TWO_TISSUE_IRREVERSIBLE = TracerModel(
    "two tissue compartments, irreversible", ("k1", "k2", "k3", "vb"), ("1/min", "1/min", "1/min", "1"),
    True, True, 1, _irreversible, _irreversible_terms, ("ki",), ("1/min",),
)  # fmt: skip
TWO_TISSUE = TracerModel(
    "two tissue compartments", ("k1", "k2", "k3", "k4", "vb"), ("1/min", "1/min", "1/min", "1/min", "1"),
    True, False, 2, _reversible, _reversible_terms, ("vt",), ("1",),
)  # fmt: skip

MODELS = {
    "tofts": TOFTS, "extended_tofts": EXTENDED_TOFTS, "patlak": PATLAK, "2cum": UPTAKE, "2cxm": EXCHANGE,
    "two_tissue_irreversible": TWO_TISSUE_IRREVERSIBLE, "two_tissue": TWO_TISSUE,
}  # fmt: skip
