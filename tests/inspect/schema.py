"""The part of JSON Schema that docs/inspect-schema.json uses, checked by the plain rules."""

import json
from pathlib import Path

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/inspect-schema.json").read_text())
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "type", "properties", "required",
    "additionalProperties", "items", "anyOf", "enum", "const", "minimum",
}  # fmt: skip


def violations(value, rule=SCHEMA, where="document"):
    """Every way in which a value breaks a rule of the schema, as sentences."""
    assert rule.keys() <= KNOWN, f"the schema uses {sorted(rule.keys() - KNOWN)}"
    if "$ref" in rule:
        return violations(value, SCHEMA["$defs"][rule["$ref"].rpartition("/")[2]], where)
    if "anyOf" in rule:
        tried = [violations(value, option, where) for option in rule["anyOf"]]
        return [] if any(not found for found in tried) else min(tried, key=len)
    if "const" in rule and value != rule["const"]:
        return [f"{where} is {value!r}, not {rule['const']!r}"]
    if "enum" in rule and value not in rule["enum"]:
        return [f"{where} is {value!r}, not one of {rule['enum']}"]
    kinds = rule.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_a(value, kind) for kind in kinds):
        return [f"{where} is {value!r:.40}, not {' or '.join(kinds)}"]
    if "minimum" in rule and value < rule["minimum"]:
        return [f"{where} is {value}, below {rule['minimum']}"]
    return [*inside(value, rule, where)]


def is_a(value, kind):
    """Whether a value is of a kind of JSON; a truth value is no number."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def inside(value, rule, where):
    """Violations of the parts of an object or a list."""
    if isinstance(value, list) and "items" in rule:
        for place, item in enumerate(value):
            yield from violations(item, rule["items"], f"{where}[{place}]")
    if not isinstance(value, dict):
        return
    for name in rule.get("required", []):
        if name not in value:
            yield f"{where} lacks {name}"
    named, extra = rule.get("properties", {}), rule.get("additionalProperties", True)
    for name, item in value.items():
        if name in named:
            yield from violations(item, named[name], f"{where}.{name}")
        elif extra is False:
            yield f"{where} has {name}, which the schema does not name"
        elif isinstance(extra, dict):
            yield from violations(item, extra, f"{where}.{name}")
