"""What is in a LoRA: facts, base family, problems, and how they are shown. It predicts nothing.

Its names load on first use, so that facts from headers reach no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorascope.inspect.examine import Examined, examine
    from lorascope.inspect.facts import Facts, LayerFacts, SideFacts
    from lorascope.inspect.families import Family, family_of
    from lorascope.inspect.headers import header_facts
    from lorascope.inspect.measure import facts_of
    from lorascope.inspect.plot import plot_strength
    from lorascope.inspect.problem import Problem, Severity
    from lorascope.inspect.problems import problems_of
    from lorascope.inspect.report import report_json, report_view
    from lorascope.inspect.sarif import sarif
    from lorascope.inspect.scan import scan

__all__ = [
    "Examined",
    "Facts",
    "Family",
    "LayerFacts",
    "Problem",
    "Severity",
    "SideFacts",
    "examine",
    "facts_of",
    "family_of",
    "header_facts",
    "plot_strength",
    "problems_of",
    "report_json",
    "report_view",
    "sarif",
    "scan",
]

PLACES = {
    "Examined": "examine",
    "Facts": "facts",
    "Family": "families",
    "LayerFacts": "facts",
    "Problem": "problem",
    "Severity": "problem",
    "SideFacts": "facts",
    "examine": "examine",
    "facts_of": "measure",
    "family_of": "families",
    "header_facts": "headers",
    "plot_strength": "plot",
    "problems_of": "problems",
    "report_json": "report",
    "report_view": "report",
    "sarif": "sarif",
    "scan": "scan",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
