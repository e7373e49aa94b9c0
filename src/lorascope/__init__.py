"""lorascope learns on LoRAs: it takes the weights of adapters as data.

    >>> import lorascope
    >>> lora = lorascope.read_lora("path/to/adapter")  # doctest: +SKIP

The names below are the public face; they are imported when first used, so `import lorascope` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorascope import errors
    from lorascope.core import Hadamard, Kronecker, LoRA, LoRABatch, LowRank, collate, gram
    from lorascope.io import open_zoo, read_lora, write_lora
    from lorascope.predict import Prediction, Predictor, load_predictor
    from lorascope.train import fit, fit_many

__version__ = "0.1.0"

__all__ = [
    "Hadamard",
    "Kronecker",
    "LoRA",
    "LoRABatch",
    "LowRank",
    "Prediction",
    "Predictor",
    "collate",
    "errors",
    "fit",
    "fit_many",
    "gram",
    "load_predictor",
    "open_zoo",
    "read_lora",
    "write_lora",
]

ROOMS = {
    "Hadamard": "core",
    "Kronecker": "core",
    "LoRA": "core",
    "LoRABatch": "core",
    "LowRank": "core",
    "collate": "core",
    "gram": "core",
    "open_zoo": "io",
    "read_lora": "io",
    "write_lora": "io",
    "Prediction": "predict",
    "Predictor": "predict",
    "load_predictor": "predict",
    "fit": "train",
    "fit_many": "train",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("lorascope.errors")
    if name not in ROOMS:
        raise AttributeError(f"module 'lorascope' has no attribute {name!r}")
    return getattr(import_module(f"lorascope.{ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
