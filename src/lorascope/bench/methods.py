"""The methods of the benchmark, one row each. To add one: a file that answers, and a row here.

A row names how it answers (`answers.py`), its kind, its trials and what it costs. *Trials* are the dials that
are tried, the first being the defaults: every method that learns has the same number of them, TRIALS, but
those whose choices are made inside their own fit, by left-out groups or on the validation rows. Where the
largest of a dial was chosen nearly everywhere, the next larger is among them now.

    cost        seconds of one core = (steps * (LoRAs / 1000) * size + cube * (LoRAs / 1000)^3) * factor
    size        half of it constant, half in proportion to the numbers of one LoRA, USUAL_NUMBERS counting as 1
    factor      of each trial against the first
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
USUAL_NUMBERS = 5376
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
    factors: tuple[float, ...] = ()  # each trial's cost against the first, 1 if not named
    steps: float = 3.0
    cube: float = 0.0
    paper: bool = False  # one of those that the paper or W2T compares
    reads_hyper: bool = False  # of all others hyper-parameters that are no target are hidden
    revision: int = 1  # raise it when the answers change: runs of an earlier one are made again

    @property
    def control(self) -> bool:
        """Whether it is one of the deliberately simple ones."""
        return self.kind == "control"

    def seconds(self, loras: int, numbers: int) -> float:
        """The expected time of one training on one core, of the first trial."""
        thousands, size = loras / 1000, 0.5 + 0.5 * numbers / USUAL_NUMBERS
        return self.steps * thousands * size + self.cube * thousands**3

    def factor(self, options: Mapping[str, Any]) -> float:
        """What a trial costs against the first."""
        known = zip(self.trials, self.factors, strict=False)
        return next((factor for trial, factor in known if trial == options), 1.0)

    @property
    def mean_factor(self) -> float:
        """What a trial costs against the first, before it is known which."""
        return sum(map(self.factor, self.trials)) / len(self.trials)

    def mean_seconds(self, loras: int, numbers: int) -> float:
        """The expected time of a training, before it is known of which trial."""
        return self.seconds(loras, numbers) * self.mean_factor


def _control(name: str, steps: float, *, reads_hyper: bool = False) -> Method:
    return Method(name, "control", control(name), steps=steps, reads_hyper=reads_hyper)


#: The settings of the paper's code: of its equivariant networks alone, no size beside them, random starts.
PLAIN: dict[str, Any] = {"start": "random", "unit_norm": False, "side": False, "head": "mlp"}
PAPER_IMAGES: dict[str, Any] = PLAIN | {"batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0}
PAPER: Trials = (
    PAPER_IMAGES | {"width": 64, "hidden": 16, "epochs": 12},  # attributes
    PLAIN
    | {"width": 16, "depth": 2, "gate": "sign", "row_dropout": 0.1, "hidden": 256, "dropout": 0.1}
    | {"learning_rate": 1e-3, "weight_decay": 1e-2},  # language models
    PAPER_IMAGES | {"width": 16, "product": "mean", "hidden": 64, "epochs": 3},  # CLIP scores
    PAPER_IMAGES | {"width": 64, "hidden": 128, "epochs": 3},  # Imagenette
)
#: W2T as its code trains a classifier; its narrow head is a dial that ours has not.
W2T_PAPER = {"width": 128, "weight_decay": 1e-3, "epochs": 45, "batch_size": 64}

_ROWS = (
    _control("majority", 0.1),
    _control("norm only", 0.8),
    _control("per-layer norms", 1.3),
    _control("rank only", 0.1),
    _control("hyper-parameters", 0.8, reads_hyper=True),
    Method(
        "ridge",
        "spectra",
        model("ridge"),
        ({}, {"values": 1}, {"values": 2}, {"choose_by": "validation"}),
        steps=1.2,
        cube=0.2,
        revision=2,
    ),
    Method(
        "spectral_statistics",
        "spectra",
        model("spectral_statistics"),
        steps=1.2,
        cube=0.2,
        revision=2,
    ),
    Method("spectra_knn", "spectra", model("spectra_knn"), steps=0.8, cube=0.8, revision=2),
    Method("kernel_spectra", "spectra", model("kernel_spectra"), steps=0.6, cube=0.8, revision=2),
    Method(BOOSTING, "spectra", boosted, steps=8.0),
    Method(
        "svd",
        "spectra",
        model("svd"),
        (*RATES, {"hidden": 512, "weight_decay": 0.1}),
        steps=3.0,
        paper=True,
        revision=2,
    ),
    Method("kernel_raw", "directions", model("kernel_raw"), steps=3.0, cube=1.2),
    Method("kernel_cosine", "directions", model("kernel_cosine"), steps=3.0, cube=1.2),
    Method(
        "kernel_product", "directions", model("kernel_product"), steps=3.0, cube=1.8, revision=2
    ),
    Method(
        "sketch",
        "directions",
        model("sketch"),
        ({}, {"size": 8}, {"size": 32}, {"unit_norm": False}),
        factors=(1.0, 0.4, 4.3, 1.0),
        steps=36.0,
        revision=2,
    ),
    Method(
        "mlp",
        "network",
        model("mlp"),
        (*RATES, {"weight_decay": 1.0, "dropout": 0.3}),
        steps=7.0,
        paper=True,
    ),
    Method(
        "o_align",
        "network",
        model("o_align"),
        (*RATES, {"weight_decay": 1.0, "dropout": 0.3}),
        steps=17.0,
        paper=True,
    ),
    Method(
        "dense",
        "network",
        model("dense"),
        ({}, {"hidden": 128}, {"hidden": 256}, {"hidden": 256, "learning_rate": 1e-3}),
        factors=(1.0, 1.7, 4.0, 4.0),
        steps=11.0,
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
        steps=11.0,
        paper=True,
        revision=2,
    ),
    Method(
        "gl_net (paper)",
        "network",
        model("gl_net"),
        PAPER,
        factors=(1.0, 0.4, 0.05, 0.35),
        steps=44.0,
        paper=True,
    ),
    Method(
        "transformer",
        "network",
        model("transformer"),
        (
            {},
            {"learning_rate": 3e-4},
            {"width": 128, "learning_rate": 3e-4},
            {"width": 256, "learning_rate": 3e-4},
        ),
        factors=(1.0, 1.0, 2.3, 5.5),
        steps=14.0,
        paper=True,
    ),
    Method(
        "w2t",
        "network",
        model("w2t"),
        (
            {},
            {"width": 128, "sizes": True},
            W2T_PAPER,
            {"width": 128, "sizes": True, "flips": False},
        ),
        factors=(1.0, 2.1, 2.1, 2.1),
        steps=58.0,
        paper=True,
        revision=2,
    ),
    Method(
        "mvprobe",
        "network",
        model("mvprobe"),
        (
            {},
            {"sizes": True},
            {"learning_rate": 1e-3, "sizes": True},
            {"weight_decay": 0.3, "sizes": True},
        ),
        steps=25.0,
        revision=2,
    ),
    Method(
        "deep_sets",
        "network",
        model("deep_sets"),
        ({}, {"learning_rate": 1e-3}, {"hidden": 128}, {"hidden": 256}),
        factors=(1.0, 1.0, 1.8, 3.3),
        steps=11.0,
        revision=2,
    ),
    Method(
        "fusion",
        "default",
        model("fusion"),
        ({}, {"landmarks": 500}, {"components": 128}, {"components": 32}),
        steps=7.0,
        cube=6.0,
        revision=3,
    ),
)

#: Every method by its name, in the order of the tables.
METHODS: Mapping[str, Method] = {method.name: method for method in _ROWS}
#: The model that the others are compared with.
DEFAULT = "fusion"


def controls() -> tuple[str, ...]:
    """The names of the controls."""
    return tuple(name for name in METHODS if name in CONTROLS)
