import torch

from lorascope.zoo.engine.image.draws import noise_stream, picture_order, picture_times
from tests.zoo.engine.image.conftest import make_job


def test_every_picture_comes_once_a_round():
    order = picture_order(make_job(3, examples=5, steps=10, batch_size=2))
    assert order.shape == (10, 2)
    for part in order.flatten().view(4, 5):
        assert sorted(part.tolist()) == [0, 1, 2, 3, 4]


def test_draws_follow_from_the_seed_and_from_nothing_else():
    job, same, other = make_job(3, steps=20), make_job(3, steps=20, learning_rate=1.0), make_job(4)
    assert torch.equal(picture_times(job, 50), picture_times(same, 50))
    assert int(picture_times(make_job(3, steps=900), 50).max()) == 49
    one, two, three = (torch.randn(8, generator=noise_stream(j)) for j in (job, same, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
