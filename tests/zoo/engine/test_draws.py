import torch

from lorascope.zoo.engine.draws import (
    bank_size,
    byte_bank,
    data_order,
    dropout_threshold,
    first_factors,
    mask_offsets,
    stream,
)

SHAPES = {"a": (6, 400), "b": (5, 100)}


def test_streams_are_separate_and_repeat():
    draws = [torch.rand(3, generator=stream(*key)).tolist() for key in ((1, "A"), (1, "A"))]
    assert draws[0] == draws[1]
    assert draws[0] != torch.rand(3, generator=stream(1, "order")).tolist()
    assert draws[0] != torch.rand(3, generator=stream(2, "A")).tolist()


def test_the_first_factors_are_distributed_as_in_peft():
    factors = first_factors(0, SHAPES, 64)
    for name, (_, m) in SHAPES.items():
        A = factors[name]
        reference = torch.nn.Linear(
            m, 64, bias=False
        ).weight.detach()  # kaiming uniform with a = sqrt 5
        assert A.shape == (64, m)
        assert float(A.abs().max()) <= m**-0.5
        assert abs(float(A.std() / reference.std()) - 1) < 0.03


def test_every_epoch_sees_every_example_once():
    order = data_order(3, examples=10, epochs=4, batch_size=4)
    assert order.shape == (12, 4)
    for epoch in order.view(4, 12):
        assert epoch[epoch >= 0].sort().values.tolist() == list(range(10))
        assert epoch[10:].tolist() == [-1, -1]
    assert order[:3].tolist() != order[3:6].tolist()


def test_masks_drop_the_share_asked_for():
    windows = {"a": 3000, "b": 1000}
    offsets = mask_offsets(5, 50, windows)
    bank = byte_bank(3000)
    threshold, scale = dropout_threshold(0.3)
    for name, size in windows.items():
        masks = torch.stack([bank[o : o + size] >= threshold for o in offsets[name]])
        assert abs(float(masks.float().mean()) - 0.7) < 0.01
        assert abs(float(masks.float().mean()) * scale - 1) < 0.01
        assert not torch.equal(masks[0], masks[1])
    assert mask_offsets(5, 50, windows)["b"].equal(offsets["b"])


def test_no_dropout_drops_nothing():
    assert dropout_threshold(0.0) == (0, 1.0)
    assert dropout_threshold(0.999)[0] == 255


def test_the_bank_holds_the_longest_window():
    for longest in (1, 1 << 20, (1 << 20) + 1):
        assert bank_size(longest) >= 4 * longest
