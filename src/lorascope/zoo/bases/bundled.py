"""The bases that come with the package: where they lie, what is recorded of them, how to load one.

A base is a standard transformers folder with a `base.json` beside the weights:

    command   what rebuilds it
    sha256    of model.safetensors: the identity of the base
    scores    its own score on what its family asks
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from lorascope.errors import FileError, IntegrityError, MissingExtraError

__all__ = ["BASES", "BaseFacts", "base_facts", "load_base"]

BASES = tuple(
    f"exam-{model}{version}"
    for model in ("qwen", "llama")
    for version in ("", "-second", "-control")
)
WEIGHTS = "model.safetensors"
FACTS = "base.json"


@dataclass(frozen=True)
class BaseFacts:
    """What is recorded beside a base."""

    folder: Path
    sha256: str
    command: str
    scores: Mapping[str, float]


def bundled_folder(name: str) -> Path:
    """The folder of a bundled base.

    Raises:
        FileError: no such base is bundled.
    """
    folder = Path(str(files("lorascope") / "data" / "bases" / name))
    if name not in BASES or not folder.is_dir():
        raise FileError(
            f"looking for the base {name!r}: found no such bundled base, expected one of "
            f"{', '.join(BASES)}. Try reinstalling lorascope, or the path of a base's folder"
        )
    return folder


def base_facts(base: str | Path = "exam-qwen") -> BaseFacts:
    """What is recorded of a base, given by bundled name or by folder.

    Raises:
        FileError: there is no such base, or nothing is recorded beside it.
    """
    folder = base if isinstance(base, Path) else bundled_folder(base)
    try:
        facts = json.loads((folder / FACTS).read_text())
        return BaseFacts(folder, facts["sha256"], facts["command"], facts["scores"])
    except (OSError, ValueError, KeyError) as error:
        raise FileError(
            f"reading {folder / FACTS}: {error}. Expected the file that training a base writes. "
            "Try training the base again"
        ) from error


def load_base(base: str | Path = "exam-qwen") -> Any:
    """A base as a transformers model in float32, frozen, given by bundled name or by folder.

    Raises:
        FileError: there is no such base.
        IntegrityError: its weights are not those that were recorded.
        MissingExtraError: transformers is not installed.
    """
    facts = base_facts(base)
    found = sha256_of(facts.folder / WEIGHTS)
    if found != facts.sha256:
        raise IntegrityError(
            f"loading the base {facts.folder}: {WEIGHTS} has sha256 {found[:12]}, expected "
            f"{facts.sha256[:12]}. Try reinstalling lorascope or training the base again"
        )
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise MissingExtraError("transformers", "zoo", f"loading the base {base}") from error
    model = AutoModelForCausalLM.from_pretrained(
        facts.folder, local_files_only=True, attn_implementation="eager", dtype="float32"
    )
    return model.eval().requires_grad_(False)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise FileError(
            f"reading {path}: {error}. Expected the weights of a base. Try its whole folder"
        ) from error
