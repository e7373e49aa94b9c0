"""What stands beside a pair or instead of one: GLoRA, IA3, OFT against LyCORIS."""

import pytest
import torch
from lycoris.modules import ButterflyOFTModule, DiagOFTModule, FullModule, GLoRAModule, IA3Module
from torch import nn

from lorascope.io.modules import build_module
from tests.io.lyco import added, filled, gap, quiet, saved
from tests.io.modules.test_build import parts


def test_glora_without_its_base_part():
    layer = filled(nn.Linear(24, 36, bias=False))
    with quiet():
        module = filled(GLoRAModule("m", layer, lora_dim=3, alpha=1.5))
    built = build_module(parts(saved(module, "m")))
    a1, a2 = built.side["glora_a1"].tensor, built.side["glora_a2"].tensor
    assert gap(built.pair, added(module, layer) - 0.5 * (layer.weight @ a1 @ a2).detach()) < 1e-5
    assert set(built.left) == {"glora"}


def test_the_order_of_older_glora_files():
    b1, b2, a1, a2 = torch.randn(3, 24), torch.randn(36, 3), torch.randn(3, 24), torch.randn(24, 3)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    built = build_module(parts(tensors, name=""))
    torch.testing.assert_close(built.pair.dense(), b2 @ b1)
    torch.testing.assert_close(built.side["glora_a1"].tensor, a2)


@pytest.mark.parametrize(
    ("algorithm", "code"),
    [(IA3Module, "ia3"), (DiagOFTModule, "oft"), (ButterflyOFTModule, "oft")],
)
def test_what_needs_the_base_is_kept_and_named(algorithm, code):
    layer = filled(nn.Linear(24, 32, bias=False))
    with quiet():
        module = algorithm("m", layer, lora_dim=4, alpha=1.0)
        tensors = {slot: tensor.detach() for slot, tensor in module.state_dict().items()}
    built = build_module(parts({f"m.{slot}": tensor for slot, tensor in tensors.items()}))
    assert built.pair is None
    assert set(built.left) == {code}
    assert set(built.side) == set(tensors)


def test_a_whole_update():
    layer = filled(nn.Linear(24, 36))
    with quiet():
        module = FullModule("m", layer)
    module.weight.data.normal_()
    tensors = {f"m.{slot}": t for slot, t in module.custom_state_dict().items()}
    built = build_module(parts(tensors))
    assert {ending: side.kind for ending, side in built.side.items()} == {
        "diff": "diff", "diff_b": "diff_bias"}  # fmt: skip
    assert not built.left


@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 1), "rows"), ((1, 4), "columns"), ((6,), "rows"), ((1, 6), "columns")]
)
def test_the_axis_of_dora(shape, axis):
    slots = {"m.lora_down.weight": torch.ones(2, 4), "m.lora_up.weight": torch.ones(6, 2),
             "m.dora_scale": torch.ones(shape)}  # fmt: skip
    built = build_module(parts(slots))
    assert built.side["dora_magnitude"].kind == "dora_magnitude"
    assert set(built.left) == {f"dora_{axis}"}


def test_the_bias_of_the_upper_factor_is_scaled():
    slots = {"m.lora_down.weight": torch.ones(2, 4), "m.lora_up.weight": torch.ones(6, 2),
             "m.up_bias": torch.ones(6), "m.alpha": torch.tensor(4.0)}  # fmt: skip
    built = build_module(parts(slots))
    torch.testing.assert_close(built.side["lora_bias"].tensor, torch.full((6,), 2.0))
