"""A small tumour on millimetre voxels, where the flow at its rim matters; the reduced model trained once."""

from __future__ import annotations

from functools import cache

from vvuq_twin.reduction.delivery import ReducedDelivery
from vvuq_twin.reduction.delivery_build import DeliveryTraining, build_delivery, training_runs
from vvuq_twin.reduction.delivery_validation import Judged, validate_delivery
from vvuq_twin.reduction.flow_build import FlowBasis
from vvuq_twin.reduction.training import training_parameters
from vvuq_twin.verification.delivery_reduction_checks import lump_case as small_case

HOW = DeliveryTraining(modes=24, records=24)


@cache
def small_judged() -> Judged:
    """Six unseen members."""
    case, (model, _) = small_case(), small_model()
    return validate_delivery(model, case, case.space.sample(6, 5, "unseen"))


@cache
def small_model() -> tuple[ReducedDelivery, FlowBasis]:
    """Trained on 24 full-order runs."""
    case = small_case()
    theta = training_parameters(case.space, 24, 3)
    return build_delivery(case, theta, training_runs(case, theta, HOW), HOW)


__all__ = ["HOW", "small_case", "small_judged", "small_model"]
