"""CelebA (Liu et al. 2015) from its published files: who is on which picture, with what attributes.

    img_align_celeba/000001.jpg ...
    list_attr_celeba.txt      count, then 40 names, then "000001.jpg -1  1 ..." a line
    identity_CelebA.txt       "000001.jpg 2880" a line

The two lists may lie in Anno/ and the pictures in Img/, as in the published archive.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lorascope.errors import FileError, FormatError

__all__ = ["Celebrities", "read_celebrities"]

PICTURES, ATTRIBUTES, IDENTITIES = "img_align_celeba", "list_attr_celeba.txt", "identity_CelebA.txt"
PLACES = ("", "Anno", "Img", "celeba")
LAYOUT = (
    f"Expected CelebA's {PICTURES}/ with {ATTRIBUTES} and {IDENTITIES} beside it or in Anno/ (aligned "
    "images, attributes and identities from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html)"
)


@dataclass(frozen=True, eq=False)
class Celebrities:
    """What the lists say."""

    pictures: Path  # the folder
    names: tuple[str, ...]  # of the attributes
    files: dict[int, tuple[str, ...]]  # identity -> names of its pictures, in order
    attributes: dict[str, tuple[bool, ...]]  # name of a picture -> what is on it

    def with_pictures(self, count: int) -> list[int]:
        """The identities that have so many pictures, ascending."""
        return sorted(who for who, files in self.files.items() if len(files) >= count)

    def of(self, names: tuple[str, ...]) -> Tensor:
        """The attributes of some pictures: (e, 40) bool."""
        return torch.tensor([self.attributes[name] for name in names])


def find(folder: Path, name: str) -> Path:
    """A file or folder of the archive.

    Raises:
        FileError: it is in none of the usual places.
    """
    for place in PLACES:
        if (folder / place / name).exists():
            return folder / place / name
    raise FileError(f"reading CelebA from {folder}: there is no {name}. {LAYOUT}")


@cache
def read_celebrities(folder: Path) -> Celebrities:
    """Read the lists once a process.

    Raises:
        FileError: something is missing.
        FormatError: a list is not of the published form.
    """
    listed, known = find(folder, ATTRIBUTES), find(folder, IDENTITIES)
    lines = listed.read_text().splitlines()
    try:
        names = tuple(lines[1].split())
        rows = [line.split() for line in lines[2:] if line.strip()]
        attributes = {name: tuple(value == "1" for value in values) for name, *values in rows}
        if any(len(values) != len(names) for values in attributes.values()):
            raise ValueError(f"a line that has not {len(names)} values")
        if len(attributes) != int(lines[0]):
            raise ValueError(f"{len(attributes)} pictures where the first line says {lines[0]}")
    except (IndexError, ValueError) as problem:
        raise FormatError(f"reading {listed}: found {problem}. {LAYOUT}") from problem
    return Celebrities(find(folder, PICTURES), names, _identities(known, attributes), attributes)


def _identities(known: Path, attributes: dict[str, tuple[bool, ...]]) -> dict[int, tuple[str, ...]]:
    files: dict[int, list[str]] = {}
    try:
        for line in known.read_text().splitlines():
            if line.strip():
                name, who = line.split()
                if name not in attributes:
                    raise ValueError(f"the picture {name}, which {ATTRIBUTES} does not list")
                files.setdefault(int(who), []).append(name)
    except ValueError as problem:
        raise FormatError(f"reading {known}: found {problem}. {LAYOUT}") from problem
    return {who: tuple(sorted(names)) for who, names in files.items()}


@cache
def digest_of(folder: Path) -> str:
    """sha256 over both lists: the identity of the data."""
    digest = hashlib.sha256()
    for name in (ATTRIBUTES, IDENTITIES):
        digest.update(find(folder, name).read_bytes())
    return digest.hexdigest()
