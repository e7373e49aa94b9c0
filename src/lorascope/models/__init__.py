"""Models on LoRAs: one file per model, and the table that names them."""

from lorascope.models.build import MODELS, build_model, model_options
from lorascope.models.closed_form import ClosedForm
from lorascope.models.model import Features, Kind, Model, select_features

__all__ = [
    "MODELS",
    "ClosedForm",
    "Features",
    "Kind",
    "Model",
    "build_model",
    "model_options",
    "select_features",
]
