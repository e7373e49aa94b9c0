"""`write_lora`: a `LoRA` -> a PEFT folder or a kohya file that the format's own tools load.

Files appear under their final names only when they are complete: a new folder is made beside its place and
renamed into it; in an existing one each file is written under a temporary name first.
"""

import contextlib
import json
import shutil
import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from lorascope.core.lora import LoRA
from lorascope.errors import FileError, FormatError
from lorascope.io.dialects.kohya_write import to_kohya
from lorascope.io.file_names import WEIGHT_NAMES
from lorascope.io.locate import CONFIG_NAME
from lorascope.io.peft.write import to_peft
from lorascope.io.tensors import write_safetensors

__all__ = ["WRITERS", "write_lora"]

WRITERS = ("peft", "kohya")


def write_lora(
    lora: LoRA,
    folder: Path | str,
    *,
    format: str = "peft",
    base: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a LoRA as PEFT (a folder of weights and configuration) or kohya (one file).

    Reading it again gives the same updates, raw alphas, ranks and side tensors.

    Args:
        lora: what to write, with at least one layer.
        folder: where to; made if it does not exist. For kohya the path of a .safetensors file.
        format: "peft" or "kohya".
        base: identity of the base model for PEFT; by default that of the provenance.
        overwrite: replace an adapter that is there.

    Returns:
        The folder, or the file.

    Raises:
        FormatError: an unknown format, or something that the format has no place for.
        FileError: an adapter is there already, or the disk refuses.

    Example:
        >>> write_lora(lora, "my-adapter")  # doctest: +SKIP
    """
    folder = Path(folder)
    if format not in WRITERS:
        raise FormatError(
            f"Writing to {str(folder)!r}: unknown format {format!r}, expected {', '.join(WRITERS)}."
        )
    if format == "kohya":
        return _write_kohya(lora, folder, overwrite=overwrite)
    present = [name for name in (*WEIGHT_NAMES, CONFIG_NAME) if (folder / name).exists()]
    if present and not overwrite:
        raise FileError(
            f"Writing to {str(folder)!r}: found {present[0]} there. Try: another folder, or overwrite=True."
        )
    tensors, config = to_peft(lora, base)
    try:
        _write(folder, tensors, config)
    except OSError as error:
        raise FileError(f"Writing to {str(folder)!r}: {error.strerror or error}.") from error
    return folder


def _write_kohya(lora: LoRA, path: Path, *, overwrite: bool) -> Path:
    if path.suffix != ".safetensors":
        raise FormatError(
            f"Writing to {str(path)!r}: kohya's format is one file. Try: a name that ends in .safetensors."
        )
    if path.exists() and not overwrite:
        raise FileError(
            f"Writing to {str(path)!r}: found a file there. Try: another name, or overwrite=True."
        )
    tensors, metadata = to_kohya(lora)
    metadata = {"writer": f"lorascope {version('lorascope')}"} | metadata
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(scratch, tensors, metadata)
        scratch.replace(path)
    except OSError as error:
        raise FileError(f"Writing to {str(path)!r}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
    return path


def _write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # not mkdtemp, whose folders are private whatever the umask says
    scratch = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    scratch.mkdir()
    try:
        metadata = {"format": "pt", "writer": f"lorascope {version('lorascope')}"}
        write_safetensors(scratch / WEIGHT_NAMES[0], tensors, metadata)
        text = json.dumps(config, indent=2, sort_keys=True)
        (scratch / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            for name in (WEIGHT_NAMES[0], CONFIG_NAME):
                (scratch / name).replace(folder / name)
        else:
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
