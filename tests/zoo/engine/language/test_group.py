import torch

from lorascope.zoo.engine.language.group import GroupData, answer_width, answers
from lorascope.zoo.engine.layout import LayerShape
from tests.zoo.conftest import make_job

SHAPES = {"model.layers.0.self_attn.q_proj": LayerShape(24, 24)}


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
    data = GroupData(jobs, SHAPES, lanes=2)
    order = data.timeline.jobs[0].tolist()
    seen = [[], []]
    for step in range(2):
        batch = data.batch(step)
        assert batch.tokens.shape == (32, 8)
        assert batch.asked.token.ge(0).equal(batch.weights > 0)
        per_adapter = batch.weights.view(2, -1).sum(1)
        assert torch.allclose(per_adapter, torch.ones(2).double())
        for g in range(2):
            rows = batch.tokens.view(2, 16, 8)[g]
            real = batch.weights.view(2, 16, -1)[g].sum(1) > 0
            seen[order[g]] += rows[real].tolist()
    for g in range(2):
        assert sorted(seen[g]) == sorted(jobs[g].tokens[:, :-1].tolist())


def test_idle_lanes_have_no_weight():
    data = GroupData([make_job(0)], SHAPES, lanes=3)
    batch = data.batch(0)
    assert batch.weights.shape[0] == 24
    assert [float(w.sum()) for w in batch.weights.view(3, 8, -1)] == [1, 0, 0]
    assert batch.seen.places[0].max() < 8


def test_a_short_batch_and_short_examples_hold_no_more_tokens_than_they_have():
    data = GroupData([make_job(0, examples=11, epochs=1)], SHAPES, lanes=2)
    counts = [data.count(step) for step in range(2)]
    order, lengths = data.order[0], data.lengths[0]
    for step, (tokens, asked) in enumerate(counts):
        chosen = order[step][order[step] >= 0]
        seen = data.batch(step).seen
        assert tokens == int(lengths[chosen].sum()) == seen.places.shape[1]
        assert asked == data.batch(step).asked.places.shape[1]
        assert seen.token.ge(0).sum(1)[: len(chosen)].equal(lengths[chosen])
    assert counts[1][0] < counts[0][0]


def test_noise_is_each_jobs_own():
    data = GroupData([make_job(0), make_job(1)], SHAPES, lanes=1)
    alone = GroupData([make_job(1)], SHAPES, lanes=1)
    (name,) = SHAPES
    seen = data.batch(0).seen
    lane, token = data.standing(seen)
    assert torch.equal(token, (seen.token.flatten() >= 0).nonzero()[:, 0])
    first, second = (dict(data.noise(step, lane, token))[name] for step in (0, 6))
    assert first.shape == (len(token), 24)
    assert first.dtype == torch.uint8
    assert torch.equal(second, dict(alone.noise(0, lane, token))[name])
    assert not torch.equal(first, second)
    assert not GroupData([make_job(0, dropout=0.0)], SHAPES, lanes=1).drops
