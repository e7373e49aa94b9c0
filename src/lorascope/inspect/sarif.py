"""Problems as SARIF 2.1.0, the form in which code hosts and CI services take findings.

One run, one rule a code, one result a problem; a problem's layers become logical locations. Paths become URIs
relative to where the command ran, or file URIs for absolute ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["sarif"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
INFORMATION = "https://arxiv.org/abs/2410.04207"
MAX_LOCATIONS = 100


def sarif(documents: Sequence[Mapping[str, Any]], version: str) -> dict[str, Any]:
    """The SARIF log of examined files.

    Args:
        documents: documents of files (report.py), brief or whole.
        version: of lorascope.

    Example:
        >>> sarif([], "1.0.0")["version"]
        '2.1.0'
    """
    results: list[dict[str, Any]] = []
    rules: dict[str, int] = {}
    for document in documents:
        for problem in document["problems"]:
            place = rules.setdefault(problem["code"], len(rules))
            results.append(finding(document["path"], problem, place))
    driver = {
        "name": "lorascope",
        "version": version,
        "informationUri": INFORMATION,
        "rules": [
            {"id": code, "shortDescription": {"text": code.replace("-", " ")}} for code in rules
        ],
    }
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def finding(path: str, problem: Mapping[str, Any], rule: int) -> dict[str, Any]:
    """One result; its level is the severity, which has the names that SARIF gives them."""
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri_of(path)}}}
    layers = problem["layers"]
    if isinstance(layers, Sequence) and layers:
        location["logicalLocations"] = [
            {"fullyQualifiedName": name, "kind": "member"} for name in layers[:MAX_LOCATIONS]
        ]
    return {
        "ruleId": problem["code"],
        "ruleIndex": rule,
        "level": problem["severity"],
        "message": {"text": problem["sentence"]},
        "locations": [location],
    }


def uri_of(path: str) -> str:
    """The path as a URI reference.

    Example:
        >>> uri_of("a b/c.safetensors")
        'a%20b/c.safetensors'
    """
    place = Path(path)
    if place.is_absolute():
        return "file://" + quote(place.as_posix(), errors="surrogateescape")
    return quote(place.as_posix(), errors="surrogateescape")
