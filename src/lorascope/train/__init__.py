"""Training: from labelled LoRAs to a predictor, with honest splits, metrics and controls."""

from lorascope.train.controls import CONTROLS, control_predictions
from lorascope.train.data import LabelledLoRAs, from_zoo, label_loras
from lorascope.train.fit import fit, fit_many
from lorascope.train.metrics import scores
from lorascope.train.settings import Settings, default_settings
from lorascope.train.splits import Split, group_split, row_split

__all__ = [
    "CONTROLS",
    "LabelledLoRAs",
    "Settings",
    "Split",
    "control_predictions",
    "default_settings",
    "fit",
    "fit_many",
    "from_zoo",
    "group_split",
    "label_loras",
    "row_split",
    "scores",
]
