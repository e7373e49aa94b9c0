"""DoRA's magnitudes beside the factors: stacked by name, carried along, and of no cost where there are none."""

from dataclasses import replace

import pytest
import torch

from lorascope.core import LoRA, Side, collate, concat, side_kinds
from lorascope.core.magnitudes import (
    MAGNITUDE,
    Magnitudes,
    fill_magnitudes,
    join_magnitudes,
    layer_of_magnitude,
    no_magnitudes,
    of_rows,
    side_kind,
    stack_magnitudes,
)
from lorascope.symmetry import act, random_gauges
from tests.conftest import random_lora


def with_magnitudes(lora: LoRA, generator, names=None, shape=(-1,)) -> LoRA:
    side = {
        f"{name}.{MAGNITUDE}": Side(
            MAGNITUDE, torch.rand(lora[name].n, generator=generator).reshape(shape)
        )
        for name in (lora if names is None else names)
    }
    return replace(lora, side=side)


@pytest.fixture
def loras(generator):
    plain = [random_lora(generator) for _ in range(3)]
    return [
        with_magnitudes(plain[0], generator),
        plain[1],
        with_magnitudes(plain[2], generator, ["b.1.q", "b.1.conv"], (-1, 1)),
    ]


def same(batch, loras):
    found = batch.unbind()
    for lora, again in zip(loras, found, strict=True):
        assert {k: s.kind for k, s in lora.side.items()} == {
            k: s.kind for k, s in again.side.items()
        }
        for name, side in lora.side.items():
            assert torch.equal(side.tensor.flatten(), again.side[name].tensor)


def test_stacked_by_name_and_back(loras):
    batch = collate(loras)
    assert [tuple(group.shape) for group in batch.magnitudes.groups] == [
        (2, 3, 8),
        (1, 3, 5),
        (1, 3, 4),
    ]
    assert batch.magnitudes.present.tolist() == [
        [True] * 4,
        [False] * 4,
        [False, False, True, True],
    ]
    assert not batch.magnitudes.groups[0][:, 1].any()
    same(batch, loras)
    assert batch.nbytes == collate([replace(x, side={}) for x in loras]).nbytes + 4 * 3 * 25


def test_plain_loras_have_none_at_no_cost(loras, generator):
    bias = replace(loras[1], side={"b.0.q.bias": Side("bias", torch.ones(8))})
    for batch in (collate(loras[1:2]), collate([bias]), concat([collate(loras[1:2])] * 2)):
        assert batch.magnitudes is None
        for other in (batch.to(torch.float32), batch.select([0]), batch.pad(5)):
            assert other.magnitudes is None
    assert collate([], loras[0].signature()).magnitudes is None


def test_every_change_of_a_batch_carries_them(loras, generator):
    batch = collate(loras)
    same(batch.pad(7), loras)
    same(batch.with_groups(batch.groups), loras)
    same(act(random_gauges(batch, generator=generator), batch), loras)
    for rows in ([2, 0], torch.tensor([2, 0])):
        same(batch.select(rows), [loras[2], loras[0]])
    same(batch.select(slice(1, 3)), loras[1:])
    plain = [replace(lora, side={}) for lora in loras]
    same(concat([collate(plain), batch]), plain + loras)
    same(concat([batch, collate(plain)]), loras + plain)


def test_half_precision_keeps_small_differences(loras):
    batch = collate(loras).to(torch.bfloat16)
    assert (batch.dtype, batch.magnitudes.groups[0].dtype) == (torch.bfloat16, torch.float32)
    same(batch, loras)
    assert collate(loras).to(torch.float64).magnitudes.groups[0].dtype == torch.float64
    moved = collate(loras).to(device="cpu").magnitudes
    assert moved.groups[0].dtype == torch.float32
    double = replace(loras[0], side={f"b.0.q.{MAGNITUDE}": Side(MAGNITUDE, torch.ones(8).double())})
    assert collate([double]).magnitudes.groups[0].dtype == torch.float64


def test_columns_are_another_kind_and_what_does_not_fit_is_none(loras, generator):
    columns = with_magnitudes(loras[1], generator, ["b.0.q"], (1, -1))
    assert collate([columns]).magnitudes is None
    assert side_kinds(columns) == {"dora_magnitude of columns"}
    assert side_kinds(loras[0]) == {MAGNITUDE}
    assert side_kind(MAGNITUDE, (1,)) == side_kind(MAGNITUDE, (1, 1)) == MAGNITUDE
    assert side_kind("bias", (1, 8)) == "bias"
    assert of_rows((8, 1, 1, 1), 8)
    assert not of_rows((), 8)
    assert not of_rows((4, 2), 8)
    short = replace(loras[1], side={f"b.0.q.{MAGNITUDE}": Side(MAGNITUDE, torch.ones(7))})
    stray = replace(loras[1], side={f"b.9.q.{MAGNITUDE}": Side(MAGNITUDE, torch.ones(8))})
    assert collate([short]).magnitudes is None
    assert collate([stray]).magnitudes is None


def test_a_magnitude_without_its_layer_is_none(loras):
    part = replace(loras[0].select(["b.0.v", "b.1.q", "b.1.conv"]), side=loras[0].side)
    batch = collate([part], loras[0].signature(), allow_missing=True)
    assert batch.magnitudes.present.tolist() == [[False, True, True, True]]


def test_room_that_is_filled_piece_by_piece(loras):
    signature = loras[0].signature()
    whole, room = collate(loras).magnitudes, no_magnitudes(3, signature)
    assert not room.present.any()
    for row in range(3):
        room.put(torch.tensor([row]), whole.select(torch.tensor([row])))
    assert torch.equal(room.present, whole.present)
    assert all(torch.equal(a, b) for a, b in zip(room.groups, whole.groups, strict=True))


def test_names_and_empty_parts(loras):
    signature = loras[0].signature()
    assert layer_of_magnitude(f"a.b.c.{MAGNITUDE}") == "a.b.c"
    assert join_magnitudes([None, None], [1, 2], signature) is None
    assert fill_magnitudes(lambda *_: None, 2, signature) is None
    assert stack_magnitudes(loras[1:2], signature, "cpu") is None
    assert isinstance(stack_magnitudes(loras, signature, "cpu"), Magnitudes)
