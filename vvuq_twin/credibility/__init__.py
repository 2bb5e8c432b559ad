"""Evidence to credibility factors, and the report a reviewer reads."""

from .assess import assess, model_risk
from .budget import BudgetLine, budget_table
from .factors import FACTORS, Factor
from .page import report

__all__ = ["FACTORS", "BudgetLine", "Factor", "assess", "budget_table", "model_risk", "report"]
