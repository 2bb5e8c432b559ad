"""Solvers broken on purpose: each is one change of the source that a careless hand could make.

Chosen from the solvers' source alone, before any of them was run against the checks. ``caught`` names the
check that was found to catch it (the first one that failed); the tests break the solver again and demand that
this check still fails. Two of the 28 were not caught by the suite as it stood then (the volume fraction lost in
binding, the turned solvent drag): the checks of several species came after them. What a mutant changes must occur
exactly once in its file.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A wrong version of one line."""

    name: str
    file: str
    old: str
    new: str
    caught: str


MUTANTS = (
    Mutant(
        "arithmetic instead of harmonic face mean",
        "physics/faces.py",
        "return 2.0 * a * b / xp.where(both > 0, both, 1.0)",
        "return 0.5 * both",
        "growth.mms.space.gompertz",
    ),
    Mutant(
        "conductance of the wrong axis in the diffusion kernel",
        "physics/kernels.py",
        "low, high, gl, gh = u[i, j - 1, a:b], u[i, j + 1, a:b], g1[i, j, a:b], g1[i, j + 1, a:b]",
        "low, high, gl, gh = u[i, j - 1, a:b], u[i, j + 1, a:b], g0[i, j, a:b], g0[i + 1, j, a:b]",
        "growth.bounds",
    ),
    Mutant(
        "spacings of the axes reversed",
        "physics/growth.py",
        "inverse = tuple(1.0 / h**2 for h in faces.grid.spacing)",
        "inverse = tuple(1.0 / h**2 for h in faces.grid.spacing[::-1])",
        "growth.driver",
    ),
    Mutant(
        "second stage of the diffusion step lost",
        "physics/kernels.py",
        "c[k] = 0.5 * (c[k] + (f[k] + dt * tmp[k]))",
        "c[k] = f[k]",
        "growth.mms.time.explicit",
    ),
    Mutant(
        "a sign in the super-time-step",
        "physics/kernels.py",
        "gamma = -(1.0 - _b(stage - 1)) * step",
        "gamma = (1.0 - _b(stage - 1)) * step",
        "growth.bounds",
    ),
    Mutant(
        "reaction over the whole step on both sides of diffusion",
        "physics/growth.py",
        "amount = 0.5 * rate[s] * dt[s]",
        "amount = rate[s] * dt[s]",
        "growth.driver",
    ),
    Mutant(
        "decay of the drug lost in the second half step",
        "physics/growth.py",
        "owed = one * half",
        "owed = one",
        "growth.reference",
    ),
    Mutant(
        "half a step's kill still owed at a visit",
        "physics/growth.py",
        "if owed != 0.0 and (record[s] >= 0 or dose[s] > 0.0):",
        "if owed != 0.0 and dose[s] > 0.0:",
        "growth.reference",
    ),
    Mutant(
        "several fractions at one time taken as one",
        "physics/growth.py",
        "effect = alpha_rt * (dose[s] + dose_sq[s] / alpha_beta)",
        "effect = alpha_rt * (dose[s] + dose[s] * dose[s] / alpha_beta)",
        "growth.reference",
    ),
    Mutant(
        "doses one step early",
        "physics/timeline.py",
        "i = int(np.abs(ends - time).argmin())",
        "i = max(int(np.abs(ends - time).argmin()) - 1, 0)",
        "growth.reference",
    ),
    Mutant(
        "exposure map weighted with the wrong sign",
        "physics/kernels.py",
        "e[k] = -strength * (offset + slope * w[k])",
        "e[k] = -strength * (offset - slope * w[k])",
        "growth.reference",
    ),
    Mutant(
        "Gompertz growth with the sign of decline",
        "physics/kernels.py",
        "e[k] = -gain[k] if exponent == 0.0 else gain[k]",
        "e[k] = gain[k]",
        "growth.gompertz",
    ),
    Mutant(
        "an infusion ends at half its time",
        "kinetics/plasma.py",
        "jumps.setdefault(dose.time + dose.duration, np.zeros(size))[pump] -= rate",
        "jumps.setdefault(dose.time + 0.5 * dose.duration, np.zeros(size))[pump] -= rate",
        "plasma.infusion",
    ),
    Mutant(
        "flows between compartments the other way round",
        "kinetics/plasma.py",
        "k[..., list(names).index(target), a] += value",
        "k[..., a, list(names).index(target)] += value",
        "plasma.exposure",
    ),
    Mutant(
        "slopes of a measured curve not differenced",
        "kinetics/measured.py",
        "jumps[:-1, SLOPE] = np.diff(slope, prepend=0.0)",
        "jumps[:-1, SLOPE] = slope",
        "plasma.population",
    ),
    Mutant(
        "filtered plasma leaves the kidney twice",
        "kinetics/pbpk.py",
        "(through - o.filtration) / o.plasma",
        "through / o.plasma",
        "body.scipy",
    ),
    Mutant(
        "binding by the ligand's amount, not its concentration",
        "kinetics/pbpk.py",
        "ligand.association / o.interstitium",
        "ligand.association",
        "body.scipy",
    ),
    Mutant(
        "a wrong factor in the extrapolation of stiff kinetics",
        "kinetics/stiff.py",
        "weight = 1.0 / (n / (n - k) - 1.0)",
        "weight = 1.0 / (n / (n - k) - 0.9)",
        "plasma.saturable",
    ),
    Mutant(
        "a factor of two lost in the dose-rate effect",
        "kinetics/dose_rate.py",
        "dose, quadratic = dose + gain, quadratic + 2.0 * more",
        "dose, quadratic = dose + gain, quadratic + more",
        "dose_rate.factor",
    ),
    Mutant(
        "volume fraction lost at faces",
        "physics/kernels.py",
        "flat[i] = scale * conductance[g[i] - 1] * (2.0 * a * b / (a + b))",
        "flat[i] = scale * conductance[g[i] - 1]",
        "transport.exposure",
    ),
    Mutant(
        "volume fraction lost in binding",
        "physics/saturable.py",
        "forth[q] = value[q, 0] * max(value[q, 1] - b, 0.0) / phi",
        "forth[q] = value[q, 0] * max(value[q, 1] - b, 0.0)",
        "species.binding",
    ),
    Mutant(
        "solvent drag with the sign of the Peclet number turned",
        "physics/tissue.py",
        "gain = xp.where(open_wall, wall * bernoulli(-pe), xp.maximum(drag, 0.0))",
        "gain = xp.where(open_wall, wall * bernoulli(pe), xp.maximum(drag, 0.0))",
        "species.wall",
    ),
    Mutant(
        "the last half step of local kinetics taken whole",
        "physics/stepper.py",
        "self.local(dt if i < count - 1 else 0.5 * dt)",
        "self.local(dt)",
        "transport.exposure",
    ),
    Mutant(
        "a factor in the limiter",
        "physics/convection.py",
        "rise = a * b / both if bends else 0.0",
        "rise = 2.0 * a * b / both if bends else 0.0",
        "transport.mms.convection.limited",
    ),
    Mutant(
        "second upstream cell mistaken where the flow runs backwards",
        "physics/convection.py",
        "a, b = before if forward else after, high - low",
        "a, b = before if forward else low - high, high - low",
        "transport.mms.coupled.limited",
    ),
    Mutant(
        "reactions transposed",
        "physics/smallexp.py",
        "matrix[i, j] = r[i, j] * dt",
        "matrix[i, j] = r[j, i] * dt",
        "transport.mass",
    ),
    Mutant(
        "plasma not integrated with the tissue",
        "physics/smallexp.py",
        "matrix[2 * s + i, 2 * s + j] = plasma[i, j] * dt",
        "matrix[2 * s + i, 2 * s + j] = 0.0",
        "transport.exposure",
    ),
    Mutant(
        "lymphatic drainage with the wrong sign",
        "physics/interstitium.py",
        "supply = filtration * effective_pressure + drainage * lymph_pressure",
        "supply = filtration * effective_pressure - drainage * lymph_pressure",
        "pressure.balance",
    ),
    Mutant(
        "two half cells in parallel instead of in series",
        "physics/pressure.py",
        "return xp.where(both > 0, a * b / xp.where(both > 0, both, 1.0), 0.0)",
        "return 0.25 * both",
        "pressure.mms",
    ),
)
