"""A recipe read back: the family that it describes, exactly, or an error that says what differs.

recipe.json is plain data; the family made from it again must give the same recipe, so what is remade
from a zoo is what the zoo was made from.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lorascope.core.lora import LoRA
from lorascope.errors import DataError
from lorascope.io.shards import Zoo, recipe_sha256
from lorascope.zoo.bases.names import BASE_DIGESTS, base_folder, bundled_name
from lorascope.zoo.engine.grouping import PER_LANE
from lorascope.zoo.factory.family import Family
from lorascope.zoo.factory.recipe import recipe_of

log = logging.getLogger(__name__)

__all__ = [
    "Origin",
    "check_recipe",
    "family_of",
    "given_base",
    "kind_of",
    "loras_with_families",
    "origin_of",
    "parts_of",
    "published_options",
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


def kind_of(part: Mapping[str, Any]) -> Any:
    """The class of the family that a recipe names; None where that is none of the package's.

    Nothing is loaded for it: what a class knows of its LoRAs is known wherever the zoo is.
    """
    from lorascope.zoo.families.collection import KINDS
    from lorascope.zoo.families.published import PUBLISHED

    name = str(part.get("family"))
    return PUBLISHED[name].kind if name in PUBLISHED else KINDS.get(name)


def report_of(recipe: Mapping[str, Any], index: Any) -> dict[str, Any]:
    """The report of a sampled or merged zoo, from its index and its targets: no base is needed for it.

    Empty where its parts are imports, which have none. Empty with a warning where the family's own code made
    it, where there are several families, or where the index lacks a column that the report reads.
    """
    names = sorted({repr(part["family"]) for part in parts_of(recipe) if "family" in part})
    kinds = {kind_of(part) for part in parts_of(recipe)}
    try:
        if len(kinds) == 1 and None not in kinds:
            return dict(kinds.pop().report_on(index, recipe["targets"]))
        problem = f"found LoRAs of {', '.join(names)}, expected one family of the package's"
    except LookupError as missing:
        problem = f"found no {missing} among its columns or targets, expected those of {names[0]}"
    if names:
        log.warning(
            "making the report of a %s zoo: %s. report.json is left empty, so no ceiling is known. Try "
            "the report.json of the zoos that it was made of",
            recipe.get("kind", "built"),
            problem,
        )
    return {}


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
        base: its base, a folder or the name of a bundled one; by default the bundled one that it names.
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
        given = None if base is None else given_base(base)
        place = base_folder(given) if isinstance(given, str) else given
        family = _published(recipe, base=place, data=data, clip=clip)
        check_recipe(family, recipe)
        return family
    if name not in FAMILIES or "engine" not in recipe:
        raise DataError(
            f"Reading a recipe: found the family {name!r}, expected one of "
            f"{', '.join((*FAMILIES, *PUBLISHED))}. An imported zoo has none; for a family of your "
            "own, give it to the Python function"
        )
    found = recorded_base(recipe) if base is None else given_base(base)
    family = _made(kind_of(recipe), recipe, found)
    check_recipe(family, recipe)
    return family


def loras_with_families(
    zoo: Zoo, rows: Sequence[int], base: str | Path | None = None
) -> Iterator[tuple[LoRA, Family, int, int]]:
    """LoRAs of a zoo in the order asked for, each with its family, its index there and its id in the zoo.

    A family is made once for each recipe, so that what it loads is loaded once.

    Args:
        rows: places in the index.
        base: of all of them, as `family_of` takes it.

    Raises:
        DataError: as `family_of`.
    """
    table, loras = zoo.index.to_pylist(), dict(zoo.loras(rows))
    families: dict[str, Family] = {}
    for row in rows:
        origin = origin_of(zoo.recipe, table[row])
        key = recipe_sha256(origin.recipe)
        if key not in families:
            families[key] = family_of(origin.recipe, base)
        yield loras[row], families[key], origin.index, table[row]["id"]


def recorded_base(recipe: Mapping[str, Any]) -> str:
    """The bundled base that a recipe names. Raises DataError for another, which may lie anywhere."""
    recorded = recipe["base"]["folder"]
    name = bundled_name(recorded)
    if name is None:
        raise DataError(
            f"Reading the recipe of a {recipe['family']} zoo: found the base {recorded!r}, expected one of the "
            f"package's ({', '.join(BASE_DIGESTS)}). Try: the folder of the base that the zoo was made on"
        )
    return name


def given_base(base: str | Path) -> str | Path:
    """A base that somebody named: a folder that is there, or the name of a bundled one."""
    folder = Path(base)
    return folder if folder.is_dir() else bundled_name(base) or folder


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
    if _same_base(made["base"], stored.get("base")):
        made["base"] = stored["base"]
    differing = sorted(k for k in {*made, *stored} if made.get(k) != stored.get(k))
    if differing:
        first = differing[0]
        raise DataError(
            f"Reading the recipe of a {recipe['family']} zoo: the family made from it differs in "
            f"{differing}; {first}: found {str(made.get(first))[:120]}, expected "
            f"{str(stored.get(first))[:120]}. Try: the base it was made on, or the version of "
            "lorascope that made it"
        )


def _same_base(one: Any, other: Any) -> bool:
    """Whether two recipes name the same files, whatever the folders are called that they lie in."""
    return (
        isinstance(one, Mapping)
        and isinstance(other, Mapping)
        and one.get("sha256") == other.get("sha256")
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
    from lorascope.zoo.families.published import published_family

    name = recipe["family"]
    needed = ["base", "data"] + ([] if kind_of(recipe) is ArcFamily else ["clip"])
    missing = [f"--{key}" for key in needed if folders[key] is None]
    if missing:
        raise DataError(
            f"Reading the recipe of a {name} zoo: its base and data are not part of it, and "
            f"{', '.join(missing)} is not given. Try the folders that it was built from"
        )
    places = {key: Path(str(folders[key])) for key in needed}
    return published_family(name, **places, seed=int(recipe["seed"]), **published_options(recipe))


def published_options(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What `published_family` takes besides folders and seed to give the zoo of a recipe."""
    from lorascope.zoo.families.arc import ArcFamily

    options = recipe["options"]
    if kind_of(recipe) is ArcFamily:
        return {key: options[key] for key in ("ranges", "longest")}
    own = ("ranges", "steps", "own_samples", "photographs")
    given = {key: options[key] for key in own if key in options}
    return given | {"sampled": "clip_sha256" in options}


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
