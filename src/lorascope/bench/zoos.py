"""Which zoos a suite runs on: folders are told apart by their recipes, and small ones are built.

A zoo is one of the collection when family, seed, base and adapters are; how many LoRAs it has does not matter.
Any other zoo is named after its folder and has a table of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorascope.bench.methods import USUAL_NUMBERS
from lorascope.bench.record import Asked
from lorascope.bench.suites import Suite
from lorascope.bench.tasks import NOT_BUILT, ZooFacts, facts_of
from lorascope.errors import DataError, FileError
from lorascope.io.shards import Zoo, open_zoo

if TYPE_CHECKING:
    from lorascope.zoo.families.collection import NamedZoo

__all__ = [
    "ask",
    "build_zoos",
    "built_zoos",
    "collection_name",
    "find_zoos",
    "planned",
    "usual_place",
]


def usual_place() -> Path:
    """Where the zoos of the collection are built."""
    from lorascope.home import home

    return home() / "zoos"


def find_zoos(folders: Sequence[Path | str]) -> dict[str, Path]:
    """The zoos in some folders, by name; a folder of zoos stands for all that are in it and finished.

    Of two zoos of one name the larger counts. Raises FileError for a folder that holds none.
    """
    found: dict[str, Zoo] = {}
    for folder in map(Path, folders):
        zoos = _zoos_in(folder)
        if not zoos:
            raise FileError(
                f"Looking for zoos in {folder}: there is none. Try: lorascope zoo collection, which builds "
                "them, or lorascope bench run --suite small, which builds its own."
            )
        for zoo in zoos:
            name = collection_name(zoo.recipe) or zoo.path.name
            if name not in found or len(zoo) > len(found[name]):
                found[name] = zoo
    return {name: zoo.path for name, zoo in found.items()}


def _zoos_in(folder: Path) -> list[Zoo]:
    if (folder / "recipe.json").is_file():
        return [open_zoo(folder)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [open_zoo(path) for path in inside if (path / "index.parquet").is_file()]


def collection_name(recipe: Mapping[str, Any]) -> str | None:
    """The name that the collection has for a recipe, None for a zoo that is not part of it."""
    from lorascope.zoo.families.collection import COLLECTION

    return next((name for name, zoo in COLLECTION.items() if _is(zoo, recipe)), None)


def _is(zoo: "NamedZoo", recipe: Mapping[str, Any]) -> bool:
    if (recipe.get("family"), recipe.get("seed")) != (zoo.kind, zoo.options.get("seed")):
        return False
    family = zoo.family()
    base = recipe.get("base")
    named = base.get("folder") if isinstance(base, Mapping) else None
    adapters = dict(recipe.get("adapters", {}))
    plain = family.spec.plain()
    same = {key: _listed(value) for key, value in plain.items()} == adapters
    return named == family.base_folder.name and same


def _listed(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def build_zoos(suite: Suite, *, note: Callable[[str], None] | None = None) -> dict[str, Path]:
    """Build the small zoos of a suite, or what is missing of them.

    Raises:
        DataError: the suite is run on zoos that somebody else builds.
    """
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.families.collection import named_zoo

    if not suite.shares:
        raise DataError(
            f"Building the zoos of the suite {suite.name!r}: it runs on the collection. Try: lorascope zoo "
            "collection, then the same command again."
        )
    folders = {}
    for name, count in suite.shares.items():
        if note is not None:
            note(f"{name}: {count} LoRAs")
        folders[name] = build_zoo(named_zoo(name).family(), count, _own(suite, name)).path
    return folders


def built_zoos(suite: Suite) -> dict[str, Path]:
    """The small zoos of a suite as far as they are built."""
    places = {name: _own(suite, name) for name in suite.shares}
    return {name: path for name, path in places.items() if (path / "index.parquet").is_file()}


def planned(suite: Suite) -> Asked:
    """A suite with zoos of its own, to plan it: those that are not built yet are as large as they will be.

    Of these it knows no labels: it stands for one value and one kind of classes, and for LoRAs of the size that
    costs are told for. Such a plan is never run or saved.
    """
    built = built_zoos(suite)
    zoos = {
        name: facts_of(name, built[name])
        if name in built
        else ZooFacts(name, "", NOT_BUILT, suite.shares[name], USUAL_NUMBERS, "", "", TO_COME, {})
        for name in suite.needed()
    }
    return Asked.now(suite, zoos)


TO_COME: Mapping[str, Mapping[str, str]] = {
    "value": {"kind": "regression", "metric": "r2"},
    "classes": {"kind": "multilabel", "metric": "accuracy"},
}


def _own(suite: Suite, name: str) -> Path:
    """Beside the collection, not in it: a zoo only grows, and these must stay small."""
    return usual_place().parent / "suites" / suite.name / f"{name}-{suite.shares[name]}"


def ask(suite: Suite, folders: Mapping[str, Path]) -> Asked:
    """The suite on the zoos that are there; those of no collection get a table of their own.

    Raises DataError when none of its zoos is there.
    """
    own = tuple(name for name in folders if name not in _known_names())
    there = set(folders)
    zoos = tuple(name for name in suite.zoos if name in there) + own
    if not zoos:
        raise DataError(
            f"Asking the suite {suite.name!r}: found the zoos {', '.join(folders) or 'none'}, expected at "
            f"least one of {', '.join(suite.zoos)}."
        )
    cut = replace(
        suite,
        zoos=zoos,
        shifts={
            zoo: tuple(name for name in names if name in there)
            for zoo, names in suite.shifts.items()
            if zoo in there
        },
        kinds={
            zoo: parent for zoo, parent in suite.kinds.items() if zoo in there and parent in there
        },
    )
    facts = {name: facts_of(name, folders[name]) for name in cut.needed()}
    missing = tuple(name for name in suite.needed() if name not in there)
    return Asked.now(cut, facts, missing)


def _known_names() -> set[str]:
    from lorascope.zoo.families.collection import COLLECTION

    return set(COLLECTION)
