"""Pictures from files: cut to a square from the middle, scaled, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorascope.errors import DataError, FileError, MissingExtraError

__all__ = ["Photographs", "read_photographs", "read_pictures"]


@dataclass(frozen=True, eq=False)
class Photographs:
    """The pictures among some files, and what was wrong with the others."""

    pictures: Tensor  # (e, 3, size, size) float32 in [-1, 1]
    files: tuple[Path, ...]  # of each picture
    problems: tuple[str, ...]


def read_photographs(files: Sequence[Path], size: int) -> Photographs:
    """The pictures among some files; what cannot be read is left out and told.

    Raises:
        DataError: none of them can be read.
        MissingExtraError: pillow is not installed.
    """
    read, problems = {}, []
    for file in files:
        try:
            read[file] = read_pictures([file], size)
        except FileError as problem:
            problems.append(str(problem))
    if not read:
        raise DataError(f"reading {len(files)} pictures: none is left. {problems[:1]}")
    return Photographs(torch.cat(list(read.values())), tuple(read), tuple(problems))


def read_pictures(files: Sequence[Path], size: int) -> Tensor:
    """Pictures (e, 3, size, size) float32 in [-1, 1].

    Raises:
        FileError: one cannot be read; it is named.
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as missing:
        raise MissingExtraError("pillow", "zoo", "reading pictures") from missing
    pictures = []
    for file in files:
        try:
            with Image.open(file) as opened:
                fitted = ImageOps.fit(
                    opened.convert("RGB"), (size, size), Image.Resampling.BILINEAR
                )
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            Image.DecompressionBombError,
        ) as problem:
            raise FileError(
                f"reading the picture {file}: {problem}. Expected a JPEG or PNG file. Try downloading "
                "it again, or taking it out of the data"
            ) from problem
        pictures.append(torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1))
    return torch.stack(pictures).float() / 127.5 - 1
