"""What is in a LoRA: facts, problems, and how they are shown. It knows no base model and predicts nothing."""

from lorascope.inspect.facts import Facts, LayerFacts, SideFacts, facts_of
from lorascope.inspect.problems import Problem, Severity, problems_of
from lorascope.inspect.report import report_json, report_view

__all__ = [
    "Facts",
    "LayerFacts",
    "Problem",
    "Severity",
    "SideFacts",
    "facts_of",
    "problems_of",
    "report_json",
    "report_view",
]
