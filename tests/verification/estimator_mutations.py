"""What the checks of estimators and surrogates must notice."""

from __future__ import annotations

import numpy as np

from vvuq_twin.multifidelity.scheme import Scheme
from vvuq_twin.reduction import surrogate_fits
from vvuq_twin.verification import estimator_checks

combine = estimator_checks.combine
weights = Scheme.weights
basis = surrogate_fits.basis


def biased(plan, y, statistic):
    """The cheap model's mean in place of the difference of its means."""
    return combine(plan, [y[0], y[1] + 0.1 * (np.arange(len(y[1])) < plan.sizes[0])[:, None]], statistic)


def flipped(self, sizes, moments, statistic):
    """Weights of the wrong size, with the variance of the right ones."""
    w, v = weights(self, sizes, moments, statistic)
    return 0.3 * w, v


def hopeful(self, sizes, moments, statistic):
    w, v = weights(self, sizes, moments, statistic)
    return w, 0.9 * v


def crude(z, indices, kinds):
    """Products of parameters left out."""
    return basis(z, indices, kinds) * ((indices > 0).sum(axis=1) < 2) + 1e-6 * basis(
        np.sin(z), indices, kinds
    )


ESTIMATOR_MUTATIONS = [
    ("multifidelity.unbiased", estimator_checks, "combine", biased),
    ("multifidelity.unbiased", Scheme, "weights", flipped),
    ("multifidelity.allocation", Scheme, "weights", hopeful),
    ("surrogate.polynomial", surrogate_fits, "basis", crude),
]
