"""Every algorithm, made by LyCORIS, loaded by LyCORIS: the same update."""

import pytest
import torch
from lycoris.modules import LoConModule, LohaModule, LokrModule
from torch import nn

from lorascope.errors import FormatError
from lorascope.io.modules import Parts, build_module
from lorascope.io.modules.build import ALGORITHMS
from tests.io.lyco import added, filled, gap, loaded, quiet, saved

LAYERS = {
    "linear": lambda: nn.Linear(24, 36, bias=False),
    "conv": lambda: nn.Conv2d(16, 24, 3, bias=False),
    "point": lambda: nn.Conv2d(16, 24, 1, bias=False),
}
CASES = {
    "lora": (LoConModule, "linear", {}),
    "locon": (LoConModule, "conv", {}),
    "locon of a point": (LoConModule, "point", {}),
    "locon with a middle": (LoConModule, "conv", {"use_tucker": True}),
    "loha": (LohaModule, "linear", {}),
    "loha of a high rank": (LohaModule, "linear", {"lora_dim": 8}),
    "loha of a middling rank": (LohaModule, "linear", {"lora_dim": 4}),
    "loha of a convolution": (LohaModule, "conv", {}),
    "loha in tucker form": (LohaModule, "conv", {"use_tucker": True}),
    "lokr": (LokrModule, "linear", {"factor": 4}),
    "lokr decomposed twice": (LokrModule, "linear", {"factor": 6, "decompose_both": True, "lora_dim": 2}),
    "lokr of a convolution": (LokrModule, "conv", {"factor": 2}),
    "lokr in tucker form": (LokrModule, "conv", {"factor": 2, "use_tucker": True}),
    "lokr with the second factor whole": (LokrModule, "linear", {
        "factor": 2, "decompose_both": True, "unbalanced_factorization": True, "lora_dim": 7}),
    "rs lora": (LoConModule, "linear", {"rs_lora": True}),
    "rs loha": (LohaModule, "linear", {"rs_lora": True}),
    "rs lokr": (LokrModule, "linear", {"factor": 4, "rs_lora": True}),
    "a scalar": (LoConModule, "linear", {"use_scalar": True}),
}  # fmt: skip


# What LyCORIS 4.1.3 writes and cannot load itself.
NOT_LOADED = ("lokr in tucker form", "lokr with the second factor whole")


def parts(tensors, name="m"):
    slots = {}
    for key, tensor in tensors.items():
        slot = key.removeprefix(f"{name}.")
        slots[{"lora_up.weight": "up", "lora_down.weight": "down", "lora_mid.weight": "mid",
               "dora_scale": "dora"}.get(slot, slot.removesuffix(".weight"))] = tensor  # fmt: skip
    return Parts(name, slots, "a file")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("half", [False, True])
def test_the_update_is_what_lycoris_adds(case, half):
    algorithm, kind, options = CASES[case]
    layer = filled(LAYERS[kind](), seed=1)
    with quiet():
        module = filled(algorithm("m", layer, **{"lora_dim": 3, "alpha": 1.5, **options}))
    tensors = saved(module, "m")
    if half:
        tensors = {key: tensor.half() for key, tensor in tensors.items()}
    built = build_module(parts(tensors))
    assert gap(built.pair, added(module, layer)) < (1e-2 if half else 1e-5)
    if case not in NOT_LOADED:
        plain = {key: tensor.float() for key, tensor in tensors.items()}
        assert gap(built.pair, added(loaded(plain, "m", layer), layer)) < 1e-5
    assert built.pair.rank <= min(built.pair.shape)
    assert not built.left
    assert not built.side
    assert built.used >= set(parts(tensors).slots)


def test_two_whole_kronecker_factors_are_kept_and_their_scale_is_one():
    layer = filled(LAYERS["linear"]())
    with quiet():
        module = filled(LokrModule("m", layer, lora_dim=4, alpha=2.0, full_matrix=True, factor=4))
    built = build_module(parts(saved(module, "m")))
    assert not built.side
    assert (built.scale.alpha, built.scale.factor) == (4.0, 1.0)
    assert set(built.notes) == {"kronecker"}
    torch.testing.assert_close(torch.kron(built.pair.w1, built.pair.w2), added(module, layer))


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"down": (2, 4)}, "expected up beside it"),
        ({"up": (4, 2)}, "expected down beside it"),
        ({"down": (2, 4), "up": (4, 3)}, "do not go together"),
        ({"down": (4,), "up": (4, 2)}, "do not go together"),
        ({"alpha": ()}, "expected factors beside it"),
        ({"down": (2, 4), "up": (4, 2), "alpha": (3,)}, "do not go together"),
        ({"hada_w1_a": (4, 2), "hada_w1_b": (2, 4)}, "expected hada_w2_a"),
        ({"lokr_w1": (4, 2), "lokr_w2_a": (2, 4)}, "expected lokr_w2_b"),
        ({"lokr_w1_a": (4, 2), "lokr_w1_b": (3, 4), "lokr_w2": (2, 2)}, "do not go together"),
    ],
)
def test_halves_and_misfits_are_named(slots, message):
    tensors = {slot: torch.ones(shape) for slot, shape in slots.items()}
    with pytest.raises(FormatError, match=message):
        build_module(Parts("m", tensors, "a file"))


def test_unknown_tensors_beside_a_pair_are_kept_and_named():
    slots = {"down": torch.ones(2, 4), "up": torch.ones(3, 2), "riddle": torch.ones(1)}
    built = build_module(Parts("m", slots, "a file"))
    assert built.side["riddle"].kind == "native"
    assert "riddle" in built.left["unknown"]


def test_a_lone_matrix_is_whole_only_where_no_module_has_a_partner():
    slots = {"down": torch.ones(4, 6)}
    built = build_module(Parts("m", slots, "a file", lone=True))
    assert built.side["diff"].kind == "diff"
    assert set(built.doubts) == {"fullrank"}


def test_every_algorithm_has_a_reader():
    assert all(callable(read) for read in ALGORITHMS.values())
