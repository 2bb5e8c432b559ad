"""Forecasts judged on what was held out: coverage over patients, scores beside baselines."""

from .bootstrap import Difference, compare
from .coverage import Coverage, binomial_interval, coverage_evidence, judge_coverage
from .table import (
    Scored,
    compare_scores,
    score_evidence,
    score_gaussian,
    score_point,
    score_sample,
    score_table,
)

__all__ = [
    "Coverage", "Difference", "Scored", "binomial_interval", "compare", "compare_scores", "coverage_evidence",
    "judge_coverage", "score_evidence", "score_gaussian", "score_point", "score_sample", "score_table",
]  # fmt: skip
