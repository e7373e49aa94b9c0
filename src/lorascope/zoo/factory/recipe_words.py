"""A recipe in words: the command that builds its zoo, or the lines of Python where a command cannot say it.

They follow from the recipe and the counts alone, so they are the same wherever the zoo lies. What they say is
compared with the recipe: where no family of this version has that recipe, they say so instead.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lorascope.errors import LorascopeError
from lorascope.zoo.bases.names import bundled_base
from lorascope.zoo.engine.grouping import PER_LANE
from lorascope.zoo.engine.opening import opens
from lorascope.zoo.factory.family import engine_of
from lorascope.zoo.factory.restore import kind_of, published_options, torch_dtype

__all__ = ["build_words", "collection_name", "command", "indented", "one_line"]

FOLDER = "FOLDER"  # of a base or of data that nobody but its owner has
HEAD = "from lorascope.zoo.factory.build import build_zoo"


def build_words(part: Mapping[str, Any], counts: Sequence[int], out: str = "") -> list[str]:
    """What builds a zoo, as paragraphs of Markdown.

    Args:
        part: its recipe.
        counts: how many LoRAs each call asked for, rising.
        out: the folder, where it is to be named.
    """
    from lorascope.zoo.families.collection import KINDS
    from lorascope.zoo.families.published import PUBLISHED

    family = part.get("family")
    if family not in (*KINDS, *PUBLISHED):
        return [
            f"By a family of somebody's own, `{one_line(family).replace('`', '?')}`: its code and "
            f"`build_zoo(family, {counts[-1]})` make it again."
        ]
    if commands := _commands(part, counts, out):
        words = [indented(commands)]
    elif lines := _python(part, counts, out):
        words = ["\n".join(["```python", *lines, "```"])]
    else:
        return ["No family of this version of lorascope has its recipe; the one that built it has."]
    if strange := _strange(part):
        words.append(
            f"Its engine has other {strange} than this version's: the same up to rounding. "
            "`lorascope zoo rebuild` heeds them."
        )
    return words


def collection_name(part: Mapping[str, Any], seed: int | None = None) -> str | None:
    """The zoo of the collection that has this recipe in all but the engine; None for any other.

    Args:
        seed: what the zoo would be built with; its own by default.
    """
    from lorascope.zoo.families.collection import COLLECTION

    alike = (zoo for zoo in COLLECTION.values() if zoo.kind == part.get("family"))
    return next((zoo.name for zoo in alike if _same(zoo.family(seed), part)), None)


def command(words: Sequence[str]) -> str:
    """A command of lorascope as a shell takes it."""
    return shlex.join(["lorascope", *map(one_line, words)])


def indented(lines: Sequence[str]) -> str:
    """A block of code that nothing in its lines can end."""
    return "\n".join(f"    {line}" for line in lines)


def one_line(text: Any) -> str:
    """A name that may come from a file, on one line."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def _same(family: Any, part: Mapping[str, Any]) -> bool:
    """Whether a bundled family has a recipe, up to the engine; nothing is loaded."""
    made = {
        "family": family.name,
        "seed": family.seed,
        "base": str(family.base),
        "adapters": family.spec.plain(),
        "options": family.options,
    }
    base = bundled_base(part.get("base")) or FOLDER
    return bool(_plain(made) == _plain({key: part.get(key) for key in made} | {"base": base}))


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def _commands(part: Mapping[str, Any], counts: Sequence[int], out: str) -> list[str]:
    """The commands that build a zoo; none where the command line has no words for it."""
    from lorascope.zoo.families import FAMILIES
    from lorascope.zoo.families.collection import COLLECTION

    family, engine, options = str(part["family"]), part.get("engine", {}), []
    seed = part.get("seed")
    if (name := collection_name(part)) is None and isinstance(seed, int):
        alone = family in FAMILIES and family not in COLLECTION
        if alone and _same(FAMILIES[family](seed), part):
            name, options = family, ["--seed", str(seed)] if seed else []
        elif name := collection_name(part, seed):
            options = ["--seed", str(seed)]
    if name is None or engine.get("dtype") not in ("float32", "bfloat16"):
        return []
    if engine["dtype"] != "float32":
        options += ["--dtype", engine["dtype"]]
    if engine.get("slots") != engine_of(kind_of(part)).slots:
        options += ["--slots", str(engine.get("slots"))]
    if out or len(counts) > 1:
        options += ["--out", out or "DIR"]
    usual = COLLECTION[name].count if name in COLLECTION else None
    sizes = [[] if count == usual else ["--count", str(count)] for count in counts]
    return [command(["zoo", "build", name, *size, *options]) for size in sizes]


