"""The uncertainty budget: where the spread of a forecast comes from, line by line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..domain.errors import BadInput


@dataclass(frozen=True)
class BudgetLine:
    """One source of uncertainty of one quantity.

    Parameters
    ----------
    source : str
        "parameters", "initial field", "growth noise", "measurement", "reduction", "discretisation",
        "model form", ...
    sd : float or None
        Its standard deviation in the quantity's unit; None where it was not quantified.
    how : str
        How the figure was found ("ensemble, all else at the mean"; "bound from three grids").
    evidence : str
        Id of the evidence behind it, or "".
    share : float, optional
        Its share of the total's variance where sources depend on each other, so that its own variance is not its
        share: the covariance of its part with the total over the total's variance (Li et al. 2010).
    """

    source: str
    sd: float | None
    how: str
    evidence: str = ""
    share: float | None = None

    def of(self, total: float) -> float:
        """The share of a total variance, as a fraction; 0 where nothing is known."""
        return self.share if self.share is not None else (self.sd or 0.0) ** 2 / total


def budget_table(
    quantity: str, unit: str, lines: Sequence[BudgetLine], total_sd: float | None = None
) -> dict[str, Any]:
    """An uncertainty budget as the columns and rows of a report's table.

    Independent lines add in variance. Where the standard deviation of the forecast as a whole is known,
    what the lines leave unexplained (or count twice, then negative) is a line of its own, so that the
    variances always add up to the total.

    Parameters
    ----------
    quantity, unit : str
        What is budgeted.
    lines : sequence of BudgetLine
    total_sd : float, optional
        Standard deviation of the forecast as a whole.

    Returns
    -------
    dict
        ``columns`` (pairs of name and unit) and ``rows``, as ``RunFolder.table`` takes them.

    Raises
    ------
    BadInput
        If a standard deviation is negative or not finite, or there is nothing quantified.
    """
    known = [line.sd for line in lines if line.sd is not None] + ([] if total_sd is None else [total_sd])
    if any(not math.isfinite(s) or s < 0 for s in known):
        raise BadInput("a standard deviation is negative or not finite", f"uncertainty budget of {quantity}")
    summed = sum(line.sd**2 for line in lines if line.sd is not None)
    total = summed if total_sd is None else total_sd**2
    if total <= 0:
        raise BadInput("no line of the budget is quantified", f"uncertainty budget of {quantity}")
    rows: list[list[Any]] = []
    for line in lines:
        if line.sd is None:
            rows.append([line.source, "not quantified", "not quantified", line.how, line.evidence])
        else:
            rows.append([line.source, line.sd, 100 * line.of(total), line.how, line.evidence])
    if total_sd is not None:
        rest = total * (1.0 - sum(line.of(total) for line in lines))
        if rest >= 0:
            rows.append(
                ["interactions and others", math.sqrt(rest), 100 * rest / total, "total less the lines", ""]
            )
        else:
            rows.append(["counted in two lines", "none", 100 * rest / total, "total less the lines", ""])
    how = "root of the summed variances" if total_sd is None else "the forecast as a whole"
    rows.append(["total", math.sqrt(total), 100.0, how, ""])
    columns = [
        ("Source", ""), (f"Standard deviation of {quantity}", unit), ("Share of variance", "percent"),
        ("How found", ""), ("Evidence", ""),
    ]  # fmt: skip
    return {"columns": columns, "rows": rows}
