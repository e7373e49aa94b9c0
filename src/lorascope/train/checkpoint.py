"""Checkpoints of a running training: enough state that a killed run goes on to the same result.

Weights, the best weights so far, the optimiser, both random generators and the epochs. A checkpoint
belongs to one run, named by `identity` (data, split, model, settings, seed); another run refuses it. It is
no product: what is kept and shared is the predictor.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lorascope.errors import DataError, IntegrityError

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, identity: str, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, replacing the last one in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{NAME}.{os.getpid()}"
    torch.save({"identity": identity, **state}, staged)
    staged.replace(folder / NAME)


def load_checkpoint(folder: Path, identity: str) -> dict[str, Any] | None:
    """The last checkpoint of a run, None when there is none.

    Raises IntegrityError when the file is damaged, DataError when it belongs to another run.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in many ways, all of them mean this
        raise IntegrityError(
            f"Resuming from {path}: the checkpoint cannot be read ({type(error).__name__}). Remove it to "
            "start again."
        ) from error
    if state.get("identity") != identity:
        raise DataError(
            f"Resuming from {path}: the checkpoint belongs to another run (other data, split, model, "
            "settings or seed). Give each run a folder of its own, or remove the checkpoint."
        )
    return state
