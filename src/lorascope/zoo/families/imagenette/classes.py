"""Imagenette's folder: pictures of ten classes of ImageNet.

train/n01440764/*.JPEG   val/n01440764/*.JPEG   ...
"""

import hashlib
from functools import cache
from pathlib import Path

from lorascope.errors import FileError

__all__ = ["CLASSES", "digest_of", "pictures_of"]

CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
LAYOUT = (
    "Expected the folder of Imagenette with train/n01440764 ... train/n03888257 (imagenette2-320.tgz or "
    "a larger one, from https://github.com/fastai/imagenette)"
)


@cache
def pictures_of(folder: Path) -> tuple[tuple[Path, ...], ...]:
    """The pictures of each class, those of train/ before those of val/.

    Raises:
        FileError: a class has none.
    """
    found = []
    for code, name in CLASSES.items():
        files = [
            file
            for part in ("train", "val")
            for file in sorted((folder / part / code).glob("*"))
            if file.suffix.lower() in (".jpeg", ".jpg", ".png")
        ]
        if not files:
            raise FileError(
                f"reading Imagenette from {folder}: there are no pictures in train/{code} ({name}). "
                f"{LAYOUT}"
            )
        found.append(tuple(files))
    return tuple(found)


def digest_of(folder: Path) -> str:
    """sha256 over the names and sizes of all pictures: the identity of the data."""
    digest = hashlib.sha256()
    for file in (file for files in pictures_of(folder) for file in files):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
    return digest.hexdigest()
