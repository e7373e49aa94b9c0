"""From what the user typed to adapters: a file, an adapter's folder, a folder of many, or a pattern."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lorascope.errors import FileError
from lorascope.inspect.names import Place, place_of
from lorascope.io.file_names import WEIGHT_NAMES, WEIGHT_SUFFIXES
from lorascope.io.locate import CONFIG_NAME

__all__ = ["adapters_in"]

# what training leaves beside an adapter under the same suffixes
STATES = ("optimizer", "scheduler", "rng_state", "random_states", "training_args", "scaler")
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
    if not path.is_dir() or is_adapter(path) or is_hidden(path):
        return [path]  # whose reader says what is wrong with it
    if (path / "recipe.json").is_file():
        raise FileError(
            f"Looking for adapters: {str(path)!r} is a zoo, whose LoRAs stand in shards. "
            f"Try: lorascope zoo info {path}, or lorascope zoo export {path} ID --peft FOLDER."
        )
    inside = in_order(walk(path))
    if not inside and (path / CONFIG_NAME).is_file():
        return [path]
    if not inside:
        raise FileError(
            f"Looking for adapters: found none below {str(path)!r}. Expected *.safetensors files or folders "
            f"with {WEIGHT_NAMES[0]}."
        )
    return inside


def is_adapter(folder: Path) -> bool:
    """Whether the folder itself is one adapter."""
    return folder.is_dir() and any((folder / name).is_file() for name in WEIGHT_NAMES)


def is_hidden(folder: Path) -> bool:
    """Whether it is a folder that this user may not look into."""
    return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def walk(folder: Path, roots: list[Path] | None = None) -> Iterator[Path]:
    """Adapters below a folder: adapter folders as a whole, single weight files, and what cannot be looked into.

    A folder of a configuration whose weights are not there, and one that the user may not read, stand for
    themselves: they are refused with the reason instead of being passed over. A link to a folder elsewhere is
    followed once; one to what is looked through anyway, or to a parent of it, is not.
    """
    roots = [folder.resolve()] if roots is None else roots
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and entry.is_dir():
            target = entry.resolve()
            if any(target.is_relative_to(r) for r in roots) or roots[0].is_relative_to(target):
                continue
            roots.append(target)
        elif len(roots) > 1 and entry.is_dir() and entry.resolve() in roots:
            continue  # a link led here before
        if is_hidden(entry) or is_adapter(entry):
            yield entry
        elif entry.is_dir():
            inside = list(walk(entry, roots))
            yield from inside or ([entry] if (entry / CONFIG_NAME).is_file() else [])
        elif entry.suffix.lower() in WEIGHT_SUFFIXES and not entry.name.startswith(STATES):
            yield entry


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted as people count: adapter-2 before adapter-10."""
    return sorted(paths, key=counting_key)


def counting_key(path: Path) -> tuple[Place, str]:
    """Numbers in the path as numbers; the path itself where that leaves a tie."""
    words = re.sub(r"(\d+)", r".\1.", str(path))
    return place_of(words), str(path)
