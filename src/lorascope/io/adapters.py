"""What a folder holds: one adapter, or many below it; names alone decide, no file is opened.

    adapter_config.json and weights          one adapter, with all that is in the folder (PEFT, MLX)
    weights of a known name and no others    one adapter (diffusers, MLX without configuration)
    anything else                            a folder of many: every weight file and adapter below it

What begins with a dot is passed over: it is the system's or an editor's (`._a.safetensors` of a Mac is a
resource fork), or a download in the making.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from lorascope.io.file_names import WEIGHT_NAMES, WEIGHT_SUFFIXES
from lorascope.io.locate import CONFIG_NAME

__all__ = ["adapters_of", "is_adapter", "is_locked", "is_own", "is_step", "walk"]

# what training leaves beside an adapter under the same suffixes
STATES = ("optimizer", "scheduler", "rng_state", "random_states", "training_args", "scaler")
# what holds an adapter's earlier steps, beside its last one
STEP = re.compile(r"checkpoint-\d+|\d+_adapters\.(?:safetensors|npz)")


def is_adapter(folder: Path) -> bool:
    """Whether the folder says that it is one adapter: a configuration, and weights of a known name."""
    return (folder / CONFIG_NAME).is_file() and any((folder / x).is_file() for x in WEIGHT_NAMES)


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
    # one name in two containers is one adapter
    names = {x.stem for x in found if is_own(folder, x)}
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
