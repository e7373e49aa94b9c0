"""A recipe read back: the family that it describes, exactly, or an error that says what differs.

recipe.json is plain data; the family made from it again must give the same recipe, so what is remade
from a zoo is what the zoo was made from.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lorascope.errors import DataError, LorascopeError
from lorascope.zoo.engine.language.group import PER_LANE
from lorascope.zoo.factory.family import Family
from lorascope.zoo.factory.recipe import recipe_of

__all__ = [
    "Origin",
    "check_recipe",
    "family_of",
    "origin_of",
    "parts_of",
    "report_of",
    "torch_dtype",
]


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a LoRA of a zoo was made: the recipe, and its index there."""

    recipe: Mapping[str, Any]
    index: int


def origin_of(recipe: Mapping[str, Any], row: Mapping[str, Any]) -> Origin:
    """The recipe and the index that made a LoRA; a merged or sampled zoo knows those of its origin.

    Args:
        recipe: of the zoo that holds it.
        row: its row of the index; a mapping with `id` is enough where the zoo is no merged one.
    """
    parts = parts_of(recipe)
    if "origin" in row:
        return Origin(parts[int(row["origin"])], int(row["origin_id"]))
    return Origin(parts[0], int(row["id"]))


def parts_of(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The recipes that made the LoRAs of a zoo: itself, or those of a sampled or merged one."""
    if recipe.get("kind") == "sample":
        return parts_of(recipe["of"])
    if recipe.get("kind") == "merged":
        return [part["recipe"] for part in recipe["of"]]
    return [recipe]


def report_of(recipe: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """The report of a sampled or merged zoo: of its one family, where that is a bundled one."""
    parts = parts_of(recipe)
    try:
        family = family_of(parts[0])
    except LorascopeError:
        return {}
    if any(part.get("family") != family.name for part in parts):
        return {}
    return dict(family.report(index))


def family_of(
    recipe: Mapping[str, Any],
    base: str | Path | None = None,
    *,
    data: str | Path | None = None,
    clip: str | Path | None = None,
) -> Family:
    """The family that a recipe describes.

    Args:
        recipe: of a built zoo.
        base: the folder of its base, where that is no bundled one.
        data: the folder of its data, of a zoo of published data (`families/published.py`).
        clip: the folder of the CLIP that scored it, likewise.

    Raises:
        DataError: the recipe names no bundled family, needs a folder that is not given, or the family
            made from it has another recipe (another base, other data, another version of the family).
    """
    from lorascope.zoo.families import FAMILIES
    from lorascope.zoo.families.published import PUBLISHED

    name = str(recipe.get("family"))
    if name in PUBLISHED and "engine" in recipe:
        family = _published(recipe, base=base, data=data, clip=clip)
        check_recipe(family, recipe)
        return family
    if name not in FAMILIES or "engine" not in recipe:
        raise DataError(
            f"Reading a recipe: found the family {name!r}, expected one of "
            f"{', '.join((*FAMILIES, *PUBLISHED))}. An imported zoo has none; for a family of your "
            "own, give it to the Python function"
        )
    kind = type(FAMILIES[name](int(recipe["seed"])))
    given = recipe["base"]["folder"] if base is None else Path(base)
    family = _made(kind, recipe, given)
    check_recipe(family, recipe)
    return family


def check_recipe(family: Family, recipe: Mapping[str, Any]) -> None:
    """Raise DataError unless a family's own recipe is the one given, naming what differs."""
    engine = recipe["engine"]
    made = recipe_of(
        family,
        dtype=torch_dtype(recipe),
        slots=int(engine["slots"]),
        exact_steps=int(engine.get("exact_steps", 0)),
        per_lane=int(engine.get("per_lane", PER_LANE)),
    )
    stored = json.loads(json.dumps(dict(recipe)))
    differing = sorted(k for k in {*made, *stored} if made.get(k) != stored.get(k))
    if differing:
        first = differing[0]
        raise DataError(
            f"Reading the recipe of a {recipe['family']} zoo: the family made from it differs in "
            f"{differing}; {first}: found {str(made.get(first))[:120]}, expected "
            f"{str(stored.get(first))[:120]}. Try: the base it was made on, or the version of "
            "lorascope that made it"
        )


def torch_dtype(recipe: Mapping[str, Any]) -> torch.dtype:
    """The type in which a recipe's base is computed. Raises DataError for what is none."""
    name = str(recipe["engine"]["dtype"])
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise DataError(f"Reading a recipe: found the type {name!r}, expected such as 'bfloat16'")
    return dtype


def _published(recipe: Mapping[str, Any], **folders: str | Path | None) -> Family:
    """A family of published data; nothing is fetched: its folders are given."""
    from lorascope.zoo.families.arc import ArcFamily
    from lorascope.zoo.families.published import PUBLISHED, published_family

    name, options = recipe["family"], recipe["options"]
    needed = ["base", "data"]
    given: dict[str, Any] = {"ranges": options["ranges"]}
    if PUBLISHED[name].kind is ArcFamily:
        given["longest"] = options["longest"]
    else:
        needed.append("clip")
        given["sampled"] = "clip_sha256" in options
        own = ("steps", "own_samples", "photographs")
        given |= {key: options[key] for key in own if key in options}
    missing = [f"--{key}" for key in needed if folders[key] is None]
    if missing:
        raise DataError(
            f"Reading the recipe of a {name} zoo: its base and data are not part of it, and "
            f"{', '.join(missing)} is not given. Try the folders that it was built from"
        )
    return published_family(
        name, **{key: Path(str(folders[key])) for key in needed}, seed=int(recipe["seed"]), **given
    )


def _made(kind: Any, recipe: Mapping[str, Any], base: str | Path) -> Family:
    """A family of a class: a dataclass takes its fields, the others one mapping."""
    given = {
        "seed": recipe["seed"],
        "base": base,
        "adapters": recipe["adapters"],
        **recipe["options"],
    }
    if not dataclasses.is_dataclass(kind):
        family: Family = kind(given)
        return family
    names = {field.name for field in dataclasses.fields(kind) if field.init}
    make: Any = kind
    made: Family = make(**{name: value for name, value in given.items() if name in names})
    return made
