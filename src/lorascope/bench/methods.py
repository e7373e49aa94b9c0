"""The methods of the benchmark, one row each. To add one: a file that answers, and a row here.

A row names how it answers (`answers.py`), its kind, its trials and what it costs. *Trials* are the dials that
are tried, the first being the defaults: every method that learns has the same number of them, TRIALS, but
those whose choices are made inside their own fit, by left-out groups or on the validation rows, and the
paper's settings, which are two.

    cost        seconds of one core = steps * (LoRAs / 1000) * size + cube * (LoRAs / 1000)^3
    size        half of it constant, half in proportion to the numbers of one LoRA, 5,376 counting as 1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lorascope.bench.answers import Answer, boosted, control, model
from lorascope.bench.boosting import BOOSTING
from lorascope.train.controls import CONTROLS

__all__ = ["METHODS", "TRIALS", "Method", "MethodKind", "controls"]

MethodKind = Literal["control", "spectra", "directions", "network", "default"]
Trials = tuple[Mapping[str, Any], ...]

TRIALS = 4
INSIDE: Trials = ({},)

#: What is tried of networks that read wide inputs, beside their defaults.
RATES: Trials = ({}, {"learning_rate": 3e-4}, {"learning_rate": 3e-3})


@dataclass(frozen=True)
class Method:
    """One row: how a method answers, what is tried, and what it costs."""

    name: str
    kind: MethodKind
    answer: Answer
    trials: Trials = INSIDE
    steps: float = 3.0
    cube: float = 0.0
    paper: bool = False  # one of those that the paper or W2T compares
    revision: int = 1  # raise it when the answers change: runs of an earlier one are made again

    @property
    def control(self) -> bool:
        """Whether it is one of the deliberately simple ones."""
        return self.kind == "control"

    def seconds(self, loras: int, numbers: int) -> float:
        """The expected time of one training on one core."""
        thousands, size = loras / 1000, 0.5 + 0.5 * numbers / 5376
        return self.steps * thousands * size + self.cube * thousands**3


def _control(name: str, steps: float) -> Method:
    return Method(name, "control", control(name), steps=steps)


_ROWS = (
    _control("majority", 0.2),
    _control("norm only", 2.0),
    _control("per-layer norms", 2.5),
    _control("rank only", 0.5),
    _control("hyper-parameters", 2.5),
    Method(
        "ridge",
        "spectra",
        model("ridge"),
        ({}, {"values": 1}, {"values": 2}, {"choose_by": "validation"}),
        steps=5.0,
        cube=1.0,
        revision=2,
    ),
    Method(
        "spectral_statistics",
        "spectra",
        model("spectral_statistics"),
        steps=2.0,
        cube=1.0,
        revision=2,
    ),
    Method("spectra_knn", "spectra", model("spectra_knn"), steps=2.0, revision=2),
    Method("kernel_spectra", "spectra", model("kernel_spectra"), steps=3.0, cube=3.0, revision=2),
    Method(BOOSTING, "spectra", boosted, steps=35.0),
    Method(
        "svd",
        "spectra",
        model("svd"),
        (*RATES, {"hidden": 512, "weight_decay": 0.1}),
        steps=4.0,
        paper=True,
        revision=2,
    ),
    Method("kernel_raw", "directions", model("kernel_raw"), steps=2.0, cube=2.0),
    Method("kernel_cosine", "directions", model("kernel_cosine"), steps=2.0, cube=2.0),
    Method(
        "kernel_product", "directions", model("kernel_product"), steps=3.0, cube=4.0, revision=2
    ),
    Method(
        "sketch",
        "directions",
        model("sketch"),
        ({}, {"size": 8}, {"size": 24}, {"unit_norm": False}),
        steps=30.0,
        cube=5.0,
        revision=2,
    ),
    Method(
        "mlp",
        "network",
        model("mlp"),
        (*RATES, {"weight_decay": 1.0, "dropout": 0.3}),
        steps=10.0,
        paper=True,
    ),
    Method(
        "o_align",
        "network",
        model("o_align"),
        (*RATES, {"weight_decay": 1.0, "dropout": 0.3}),
        steps=14.0,
        paper=True,
    ),
    Method(
        "dense",
        "network",
        model("dense"),
        ({}, {"learning_rate": 1e-3}, {"hidden": 128}, {"weight_decay": 0.1}),
        steps=16.0,
        paper=True,
        revision=2,
    ),
    Method(
        "gl_net",
        "network",
        model("gl_net"),
        (
            {},
            {"learning_rate": 1e-3},
            {"head": "mlp", "dropout": 0.3, "learning_rate": 1e-3},
            {"width": 16, "weight_decay": 0.3},
        ),
        steps=14.0,
        paper=True,
        revision=2,
    ),
    Method(
        "gl_net (paper)",
        "network",
        model("gl_net"),
        (
            # its settings for images, then those for language models
            {
                "width": 64,
                "head": "mlp",
                "hidden": 16,
                "start": "random",
                "unit_norm": False,
                "side": False,
                "epochs": 12,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "weight_decay": 0.0,
            },
            {
                "width": 16,
                "depth": 2,
                "gate": "sign",
                "row_dropout": 0.1,
                "head": "mlp",
                "hidden": 256,
                "dropout": 0.1,
                "start": "random",
                "unit_norm": False,
                "side": False,
                "learning_rate": 1e-3,
                "weight_decay": 1e-2,
            },
        ),
        steps=30.0,
        paper=True,
    ),
    Method(
        "transformer",
        "network",
        model("transformer"),
        (*RATES, {"width": 128, "learning_rate": 3e-4}),
        steps=14.0,
        paper=True,
    ),
    Method(
        "w2t",
        "network",
        model("w2t"),
        ({}, {"sizes": True}, {"learning_rate": 3e-3}, {"width": 128, "sizes": True}),
        steps=55.0,
        paper=True,
        revision=2,
    ),
    Method(
        "mvprobe",
        "network",
        model("mvprobe"),
        ({}, {"sizes": True}, {"learning_rate": 3e-3}, {"weight_decay": 0.3, "sizes": True}),
        steps=32.0,
        revision=2,
    ),
    Method(
        "deep_sets",
        "network",
        model("deep_sets"),
        (*RATES, {"hidden": 128}),
        steps=14.0,
        revision=2,
    ),
    Method(
        "fusion",
        "default",
        model("fusion"),
        ({}, {"landmarks": 500}, {"components": 128}, {"components": 32}),
        steps=9.0,
        cube=6.0,
        revision=2,
    ),
)

#: Every method by its name, in the order of the tables.
METHODS: Mapping[str, Method] = {method.name: method for method in _ROWS}
#: The model that the others are compared with.
DEFAULT = "fusion"


def controls() -> tuple[str, ...]:
    """The names of the controls."""
    return tuple(name for name in METHODS if name in CONTROLS)
