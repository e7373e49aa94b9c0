"""Instructions: what makes a zoo again, whether it was built, sampled, merged or imported.

They follow from the recipe, the counts, the index and the log of a zoo alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lorascope.io.shards import Zoo, read_json
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.recipe_words import build_words, collection_name, command, indented
from lorascope.zoo.factory.restore import parts_of

__all__ = ["instructions"]

IMPORTED = "imported with `lorascope zoo import` from a folder of LoRA files and a table of labels."


def instructions(zoo: Zoo, name: str) -> list[str]:
    """What makes a zoo again, as paragraphs of Markdown.

    Args:
        name: what the zoo is called.
    """
    kind = zoo.recipe.get("kind")
    if kind in ("merged", "sample"):
        return list(_combined(zoo, name))
    if "family" in zoo.recipe:
        return build_words(zoo.recipe, _counts(zoo))
    return [IMPORTED[0].upper() + IMPORTED[1:]]


def _counts(zoo: Zoo) -> list[int]:
    """How many LoRAs each call asked for, as far as that is known."""
    path = zoo.path / "counts.json"
    return [int(count) for count in read_json(path)] if path.is_file() else [len(zoo)]


def _combined(zoo: Zoo, name: str) -> Iterator[str]:
    """What builds the parts of a merged or sampled zoo, then what puts them together."""
    parts = parts_of(zoo.recipe)
    draws: list[Mapping[str, Any]] = []
    source: Mapping[str, Any] = zoo.recipe
    while source.get("kind") == "sample":
        draws.insert(0, source.get("drawn", {}))
        source = source["of"]
    word = "sample" if draws else "merge"
    yield f"A {word} of {len(parts)} zoo(s), made by:"
    names = _names(source, name, len(parts))
    for part, place, count in zip(parts, names, _sizes(zoo, parts, len(draws)), strict=True):
        if "family" in part:
            yield from build_words(part, [count], place)
        else:
            yield f"`{place}`: {IMPORTED}"
    steps, last = [], names[0]
    if source.get("kind") == "merged":
        last = f"{name}-merged" if draws else name
        steps.append(command(["zoo", "merge", *names, "--out", last]))
    for number, drawn in enumerate(draws, 1):
        place = name if number == len(draws) else f"{name}-{number}"
        steps.append(_drawing(drawn, last, place))
        last = place
    yield indented(steps)
    yield "Which LoRAs of each part were taken is in the index: `origin` and `origin_id`, else `id`."


def _names(source: Mapping[str, Any], name: str, parts: int) -> list[str]:
    """A folder for each part, by the names that a merge recorded."""
    if source.get("kind") != "merged":
        return [f"{name}-whole"] * parts
    given = [str(part["name"]) for part in source["of"]]
    # the parts of a zoo that was merged before have one name
    return [f"{n}-{given[:i].count(n) + 1}" if n in given[:i] else n for i, n in enumerate(given)]


def _sizes(zoo: Zoo, parts: list[Mapping[str, Any]], draws: int) -> list[int]:
    """How many LoRAs of each part: as the log knows, else enough that those which were taken are there."""
    from lorascope.zoo.families.collection import COLLECTION

    told = [e.get("out_of") for e in build_events(zoo.path) if e.get("event") == "sample"]
    if draws == len(parts) == 1 and told and isinstance(told[-1], int):
        return [told[-1]]
    sizes = [1] * len(parts)
    names = [n for n in ("id", "origin", "origin_id") if n in zoo.index.column_names]
    for row in zoo.index.select(names).to_pylist():
        part, index = int(row.get("origin", 0)), int(row.get("origin_id", row["id"]))
        sizes[part] = max(sizes[part], index + 1)
    usual = [COLLECTION[n].count if (n := collection_name(part)) else 0 for part in parts]
    return [max(pair) for pair in zip(sizes, usual, strict=True)]


def _drawing(drawn: Mapping[str, Any], source: str, out: str) -> str:
    """The command that draws a sample, or that it was drawn in Python."""
    if drawn.get("count") is None:
        return f"# then {drawn.get('loras')} rows that were chosen in Python (sample_zoo)"
    options = [(f"--{key}", str(drawn[key])) for key in ("count", "seed", "by") if drawn.get(key)]
    return command(["zoo", "sample", source, *sum(options, ()), "--out", out])
