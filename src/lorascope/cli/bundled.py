"""What the package brings: predictors and a LoRA of the exam base, so that `lorascope predict` shows something.

Predictors for other bases are trained by the user.
"""

from pathlib import Path

import lorascope
from lorascope.errors import FileError

__all__ = ["bundled_predictors", "bundled_sample"]


def bundled_predictors() -> list[Path]:
    """Folders of the predictors in the package. Raises FileError when the installation lacks them."""
    folder = data_folder() / "predictors"
    found = sorted(path.parent for path in folder.glob("*/predictor.json"))
    if not found:
        raise FileError(missing("predictors", folder))
    return found


def bundled_sample() -> Path:
    """Folder of the sample LoRA in the package. Raises FileError when the installation lacks it."""
    folder = data_folder() / "sample" / "exam-lora"
    if not (folder / "adapter_model.safetensors").is_file():
        raise FileError(missing("sample", folder))
    return folder


def data_folder() -> Path:
    """Where the package's data lie."""
    return Path(lorascope.__file__).parent / "data"


def missing(what: str, folder: Path) -> str:
    """The message for data that is not there."""
    return (
        f"Looking for the bundled {what} in {folder}: not part of this installation. "
        "Try: reinstall lorascope, or name your own (lorascope predict --with PREDICTOR PATH)."
    )
