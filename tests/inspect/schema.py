"""The schemas that documents of `lorascope inspect` are held against, by the validator of `jsonschema`.

`violations` takes the documented one (docs/inspect-schema.json), `sarif_violations` the part of SARIF 2.1.0
that lorascope writes, every object closed: a property that the standard does not have is one too many.
"""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/inspect-schema.json").read_text())


def table(required, **properties):
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def listed(item, **limits):
    return {"type": "array", "items": item, **limits}


TEXT = {"type": "string"}
URI = {"type": "string", "format": "uri-reference", "pattern": r"^[^\s\\]+$"}
MESSAGE = table("text", text={"type": "string", "minLength": 1})
# SARIF 2.1.0: sections 3.13 log, 3.14 run, 3.19 tool component, 3.49 rule, 3.27 result, 3.28 location
RULE = table("id", id={"type": "string", "pattern": "^[a-z][a-z0-9_-]*$"}, shortDescription=MESSAGE)
DRIVER = table(
    "name rules",
    name=TEXT,
    version=TEXT,
    informationUri={"type": "string", "format": "uri"},
    rules=listed(RULE, uniqueItems=True),
)
LOCATION = table(
    "physicalLocation",
    physicalLocation=table("artifactLocation", artifactLocation=table("uri", uri=URI)),
    logicalLocations=listed(
        table("fullyQualifiedName", fullyQualifiedName=TEXT, kind={"const": "member"}), minItems=1
    ),
)
RESULT = table(
    "ruleId ruleIndex level message locations",
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations=listed(LOCATION, minItems=1),
)
RUN = table(
    "tool results",
    tool=table("driver", driver=DRIVER),
    results=listed(RESULT),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)
SARIF = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **table(
        "$schema version runs",
        **{"$schema": {"const": "https://json.schemastore.org/sarif-2.1.0.json"}},
        version={"const": "2.1.0"},
        runs=listed(RUN, minItems=1),
    ),
}


def validator(schema):
    """The validator of a schema that is one itself."""
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


INSPECT, LOG = validator(SCHEMA), validator(SARIF)


def violations(document, against=INSPECT):
    """Every way in which a document breaks the schema, as sentences."""
    found = against.iter_errors(json.loads(json.dumps(document, allow_nan=False)))
    return [f"{'/'.join(map(str, error.path))}: {error.message:.300}" for error in found]


def sarif_violations(log):
    """The same for SARIF, and that each result points to its own rule."""
    found = violations(log, LOG)
    if found:
        return found
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        found += [f"rules {rules} repeat"] if len(set(rules)) < len(rules) else []
        for result in run["results"]:
            if rules[result["ruleIndex"] : result["ruleIndex"] + 1] != [result["ruleId"]]:
                found.append(f"{result['ruleId']} is not rule {result['ruleIndex']}")
    return found
