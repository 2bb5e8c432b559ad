"""Why the observation error has three parts: pixels as independent noise collapse the ensemble."""

import numpy as np
import pytest

from vvuq_twin.assimilation import ESMDA, ETKF, Key, RootESMDA, start
from vvuq_twin.domain.keys import generator
from vvuq_twin.domain.observations import ObservationError, Observations

PIXELS, MEMBERS, PATIENTS = 4000, 100, 40
NOISE, CALIBRATION, MISSING = 0.10, 0.08, 0.05


def smooth_modes(count, first):
    """Cosines over the pixels, (count, PIXELS), of unit mean square."""
    x = (np.arange(PIXELS) + 0.5) / PIXELS
    return np.array([np.sqrt(2) * np.cos(np.pi * k * x) for k in range(first, first + count)])


def patient(seed):
    """Amplitudes of three modes; a scan with a calibration offset, pixel noise and what the model lacks."""
    rng = generator(seed, "collapse")
    modes = smooth_modes(3, 0) + 0.5 * smooth_modes(3, 2)
    lacking = smooth_modes(4, 2)
    truth = rng.standard_normal(3)
    members = rng.standard_normal((MEMBERS, 3))
    scan = CALIBRATION * rng.standard_normal() * np.ones(PIXELS)
    y = (
        truth @ modes
        + scan
        + MISSING * rng.standard_normal(4) @ lacking
        + NOISE * rng.standard_normal(PIXELS)
    )
    return members, truth, modes, lacking, y


def coverage_and_ratio(scheme, three_parts):
    """Share of amplitudes in their 90 % interval, and root mean square error over spread."""
    z, errors, spreads = [], [], []
    for seed in range(PATIENTS):
        E, truth, modes, lacking, y = patient(seed)
        if three_parts:
            error = ObservationError(
                np.full(PIXELS, NOISE), CALIBRATION * np.ones((PIXELS, 1)), MISSING * lacking.T
            )
        else:
            # the same total variance, but all of it independent from pixel to pixel
            variance = NOISE**2 + CALIBRATION**2 + MISSING**2 * (lacking**2).sum(axis=0)
            error = ObservationError(np.sqrt(variance))
        obs = Observations(y, error, np.zeros((PIXELS, 0)), ["scan"], 0.0)
        carry = start(MEMBERS)
        for _ in range(scheme.steps):
            update, carry = scheme.analyse(carry, E @ modes, obs, Key(seed))
            E = update.apply(E)
        z.append((E.mean(axis=0) - truth) / E.std(axis=0, ddof=1))
        errors.append(E.mean(axis=0) - truth)
        spreads.append(E.std(axis=0, ddof=1))
    ratio = np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(spreads)))
    return float(np.mean(np.abs(z) < 1.645)), float(ratio)


@pytest.mark.parametrize("scheme", [ETKF(), RootESMDA(2), ESMDA(2)])
def test_independent_noise_collapses_and_three_parts_do_not(scheme):
    collapsed, error_over_spread = coverage_and_ratio(scheme, three_parts=False)
    assert collapsed < 0.3
    assert error_over_spread > 5
    honest, error_over_spread = coverage_and_ratio(scheme, three_parts=True)
    assert 0.80 < honest < 0.98
    assert error_over_spread == pytest.approx(1.0, abs=0.25)


def test_a_truth_outside_the_span_with_independent_observations_collapses():
    """The published warning: 4000 independent observations, 100 members, a field no member resembles."""
    x = np.arange(PIXELS)
    covered, ratio = [], []
    for seed in range(5):
        rng = generator(seed, "outside the span")
        kernel = np.exp(-0.5 * (np.minimum(x, PIXELS - x) / 4.0) ** 2)
        root = np.sqrt(np.maximum(np.fft.rfft(kernel).real, 0.0))
        fields = np.fft.irfft(np.fft.rfft(rng.standard_normal((MEMBERS + 1, PIXELS))) * root, n=PIXELS)
        E, truth = fields[:-1], fields[-1]
        y = truth + 0.3 * rng.standard_normal(PIXELS)
        obs = Observations(y, ObservationError(np.full(PIXELS, 0.3)), np.zeros((PIXELS, 0)), ["scan"], 0.0)
        update, carry = ETKF().analyse(start(MEMBERS), E, obs, Key(seed))
        out = update.apply(E)
        sd = out.std(axis=0, ddof=1)
        covered.append(np.mean(np.abs(out.mean(axis=0) - truth) < 1.645 * sd))
        ratio.append(np.sqrt(np.mean((out.mean(axis=0) - truth) ** 2) / np.mean(sd**2)))
        # and the cycle's own diagnostics say so: the innovation is far larger than spread and error explain
        assert carry.history[0]["chi_square_over_m"] > 3
    assert np.mean(covered) < 0.25
    assert np.mean(ratio) > 5
