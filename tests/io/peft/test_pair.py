"""One module's tensors: formulas that no model of the oracle tests reaches, and every refusal."""

from types import SimpleNamespace

import pytest
import torch
from peft.tuners.lora.variants import QALoraLinearVariant
from torch import nn

from lorascope.errors import FormatError, HostileFileError
from lorascope.io import factors
from lorascope.io.peft.config import PeftConfig
from lorascope.io.peft.pair import build_pair
from lorascope.io.room import Room


def config(**changes):
    return PeftConfig({"peft_type": "LORA", "r": 2, "lora_alpha": 3} | changes, "file")


def build(slots, **changes):
    return build_pair("m.q", slots, config(**changes), "file", Room.of(slots.values()))


def test_pooled_inputs_are_unpooled():
    """QA-LoRA against peft's own forward; the variant itself only comes with a quantised base."""
    rank, size, inputs, outputs = 2, 4, 12, 5
    a, b = torch.randn(rank, inputs // size), torch.randn(outputs, rank)
    built = build({"lora_A": a, "lora_B": b}, use_qalora=True, qalora_group_size=size)
    layer_a, layer_b = nn.Linear(inputs // size, rank), nn.Linear(rank, outputs)
    layer_a.weight.data, layer_b.weight.data = a, b
    module = SimpleNamespace(
        lora_A={"x": layer_a},
        lora_B={"x": layer_b},
        lora_dropout={"x": nn.Identity()},
        scaling={"x": 3 / 2},
        qalora_group_size={"x": size},
        in_features=inputs,
        training=False,
    )
    x = torch.randn(3, 7, inputs)
    with torch.no_grad():
        expected = QALoraLinearVariant.forward(module, "x", x, torch.zeros(3, 7, outputs))
    assert torch.allclose(built.pair.matvec(x), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats_become_single(dtype):
    a, b = torch.randn(2, 3).to(dtype), torch.randn(4, 2).to(dtype)
    pair = build({"lora_A": a, "lora_B": b}, lora_alpha=2).pair
    assert pair.dtype == torch.float32
    assert torch.equal(pair.u, b.float())


def test_mixed_types_become_the_wider():
    pair = build(
        {"lora_A": torch.ones(2, 3), "lora_B": torch.ones(4, 2, dtype=torch.float16)}, lora_alpha=2
    )
    assert pair.pair.dtype == torch.float32
    double = build({"lora_A": torch.ones(2, 3), "lora_B": torch.ones(4, 2, dtype=torch.float64)})
    assert double.pair.dtype == torch.float64
    assert double.pair.u[0, 0] == 1.5


def test_factors_share_the_memory_of_the_file():
    a, b = torch.randn(2, 3), torch.randn(4, 2)
    pair = build({"lora_A": a, "lora_B": b}, lora_alpha=2).pair
    assert pair.u.data_ptr() == b.data_ptr()
    assert pair.v.data_ptr() == a.data_ptr()


PAIR = {"lora_A": torch.ones(2, 3), "lora_B": torch.ones(4, 2)}
CONV = {"lora_A": torch.ones(4, 3, 3, 3), "lora_B": torch.ones(6, 4, 1, 1)}
EMB = {"lora_embedding_A": torch.ones(2, 9), "lora_embedding_B": torch.ones(4, 2)}


@pytest.mark.parametrize(
    ("slots", "changes", "message"),
    [
        ({"lora_A": PAIR["lora_A"]}, {}, r"lora_A \[2, 3\], expected lora_B beside"),
        ({"lora_B": PAIR["lora_B"]}, {}, r"lora_B \[4, 2\], expected lora_A beside"),
        ({"lora_embedding_A": EMB["lora_embedding_A"]}, {}, "expected lora_embedding_B beside"),
        ({"lora_E": torch.ones(2, 1)}, {}, "expected lora_A and lora_B beside"),
        (PAIR | EMB, {}, "not both"),
        (PAIR | {"lora_A": torch.ones(6)}, {}, "m.q.lora_A.*ZeRO-3 or FSDP"),
        (PAIR | {"lora_B": torch.ones(0)}, {}, "m.q.lora_B.*ZeRO-3 or FSDP"),
        (PAIR | {"lora_A": torch.ones(2, 0)}, {}, r"its shape is \[2, 0\]"),
        (PAIR | {"lora_A": torch.ones(3, 3)}, {}, r"A is \[3, 3\] and B is \[4, 2\], expected"),
        (PAIR | {"lora_B": torch.ones(4, 2, 1)}, {}, r"B is \[4, 2, 1\], expected"),
        (
            PAIR | {"lora_A": torch.ones(2, 3, dtype=torch.int8)},
            {},
            "Quantised factors are not read",
        ),
        (PAIR | {"lora_E": torch.ones(3, 1)}, {}, "lora_E holds 3 values, expected 2"),
        (PAIR | {"lora_diag": torch.ones(3)}, {}, "lora_diag holds 3 values, expected 2"),
        (CONV | {"lora_B": torch.ones(6, 3, 1, 1)}, {}, "of a convolution"),
        (CONV | {"lora_B": torch.ones(6, 4, 3, 1)}, {}, "of a convolution"),
        (CONV | {"lora_B": torch.ones(6, 4)}, {}, "of a convolution"),
        (CONV | {"lora_B": torch.ones(5, 2, 1, 1)}, {}, "of a convolution"),
        (EMB | {"lora_embedding_B": torch.ones(4, 3)}, {}, "with one r"),
        (PAIR, {"use_bdlora": {"nblocks": 0}}, "nblocks is 0"),
        (PAIR, {"use_bdlora": {"nblocks": "2"}}, "nblocks is '2'"),
        (
            PAIR,
            {"use_bdlora": {"nblocks": 3, "target_modules_bd_a": ["q"]}},
            "A has 2 rows, expected a multiple",
        ),
        (
            PAIR,
            {"use_bdlora": {"nblocks": 3, "target_modules_bd_b": ["q"]}},
            "B has 4 rows, expected a multiple",
        ),
        (PAIR, {"use_bdlora": {"nblocks": 2, "target_modules_bd_b": ["q"]}}, "with one r"),
    ],
)
def test_refusals_name_the_layer(slots, changes, message):
    with pytest.raises(FormatError, match=message) as caught:
        build(slots, **changes)
    assert "m.q" in str(caught.value) or "nblocks" in message


@pytest.mark.parametrize("slots", [PAIR, CONV, EMB], ids=["matrix", "convolution", "embedding"])
def test_ranks_are_capped(slots, monkeypatch):
    monkeypatch.setattr(factors, "MAX_RANK", 1)
    with pytest.raises(HostileFileError, match=r"'m.q'.*its rank is ., expected at most 1"):
        build(slots)
