"""From what the user typed to adapters: a file, an adapter's folder, a folder of many, or a pattern.

    adapter_config.json and weights          one adapter, with all that is in the folder (PEFT, MLX)
    weights of a known name and no others    one adapter (diffusers, MLX without configuration)
    anything else                            a folder of many: every weight file and adapter below it

What begins with a dot is looked at where it is named, and passed over where a folder is looked through: it is
the system's or an editor's (`._a.safetensors` of a Mac is a resource fork), or a download in the making.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lorascope.cli.output import note
from lorascope.errors import FileError
from lorascope.inspect.names import Place, place_of
from lorascope.io.file_names import WEIGHT_NAMES, WEIGHT_SUFFIXES
from lorascope.io.locate import CONFIG_NAME

__all__ = ["adapters_in"]

# what training leaves beside an adapter under the same suffixes
STATES = ("optimizer", "scheduler", "rng_state", "random_states", "training_args", "scaler")
# what holds an adapter's earlier steps, beside its last one
STEP = re.compile(r"checkpoint-\d+|\d+_adapters\.(?:safetensors|npz)")
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


def is_adapter(folder: Path) -> bool:
    """Whether the folder says that it is one adapter: a configuration, and weights of a known name."""
    return (folder / CONFIG_NAME).is_file() and any((folder / x).is_file() for x in WEIGHT_NAMES)


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


def is_own(folder: Path, path: Path) -> bool:
    """Whether a path is the folder's own weights, under a name that makes it an adapter."""
    return path.parent == folder and path.name in WEIGHT_NAMES


def is_step(folder: Path, path: Path) -> bool:
    """Whether a path below an adapter's folder is an earlier step of the same training."""
    return STEP.fullmatch(path.relative_to(folder).parts[0]) is not None


def is_locked(folder: Path) -> bool:
    """Whether it is a folder that this user may not look into."""
    return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK)


def adapters_of(folder: Path, roots: list[Path] | None = None) -> list[Path]:
    """The folder itself where it is one adapter, else what is below it.

    A folder of a configuration whose weights are not there stands for itself: it is refused with the reason
    instead of being passed over. So does one whose only weights have a name that is a folder's own.
    """
    if is_adapter(folder):
        return [folder]
    found = list(walk(folder, roots))
    names = {
        x.stem for x in found if is_own(folder, x)
    }  # one name in two containers is one adapter
    if len(names) == 1 and all(is_own(folder, x) or is_step(folder, x) for x in found):
        return [folder]
    return found or ([folder] if (folder / CONFIG_NAME).is_file() else [])


def walk(folder: Path, roots: list[Path] | None = None) -> Iterator[Path]:
    """Adapters below a folder: adapter folders as a whole, single weight files, and what cannot be looked into.

    A folder that the user may not read stands for itself: it is refused, not passed over. A link to a folder
    elsewhere is followed once; one to what is looked through anyway, or to a parent of it, is not.
    """
    roots = [folder.resolve()] if roots is None else roots
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and entry.is_dir():
            target = entry.resolve()
            if any(target.is_relative_to(r) for r in roots) or roots[0].is_relative_to(target):
                continue
            roots.append(target)
        elif len(roots) > 1 and entry.is_dir() and entry.resolve() in roots:
            continue  # a link led here before
        if is_locked(entry):
            yield entry
        elif entry.is_dir():
            yield from adapters_of(entry, roots)
        elif entry.suffix.lower() in WEIGHT_SUFFIXES and not entry.name.startswith(STATES):
            yield entry


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sorted as people count: adapter-2 before adapter-10."""
    return sorted(paths, key=counting_key)


def counting_key(path: Path) -> tuple[Place, str]:
    """Numbers in the path as numbers; the path itself where that leaves a tie."""
    words = re.sub(r"(\d+)", r".\1.", str(path))
    return place_of(words), str(path)
