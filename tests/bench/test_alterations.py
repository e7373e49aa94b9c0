import pytest
import torch

from lorascope.bench.alterations import ALTERATIONS, altered
from tests.planted import planted

DATA = planted(6)


def updates(data):
    return [torch.einsum("lbrn,lbrm->lbnm", g.u.double(), g.v.double()) for g in data.batch.groups]


@pytest.mark.parametrize(
    ("name", "tolerance"), [("gauge", 1e-5), ("bf16", 2e-2), ("fp16", 2e-3), ("int8", 4e-2)]
)
def test_updates_stay_and_factors_change(name, tolerance):
    changed = altered(name, DATA)
    for a, b in zip(updates(changed), updates(DATA), strict=True):
        assert float((a - b).norm() / b.norm()) < tolerance
    assert not torch.equal(changed.batch.groups[0].u, DATA.batch.groups[0].u)
    assert changed.batch.dtype == torch.float32
    assert changed.labels is DATA.labels


def test_int8_has_255_steps_a_direction():
    column = altered("int8", DATA).batch.groups[0].u[0, 0, 0]
    steps = column / column.abs().max() * 127
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)


def test_a_gauge_is_the_same_for_every_method():
    a, b = (altered("gauge", DATA).batch.groups[0].u for _ in range(2))
    assert torch.equal(a, b)
    assert set(ALTERATIONS) == {"gauge", "bf16", "fp16", "int8"}
