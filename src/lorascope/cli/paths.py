"""From what the user typed to adapters: a file, an adapter's folder, a folder of many, or a pattern.

What a folder holds is told by io/adapters.py. What begins with a dot is looked at where it is named.
"""

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lorascope.cli.output import note
from lorascope.errors import FileError
from lorascope.inspect.names import Place, place_of
from lorascope.io.adapters import adapters_of, is_adapter, is_locked, is_own, is_step, walk
from lorascope.io.file_names import WEIGHT_NAMES
from lorascope.io.locate import CONFIG_NAME

__all__ = ["adapters_in"]

PATTERN_CHARACTERS = frozenset("*?[")


def adapters_in(paths: Sequence[Path]) -> list[Path]:
    """The adapters that the paths name, each once, in the order given and by counting order within a folder.

    Raises:
        FileError: a path does not exist, a pattern or folder holds no adapter, or it is a zoo.
    """
    found: dict[Path, None] = {}
    for path in paths:
        for adapter in expand(path):
            found[adapter] = None
    if list(found) == list(paths) and len(found) == 1:
        tell_of_others(paths[0])
    return list(found)


def expand(path: Path) -> list[Path]:
    """The adapters of one path."""
    if not path.exists() and PATTERN_CHARACTERS & set(str(path)):
        # not Path.glob: the pattern may be absolute
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        if not matches:
            raise FileError(f"Looking for adapters: nothing matches the pattern {str(path)!r}.")
        return [adapter for match in in_order(matches) for adapter in expand(match)]
    if not path.exists():
        raise FileError(
            f"Looking for adapters: {str(path)!r} does not exist. Expected a weight file, the folder of an "
            "adapter, or a folder of adapters."
        )
    if not path.is_dir() or is_locked(path):
        return [path]  # whose reader says what is wrong with it
    if is_adapter(path):
        return [path]
    if (path / "recipe.json").is_file():
        raise FileError(
            f"Looking for adapters: {str(path)!r} is a zoo, whose LoRAs stand in shards. "
            f"Try: lorascope zoo info {path}, or lorascope zoo export {path} ID --peft FOLDER."
        )
    inside = in_order(adapters_of(path))
    if not inside:
        raise FileError(
            f"Looking for adapters: found none below {str(path)!r}. Expected *.safetensors files or folders "
            f"with {WEIGHT_NAMES[0]}, whose names do not begin with a dot. Try: name a hidden one itself."
        )
    return inside


def tell_of_others(path: Path) -> None:
    """Say on stderr that the one path asked for is an adapter that has others below it."""
    if not path.is_dir() or not is_adapter(path):
        return
    other = next((x for x in walk(path) if not is_own(path, x) and not is_step(path, x)), None)
    if other is not None:
        note(
            f"{str(path)!r} is one adapter, of {CONFIG_NAME} and the weights beside it; other weights below "
            f"it, such as {str(other.relative_to(path))!r}, are not looked at. Try: name them too."
        )


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted as people count: adapter-2 before adapter-10."""
    return sorted(paths, key=counting_key)


def counting_key(path: Path) -> tuple[Place, str]:
    """Numbers in the path as numbers; the path itself where that leaves a tie."""
    words = re.sub(r"(\d+)", r".\1.", str(path))
    return place_of(words), str(path)
