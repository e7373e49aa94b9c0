"""The one visible table from the tensor that marks an algorithm to the function that reads it.

Files mix algorithms, so each module is looked at for itself; the first mark in the table that it holds decides.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from lorascope.core.lora import Side
from lorascope.errors import FormatError
from lorascope.io.modules.beside import beside_pair, build_glora, build_native, build_whole
from lorascope.io.modules.hadamard import build_hadamard
from lorascope.io.modules.kronecker import build_kronecker
from lorascope.io.modules.low_rank import build_low_rank
from lorascope.io.modules.parts import Built, Parts

__all__ = ["ALGORITHMS", "build_module"]

ALGORITHMS: Mapping[str, Callable[[Parts], Built]] = MappingProxyType(
    {
        "up": build_low_rank,
        "down": build_low_rank,
        "hada_w1_a": build_hadamard,
        "hada_w1_b": build_hadamard,
        "lokr_w1": build_kronecker,
        "lokr_w1_a": build_kronecker,
        "lokr_w2": build_kronecker,
        "lokr_w2_a": build_kronecker,
        "b1": build_glora,
        "oft_blocks": build_native,
        "on_input": build_native,
        "lambda_layer": build_native,
        "diff": build_whole,
        "diff_b": build_whole,
        "w_norm": build_whole,
        "b_norm": build_whole,
        "set_weight": build_whole,
    }
)
PLAIN = (frozenset({"down", "up"}), frozenset({"down", "up", "alpha"}))


def build_module(parts: Parts) -> Built:
    """What the tensors of one module are; every one of them ends up in the pair, beside it, or in an error.

    Raises:
        FormatError: halves are missing, shapes do not fit, or nothing in it is known.
        HostileFileError: a rank or a size is above its cap.
    """
    slots = parts.slots
    if slots.keys() in PLAIN:
        return build_low_rank(parts)  # nearly all there are
    if parts.lone and "down" in slots and slots.keys() <= {"down", "alpha"}:
        return _build_lone(slots)
    mark = next((mark for mark in ALGORITHMS if mark in slots), None)
    if mark is None:
        found = ", ".join(f"{slot} {list(tensor.shape)}" for slot, tensor in slots.items())
        raise FormatError(
            f"Reading layer {parts.layer!r} of {parts.where!r}: found {found}, expected factors beside it. "
            "The file is incomplete. Try: save the adapter again."
        )
    built = ALGORITHMS[mark](parts)
    n = built.pair.n if built.pair else 0
    more = beside_pair(parts, built.scale, n)
    rest = slots.keys() - built.used - more.used
    side = {**built.side, **more.side, **{slot: Side("native", slots[slot]) for slot in rest}}
    left = {**built.left, **more.left}
    if rest:
        left["unknown"] = f"tensors of unknown meaning are kept beside, such as {sorted(rest)[0]!r}"
    return Built(built.pair, built.scale, side, built.kind, built.notes, left, frozenset(slots))


def _build_lone(slots: Mapping[str, Tensor]) -> Built:
    """A matrix without a partner, in a file without partners: a whole update, or a remnant of a LoRA."""
    doubt = (
        "a lone matrix, as in all modules of the file, is taken for a whole update (ai-toolkit's fullrank); a "
        "file that lost its other halves looks the same"
    )
    side = {"diff": Side("diff", slots["down"])}
    return Built(side=side, used=frozenset(slots), doubts={"fullrank": doubt})
