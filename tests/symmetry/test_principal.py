import pytest
import torch

from lorascope.symmetry import act, assert_invariant, principal_directions, random_gauges


def projector(rows):
    return rows.mT @ rows


def by_definition(group, count):
    """Slow and obvious: eigenvectors of the sum of normalised dense updates."""
    update = group.u.mT @ group.v
    update = update / torch.linalg.matrix_norm(update, keepdim=True)
    values, vectors = torch.linalg.eigh((update @ update.mT).sum(1))
    return vectors.mT.flip(-2)[:, :count], values.flip(-1)


@pytest.mark.parametrize("count", [1, 3, 9, 20])
def test_the_directions_are_those_of_the_definition(draw, count):
    group = draw.batch(size=6).groups[0]
    found = principal_directions(group.u, group.v, count)
    expected, _ = by_definition(group, count)
    assert found.shape == expected.shape == (2, min(count, 9), 9)
    torch.testing.assert_close(projector(found), projector(expected))
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-5, rtol=1e-5)


def test_they_are_orthonormal_and_hold_the_most(draw):
    u, v = draw.normal(2, 30, 3, 60), draw.normal(2, 30, 3, 40)
    strong = draw.normal(2, 1, 4, 60)
    u = u + 3 * draw.normal(2, 30, 3, 4) @ strong
    rows = principal_directions(u, v, 4)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(4).double().expand(2, 4, 4))
    update = u.mT @ v
    kept = (rows.unsqueeze(1) @ update).square().sum() / update.square().sum()
    random = torch.linalg.qr(draw.normal(60, 4)).Q.mT
    assert float(kept) > 0.8
    assert float((random @ update).square().sum() / update.square().sum()) < 0.2


def test_invariant(draw):
    batch = draw.ragged_batch()
    assert_invariant(
        lambda x: [projector(principal_directions(g.u, g.v, 3)) for g in x.groups],
        batch,
        tolerance=1e-6,
    )


def test_input_directions_by_swapping(draw):
    group = draw.batch().groups[0]
    rows = principal_directions(group.v, group.u, 2)
    assert rows.shape == (2, 2, 7)


def test_missing_layers_and_no_lora(draw):
    batch = draw.ragged_batch()
    rows = [principal_directions(g.u, g.v, 2) for g in batch.groups]
    assert all(bool(r.isfinite().all()) for r in rows)
    empty = batch.select(slice(0, 0)).groups[0]
    rows = principal_directions(empty.u, empty.v, 2)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(2).double().expand(2, 2, 2))


def test_the_same_twice_and_in_half_precision(draw):
    batch = draw.batch()
    group = batch.groups[0]
    assert torch.equal(*(principal_directions(group.u, group.v, 2) for _ in range(2)))
    half = principal_directions(group.u.bfloat16(), group.v.bfloat16(), 9)
    assert half.dtype == torch.float32
    moved = act(random_gauges(batch, generator=draw.generator), batch).groups[0]
    torch.testing.assert_close(
        projector(principal_directions(moved.u, moved.v, 9)), torch.eye(9).double().expand(2, 9, 9)
    )
