"""Pictures from files: cut to a square from the middle, scaled, as tensors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorascope.errors import FileError, MissingExtraError

__all__ = ["read_pictures"]


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
        except (OSError, ValueError, Image.DecompressionBombError) as problem:
            raise FileError(
                f"reading the picture {file}: {problem}. Expected a JPEG or PNG file. Try downloading "
                "it again, or taking it out of the data"
            ) from problem
        pictures.append(torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1))
    return torch.stack(pictures).float() / 127.5 - 1
