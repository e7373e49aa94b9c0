"""Heads: parameter counts, the order of their parts, names."""

import pytest
import torch
from torch.nn import functional as F

from lorascope.errors import DataError
from lorascope.models.heads import LinearHead, MLPHead, build_head


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_parameter_count_of_the_mlp(depth):
    width, h, k = 7, 5, 3
    expected = (width + 3) * h + (depth - 1) * (h + 3) * h + (h + 1) * k
    assert parameters(MLPHead(width, k, hidden=h, depth=depth)) == expected


def test_parameter_count_of_the_linear_head():
    assert parameters(LinearHead(7, 3)) == 8 * 3


def test_the_mlp_is_linear_layer_norm_relu_linear():
    head = MLPHead(4, 2, hidden=6).double()
    x = torch.randn(5, 4, dtype=torch.float64)
    first, norm = head.body[0][0], head.body[0][1]
    hidden = x @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(1, keepdim=True)) / (
        hidden.var(1, keepdim=True, correction=0) + norm.eps
    ).sqrt()
    expected = F.relu(hidden) @ head.out.weight.T + head.out.bias
    torch.testing.assert_close(head(x), expected)


def test_dropout_acts_in_training_only():
    x = torch.ones(200, 16)
    for head in (LinearHead(16, 1, dropout=0.5), MLPHead(16, 1, hidden=64, dropout=0.5)):
        assert head.train()(x).std() > 1e-3
        assert head.eval()(x).std() < 1e-6


def test_heads_by_name():
    assert isinstance(build_head("linear", 4, 2), LinearHead)
    head = build_head("mlp", 4, 2, hidden=9, depth=2, dropout=0.1)
    assert isinstance(head, MLPHead)
    assert len(head.body) == 2
    with pytest.raises(DataError, match=r"found 'tree', expected 'linear' or 'mlp'"):
        build_head("tree", 4, 2)
