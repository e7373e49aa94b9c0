"""The folder of a saved predictor: written atomically, read without running anything that it holds.

    predictor.json      format version, model (name, rank, options), signature, target, scaler, report,
                        versions, checksums of the weights and of this document itself
    model.safetensors   the state dict of the model

Loading checks sizes and checksums before a tensor exists, knows models by the names in `MODELS` only, and
refuses a format that is newer than itself. A checksum proves that a folder is whole, not who wrote it.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lorascope.core.signature import Signature
from lorascope.errors import (
    DataError,
    FileError,
    FormatError,
    HostileFileError,
    IntegrityError,
    SignatureError,
)
from lorascope.io.tensors import read_safetensors
from lorascope.models.build import MODELS, build_model
from lorascope.models.model import Model
from lorascope.predict.predictor import Predictor
from lorascope.predict.scaler import Scaler
from lorascope.predict.target import Target
from lorascope.predict.versions import versions

FORMAT = "lorascope-predictor"
FORMAT_VERSION = 1
DOCUMENT = "predictor.json"
WEIGHTS = "model.safetensors"
#: Caps on what is read into memory: a document of facts, and weights of a predictor.
MAX_DOCUMENT_BYTES = 32 * 2**20
MAX_WEIGHTS_BYTES = 16 * 2**30


def save_predictor(predictor: Predictor, folder: str | Path) -> Path:
    """Write a predictor into a folder; an older predictor there is replaced in one step.

    Raises FileError when the place is taken by something else.
    """
    folder = check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write(predictor, staged)
        staged.chmod(0o755)
        _swap(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return folder


def check_place(folder: str | Path) -> Path:
    """The folder, where a predictor may be saved there. Raises FileError when something else is there."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(
            f"Saving a predictor to {folder}: it is a file. Expected an empty folder, an older predictor, or "
            "nothing. Try another name."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / DOCUMENT).is_file():
        raise FileError(
            f"Saving a predictor to {folder}: the folder exists and holds no {DOCUMENT}. Expected an "
            "empty folder, an older predictor, or nothing. Try another name."
        )
    return folder


def load_predictor(folder: str | Path) -> Predictor:
    """Read a predictor from its folder.

    Raises FileError when a file is missing, FormatError for another format, a version that is too new or an
    unknown model, HostileFileError above the caps on size, IntegrityError when a checksum or the weights do
    not hold.

    >>> load_predictor("predictors/sources").predict(read_lora("adapter"))  # doctest: +SKIP
    """
    folder = Path(folder)
    document = _read_document(folder / DOCUMENT)
    weights = folder / WEIGHTS
    _check_size(weights, MAX_WEIGHTS_BYTES)
    expected = document["checksums"].get(WEIGHTS)
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise IntegrityError(
            f"Loading the predictor {folder}: {WEIGHTS} has sha256 {found}, expected {expected}. "
            "The file was changed or cut off. Try copying the folder again from its source."
        )
    return _build(document, read_safetensors(weights).tensors, folder)


def _write(predictor: Predictor, folder: Path) -> None:
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in predictor.model.state_dict().items()
    }
    weights = save(state)
    model = predictor.model
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "versions": versions(),
        "model": {"name": model.name, "rank": model.rank, "options": model.options},
        "signature": model.signature.to_json(),
        "target": predictor.target.to_json(),
        "scaler": predictor.scaler.to_json(),
        "report": dict(predictor.report),
        "checksums": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
    }
    document["checksums"][DOCUMENT] = _digest(document)
    _write_synced(folder / WEIGHTS, weights)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_synced(folder / DOCUMENT, text.encode())


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _swap(staged: Path, folder: Path) -> None:
    """Put a finished folder in its place; the old one is moved away first and removed last."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
        folder.replace(old / "predictor")
        staged.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        staged.replace(folder)


def _digest(document: Mapping[str, Any]) -> str:
    """sha256 of the document without its own checksum, in one canonical spelling."""
    sums = {name: value for name, value in document["checksums"].items() if name != DOCUMENT}
    bare = {**document, "checksums": sums}
    spelled = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(spelled.encode()).hexdigest()


def _check_size(path: Path, cap: int) -> None:
    if not path.is_file():
        raise FileError(
            f"Loading the predictor {path.parent}: there is no file {path.name}. "
            f"Expected a folder with {DOCUMENT} and {WEIGHTS}, as Predictor.save writes it."
        )
    if (size := path.stat().st_size) > cap:
        raise HostileFileError(
            f"Loading the predictor {path.parent}: {path.name} has {size} bytes, expected at most "
            f"{cap}. It is no predictor that lorascope wrote."
        )


def _read_document(path: Path) -> dict[str, Any]:
    _check_size(path, MAX_DOCUMENT_BYTES)
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"Loading the predictor {path.parent}: {path.name} is no JSON ({error})."
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FormatError(
            f"Loading the predictor {path.parent}: {path.name} is not of the format {FORMAT!r}."
        )
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        wrote = document.get("versions")
        raise FormatError(
            f"Loading the predictor {path.parent}: found format version {version!r} (written by {wrote}), "
            f"expected at most {FORMAT_VERSION}. Try a newer lorascope: pip install -U lorascope"
        )
    sums = document.get("checksums")
    if not isinstance(sums, dict) or sums.get(DOCUMENT) != _digest(document):
        raise IntegrityError(
            f"Loading the predictor {path.parent}: {path.name} does not match its own checksum. It was "
            "changed after it was saved. Try copying the folder again from its source."
        )
    return document


def _build(
    document: Mapping[str, Any], state: Mapping[str, torch.Tensor], folder: Path
) -> Predictor:
    try:
        target = Target.from_json(document["target"])
        model = _build_model(document, target, folder)
        model.load_state_dict(dict(state))
        scaler = Scaler.from_json(document["scaler"])
        return Predictor(model.eval(), target, scaler, dict(document["report"]))
    except (KeyError, TypeError, ValueError, AttributeError, DataError, SignatureError) as error:
        raise FormatError(
            f"Loading the predictor {folder}: {DOCUMENT} does not describe a predictor ({error})."
        ) from error
    except RuntimeError as error:
        raise IntegrityError(
            f"Loading the predictor {folder}: the weights do not fit the model that {DOCUMENT} "
            f"describes ({error})."
        ) from error


def _build_model(document: Mapping[str, Any], target: Target, folder: Path) -> Model:
    name = document["model"]["name"]
    if name not in MODELS:
        raise FormatError(
            f"Loading the predictor {folder}: found the model {name!r}, expected one of "
            f"{', '.join(sorted(MODELS))}. Try a newer lorascope."
        )
    return build_model(
        name,
        Signature.from_json(document["signature"]),
        target.out_features,
        rank=int(document["model"]["rank"]),
        **document["model"]["options"],
    )
