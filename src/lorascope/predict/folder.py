"""The folder of a saved predictor: written atomically, read without running anything that it holds.

    predictor.json      format version, model (name, rank, options), signature, target, scaler, report,
                        versions, checksums of the weights and of this document itself; since version 2 also
                        `trust`: calibration and interval
    model.safetensors   the state dict of the model
    trust.safetensors   what tells outliers, where the predictor has learned it (version 2)

Loading checks sizes and checksums before a tensor exists, knows models by the names in `MODELS` only, and
refuses a format that is newer than itself. A checksum proves that a folder is whole, not who wrote it.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
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
from lorascope.predict.trust import Trust
from lorascope.predict.versions import versions

FORMAT = "lorascope-predictor"
FORMAT_VERSION = 2  # 1 knew no trust
DOCUMENT = "predictor.json"
WEIGHTS = "model.safetensors"
TRUST = "trust.safetensors"
NARROW_NUMBERS = 2**16  # in smaller tensors little is to be saved
#: Caps on what is read into memory: a document of facts, and weights of a predictor.
MAX_DOCUMENT_BYTES = 32 * 2**20
MAX_WEIGHTS_BYTES = 16 * 2**30


def save_predictor(predictor: Predictor, folder: str | Path) -> Path:
    """Write a predictor into a folder; an older predictor there is replaced in one step.

    Raises FileError when the place is taken by something else.
    """
    folder = check_place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # not mkdtemp, whose folders are private whatever the umask says
    staged = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    staged.mkdir()
    try:
        _write(predictor, staged)
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
    state = _read_tensors(folder, WEIGHTS, document)
    trusted = _read_tensors(folder, TRUST, document) if TRUST in document["checksums"] else {}
    return _build(document, state, trusted, folder)


def predictor_digest(folder: str | Path) -> str:
    """What a predictor is, wherever it lies: the sha256 of its document, which holds those of its tensors.

    Raises FileError, FormatError and IntegrityError as `load_predictor`; the tensors are not looked at.
    """
    return str(_read_document(Path(folder) / DOCUMENT)["checksums"][DOCUMENT])


def _read_tensors(
    folder: Path, name: str, document: Mapping[str, Any]
) -> Mapping[str, torch.Tensor]:
    """The tensors of a file whose sha256 the document gives, read once that is found right."""
    path = folder / name
    _check_size(path, MAX_WEIGHTS_BYTES)
    expected = document["checksums"].get(name)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise IntegrityError(
            f"Loading the predictor {folder}: {name} has sha256 {found}, expected {expected}. "
            "The file was changed or cut off. Try copying the folder again from its source."
        )
    return read_safetensors(path).tensors


def _write(predictor: Predictor, folder: Path) -> None:
    model, trust = predictor.model, predictor.trust
    files = {WEIGHTS: model.state_dict(), TRUST: trust.tensors()}
    written = {name: save(_plain(tensors)) for name, tensors in files.items() if tensors}
    written.setdefault(WEIGHTS, save({}))
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION if trust.to_json() else 1,
        "versions": versions(),
        "model": {"name": model.name, "rank": model.rank, "options": model.options},
        "signature": model.signature.to_json(),
        "target": predictor.target.to_json(),
        "scaler": predictor.scaler.to_json(),
        "report": dict(predictor.report),
        "trust": trust.to_json(),
        "checksums": {name: hashlib.sha256(x).hexdigest() for name, x in written.items()},
    }
    document["checksums"][DOCUMENT] = _digest(document)
    for name, content in written.items():
        _write_synced(folder / name, content)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    _write_synced(folder / DOCUMENT, text.encode())


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that share no memory, on the CPU, in bfloat16 where that loses nothing."""
    plain = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    return {name: _narrow(x) for name, x in plain.items()}


def _narrow(x: torch.Tensor) -> torch.Tensor:
    """A large tensor whose numbers a model has rounded to bfloat16, in that type: reading widens it again."""
    if x.dtype != torch.float32 or x.numel() < NARROW_NUMBERS:
        return x
    narrow = x.bfloat16()
    return narrow if torch.equal(narrow.float(), x) else x


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
    document: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    trusted: Mapping[str, torch.Tensor],
    folder: Path,
) -> Predictor:
    try:
        target = Target.from_json(document["target"])
        model = _build_model(document, target, folder)
        model.load_state_dict(dict(state))
        scaler = Scaler.from_json(document["scaler"])
        trust = Trust.from_parts(document.get("trust", {}), trusted, model.signature)
        return Predictor(model.eval(), target, scaler, dict(document["report"]), trust)
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
