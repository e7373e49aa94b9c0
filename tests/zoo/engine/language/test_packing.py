"""Rows of examples: nothing is lost, nothing stands twice, and little is left empty."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorascope.zoo.engine.language.packing import ROW, pack, real_lengths, spread

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=12)


@given(st.lists(LENGTHS, min_size=1, max_size=4).filter(lambda lanes: any(map(any, lanes))))
def test_every_example_stands_in_one_row_of_its_adapter(batches):
    packed = pack(batches)
    seen = []
    for lane, members, lengths in zip(packed.lane, packed.members, packed.lengths, strict=True):
        for i, length in zip(members.tolist(), lengths.tolist(), strict=True):
            if length:
                assert length == batches[int(lane)][i]
                seen.append((int(lane), i))
    wanted = [(j, i) for j, batch in enumerate(batches) for i, length in enumerate(batch) if length]
    assert sorted(seen) == wanted
    assert packed.real == sum(map(sum, batches))
    assert packed.width <= max(ROW, *map(max, batches))
    assert packed.lengths.sum(1).min() > 0


@pytest.mark.parametrize(("batch", "lanes", "most"), [(32, 1, 0.03), (128, 1, 0.02), (32, 4, 0.05)])
def test_lengths_as_those_of_arc_leave_little_empty(batch, lanes, most):
    """45 tokens in the middle, from 14 to 200, as questions with an answer have."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(40, lanes, batch, generator=generator)
    lengths = (45 * (0.42 * drawn).exp()).long().clamp(14, 200)
    packed = [pack(step.tolist()) for step in lengths]
    area = sum(len(each.lane) * each.width for each in packed)
    assert 1 - int(lengths.sum()) / area < most
    assert 1 - int(lengths.sum()) / (lengths.numel() * 200) > 0.7  # each padded to the longest


def test_the_same_lengths_give_the_same_rows():
    batches = [[9, 5, 4, 3, 5], [2, 2]]
    a, b = pack(batches), pack(batches)
    assert torch.equal(a.members, b.members)
    assert torch.equal(a.lane, b.lane)


def test_things_stand_side_by_side():
    spaced = spread(torch.tensor([[2, 0, 1], [0, 1, 0]]))
    assert spaced.used.tolist() == [[True] * 3, [True, False, False]]
    assert spaced.owner[0].tolist() == [0, 0, 2]
    assert spaced.within[0].tolist() == [0, 1, 0]
    assert (int(spaced.owner[1, 0]), int(spaced.within[1, 0])) == (1, 0)


def test_the_loss_depends_on_what_stands_before_the_last_answer():
    weights = torch.tensor([[0, 0, 1, 0.5, 0], [0, 0.1, 0, 0, 0]])
    assert real_lengths(weights).tolist() == [3, 1]
