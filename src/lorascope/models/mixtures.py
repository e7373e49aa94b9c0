"""Which kernels `fusion` compares LoRAs by, and which of them a ridge adds up; a row is added here."""

from collections.abc import Mapping

from lorascope.models.mixed_kernels import EVEN, Mixture

__all__ = [
    "HINT",
    "JOINT",
    "LANDMARKED",
    "LINEAR",
    "MAGNITUDES",
    "MIXTURES",
    "NEAR",
    "SECOND",
    "SECOND_LOOK",
    "TURNED",
]

NEAR = {"near_wide": 0.06, "near_middle": 0.25, "near_narrow": 1.0}
TURNED = {"turned_wide": "near_wide", "turned_middle": "near_middle"}
"""t of the kernels of nearness, and which of them is multiplied by likeness of direction."""
HINT = {"hint_wide": 0.06, "hint_middle": 0.25, "hint_narrow": 1.0}
JOINT = {"joint": 0.5, "joint_narrow": 1.5}
"""t of nearness of hints, and of nearness both of hints and of layers' hints."""

LINEAR = ("core", "left", "right", "sizes")
LANDMARKED = (*NEAR, *TURNED)
SECOND = (*HINT, *JOINT)

BOTH = {"near_wide": 1.0, "near_middle": 1.0, "sizes": 1.0}
MIXTURES: Mapping[str, Mixture] = {
    "directions": {"core": 1.0},
    "even": {EVEN: 1.0},
    "spaces": {"core": 1.0, "left": 1.0, "right": 1.0},
    "sizes": {**BOTH, "near_narrow": 1.0},
    "turned": {"near_wide": 1.0, "turned_wide": 1.0},
    "sum": {EVEN: 2.0, **BOTH},
    "all": {"core": 2.0, "left": 1.0, "right": 1.0, "near_narrow": 1.0, **BOTH}
    | {"turned_wide": 1.0, "turned_middle": 1.0},
}
"""Kernels of each mixture with their weights, in units of each kernel's own mean variance."""
MAGNITUDES = "magnitudes"  # numbers, kernel and mixture of LoRAs that have them
HINTED = {"hint": 1.0, "hint_wide": 1.0, "hint_middle": 1.0}
SECOND_LOOK: Mapping[str, Mixture] = {
    "hinted": HINTED,
    "hinted_narrow": {"hint_wide": 1.0, "hint_middle": 1.0, "hint_narrow": 1.0},
    "layered": {**HINTED, "layers": 1.0, "joint": 1.0},
    "layered_narrow": {"hint": 1.0, "layers": 1.0, "joint": 1.0, "joint_narrow": 1.0},
}
