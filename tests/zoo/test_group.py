import torch

from lorascope.zoo.group import (
    GroupData,
    JobShape,
    adapters_of_group,
    answer_width,
    answers,
    arrange,
    rows_of_slot,
)
from tests.zoo.conftest import make_job

SHAPES = {"model.layers.0.self_attn.q_proj": (24, 24)}


def test_slots_have_eight_rows_where_that_goes():
    assert [rows_of_slot(size) for size in (8, 16, 5, 24)] == [8, 8, 5, 8]
    assert [adapters_of_group(size, 64) for size in (8, 16, 5, 1024)] == [64, 32, 64, 1]


def test_groups_hold_like_jobs_sorted_by_steps():
    shapes = [
        JobShape(size, 20, False, steps) for size in (8, 16) for steps in (30, 10, 20, 40, 50)
    ]
    groups = arrange(shapes, slots=4)
    assert sorted(i for members in groups for i in members) == list(range(10))
    for members in groups:
        assert len({shapes[i].batch_size for i in members}) == 1
        assert sum(shapes[i].batch_size // 8 for i in members) <= 4
    assert [shapes[i].steps for members in groups[:2] for i in members] == [10, 20, 30, 40, 50]


def test_answers_are_the_weighted_tokens():
    tokens = torch.tensor([[5, 6, 7, 8], [1, 2, 3, 0]])
    weights = torch.tensor([[0, 0, 0.1, 1], [0, 1, 0, 0]])
    width = answer_width(weights)
    places, labels, chosen = answers(tokens, weights, width)
    assert width == 2
    assert places[0].tolist() == [1, 2]
    assert labels[0].tolist() == [7, 8]
    assert torch.allclose(chosen, torch.tensor([[0.1, 1], [1, 0]]))
    assert (places[1, 0], labels[1, 0]) == (0, 2)


def test_batches_hold_each_adapters_own_rows():
    jobs = [make_job(seed, examples=20, batch_size=16) for seed in range(2)]
    data = GroupData(jobs, SHAPES)
    seen = [[], []]
    for step in range(2):
        batch = data.batch(step)
        assert batch.tokens.shape == (4, 8, 8)
        per_adapter = batch.weights.view(2, -1).sum(1)
        assert torch.allclose(per_adapter, torch.ones(2).double())
        for g in range(2):
            rows = batch.tokens.view(2, 16, 8)[g]
            real = batch.weights.view(2, 16, -1)[g].sum(1) > 0
            seen[g] += rows[real].tolist()
    for g in range(2):
        assert sorted(seen[g]) == sorted(jobs[g].tokens[:, :-1].tolist())


def test_idle_places_repeat_the_first_job():
    data = GroupData([make_job(0)], SHAPES, idle=2)
    assert data.slots == 3
    batch = data.batch(0)
    assert torch.equal(batch.tokens[0], batch.tokens[2])


def test_noise_is_none_without_dropout_and_own_with():
    assert not dict(GroupData([make_job(0, dropout=0.0)], SHAPES).noise(0))
    data = GroupData([make_job(0), make_job(1)], SHAPES)
    (noise,) = dict(data.noise(0)).values()
    assert noise.shape == (2, 8, 8, 24)
    assert noise.dtype == torch.uint8
    assert not torch.equal(noise[0], noise[1])
    alone = GroupData([make_job(1)], SHAPES)
    assert torch.equal(dict(alone.noise(0)).popitem()[1][0], noise[1])