def _python(part: Mapping[str, Any], counts: Sequence[int], out: str) -> list[str]:
    """Lines of Python that build a zoo; none where no family of this version has its recipe."""
    from lorascope.zoo.families.collection import KINDS

    try:
        lines = _family(part) if part["family"] in KINDS else _published(part)
        dtype, slots = torch_dtype(part), int(part["engine"]["slots"])
    except (LorascopeError, AttributeError, LookupError, TypeError, ValueError):
        return []  # a recipe that says less than those of this version, or other things
    given = [repr(out or "DIR")] if out or len(counts) > 1 else []
    if str(dtype) != "torch.float32":
        lines = ["import torch", "", *lines] if lines else []
        given.append(f"dtype={dtype}")
    given += [] if slots == engine_of(kind_of(part)).slots else [f"slots={slots}"]
    calls = [", ".join(["family", str(count), *given]) for count in counts]
    return [*lines, *(f"zoo = build_zoo({call})" for call in calls)] if lines else []


def _family(part: Mapping[str, Any]) -> list[str]:
    """The lines that describe a bundled family; none where they would describe another recipe."""
    kind, fields = kind_of(part), {"seed": int(part["seed"])} | _changes(part)
    exam = part["family"] == "exam"
    if not _same(kind(**fields) if exam else kind(fields), part):
        return []
    told = repr(fields)
    if exam:
        told = ", ".join(f"{key}={value!r}" for key, value in fields.items())
    lines = [HEAD, f"from lorascope.zoo.families import {kind.__name__}", ""]
    if "base" in fields and fields["base"] == FOLDER:
        lines = ["from pathlib import Path", "", *lines, _note(part)]
        told = told.replace(repr(FOLDER), f"Path({FOLDER!r})")
    return [*lines, f"family = {kind.__name__}({told})"]


def _changes(part: Mapping[str, Any]) -> dict[str, Any]:
    """What of a bundled family's recipe is not its default."""
    kind = kind_of(part)
    usual = kind(0) if part["family"] == "exam" else kind({"seed": 0})
    changes: dict[str, Any] = {"base": bundled_base(part["base"]) or FOLDER}
    if changes["base"] == usual.base:
        del changes["base"]
    options, before = part["options"], _plain(usual.options)
    rules = options["ranges"].items()
    if ranges := {name: rule for name, rule in rules if rule != before["ranges"].get(name)}:
        changes["ranges"] = ranges
    plain, fields = _plain(usual.spec.plain()), part["adapters"].items()
    if adapters := {name: value for name, value in fields if value != plain.get(name)}:
        # a rank that is given without its alpha would keep the factor
        changes["adapters"] = adapters | {"alpha": part["adapters"]["alpha"]}
    if options.get("shapes"):
        changes["shapes"] = options["shapes"]
    return changes


def _published(part: Mapping[str, Any]) -> list[str]:
    """The lines that describe a zoo of published data."""
    from lorascope.zoo.families.arc import ArcFamily

    folders = ("base", "data") if kind_of(part) is ArcFamily else ("base", "data", "clip")
    given = [repr(part["family"]), *(f"{name}={FOLDER!r}" for name in folders)]
    given.append(f"seed={int(part['seed'])}")
    given += [f"{key}={value!r}" for key, value in published_options(part).items()]
    lines = [HEAD, "from lorascope.zoo.families.published import published_family", ""]
    return [*lines, _note(part), f"family = published_family({', '.join(given)})"]


def _note(part: Mapping[str, Any]) -> str:
    """Which base goes where FOLDER stands."""
    base = part["base"]
    named = f"{one_line(base.get('folder'))}, sha256 {one_line(base.get('sha256'))[:12]}"
    return f"# {FOLDER}: of the base, {named}"


def _strange(part: Mapping[str, Any]) -> str:
    """What of a recipe's engine no call of this version would choose."""
    engine, found = engine_of(kind_of(part)), part["engine"]
    usual = {
        "exact_steps": (engine.exact_steps if opens(torch_dtype(part)) else 0, 0),
        "per_lane": (engine.per_lane, PER_LANE),
    }
    other = (k for k, (own, unnamed) in usual.items() if int(found.get(k, unnamed)) != own)
    return " and ".join(f"`{name}`" for name in other)
