"""GL-net beside the plain equation, its options, and what it can and cannot read. The contract is elsewhere."""

from itertools import product

import pytest
import torch

from lorascope.core import Symmetry, collate, concat
from lorascope.errors import DataError
from lorascope.models import build_model
from lorascope.models.gl_net import GLNet
from lorascope.symmetry import (
    act,
    assert_invariant,
    invariance_error,
    principal_directions,
    random_gauges,
)
from tests.conftest import random_lora


def draw(count=6, seed=0, rank=3):
    generator = torch.Generator().manual_seed(seed)
    return [random_lora(generator, rank=rank) for _ in range(count)]


BATCH = collate(draw())


def make(**options):
    torch.manual_seed(0)
    options = {"width": 5, "hidden": 8, "side_width": 4} | options
    model = GLNet(BATCH.signature, 2, rank=3, **options).double()
    model.prepare(BATCH)
    return model.eval()


def plain_products(model, batch):
    """Slow and obvious: the dense update of one layer of one LoRA at a time, (b, l, c, c) in group order."""
    rows = []
    for lora in batch.unbind():
        row = []
        for number, group in enumerate(batch.signature.groups()):
            for place, index in enumerate(group.indices):
                update = lora[batch.signature.names[index]].dense()
                phi, psi = model.first.phi[number][place], model.first.psi[number][place]
                row.append(phi.T @ update @ psi / update.norm())
        rows.append(torch.stack(row))
    return torch.stack(rows) * model.pair_scale[:, :, None] * model.feature_scale


@pytest.mark.parametrize("width", [5, 6])  # the head reads products, or the pairs
def test_one_layer_is_the_equation(width):
    model = make(side=False, width=width)
    expected = model.head(plain_products(model, BATCH).flatten(1))
    torch.testing.assert_close(model(BATCH), expected)


@pytest.mark.parametrize(
    "options",
    [{}, {"side": False}, {"unit_norm": False}, {"depth": 2, "gate": "smooth"}, {"norm": True}],
)
def test_a_linear_head_on_pairs_is_that_on_products(options, monkeypatch):
    model = make(width=7, **options)
    assert_invariant(model, BATCH)
    weights, found, grads = list(model.parameters()), [], []
    for direct in (True, False):
        if not direct:
            monkeypatch.setattr(model, "_is_bilinear", lambda *_: False)
        found.append(model(BATCH))
        grads.append(torch.autograd.grad(found[-1].square().sum(), weights))
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-9)
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_dropout_of_a_linear_head_drops_products():
    model = make(width=7, dropout=0.5)
    expected = model(BATCH)
    model.train()
    assert not torch.allclose(model(BATCH), model(BATCH))
    torch.testing.assert_close(model.eval()(BATCH), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_updates_in_sixteen_bits(dtype):
    """Their products are below what float16 holds; directions are not."""
    model = make(width=7, side=False)
    small = collate([1e-7 * lora for lora in draw()]).to(torch.float32)
    expected = model(BATCH).detach()
    found = model.to(dtype)(small).detach().double()
    assert float((found - expected).abs().max()) < 0.1 * float(expected.abs().max()) + 0.05


def test_mean_products():
    model = make(side=False, product="mean")
    expected = model.head(plain_products(model, BATCH).mean((-1, -2)))
    torch.testing.assert_close(model(BATCH), expected)


def test_shared_map():
    model = make(side=False, product="shared")
    shared = model.shared(plain_products(model, BATCH).flatten(2))
    shared = shared.flatten(1) / shared[0].numel() ** 0.5
    torch.testing.assert_close(model(BATCH), model.head(shared))
    # one map for all layers: its size does not depend on their number
    assert sum(p.numel() for p in model.shared.parameters()) == (25 + 3) * 8 + 9 * 8


OPTIONS = [
    {"gate": gate, "depth": depth, "norm": norm, "product": kind, "head": head}
    for gate, depth, norm, kind, head in product(
        ("none", "sign", "smooth"),
        (1, 3),
        (False, True),
        ("full", "mean", "shared"),
        ("linear", "mlp"),
    )
    if gate == "none" or depth > 1
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_combination_is_invariant_and_trains(options):
    model = make(**options)
    assert model.symmetry is Symmetry.GL
    assert_invariant(model, BATCH)
    (model(BATCH) ** 2).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    assert bool(model.first.phi[0].grad.any())


@pytest.mark.parametrize(
    "options", [{"unit_norm": False}, {"side": False}, {"unit_norm": False, "side": False}]
)
def test_without_unit_norm_or_side(options):
    model = make(**options)
    assert_invariant(model, BATCH)
    (model(BATCH) ** 2).sum().backward()
    assert bool(model.first.psi[1].grad.any())


def test_unit_norm_without_sizes_does_not_see_size():
    model = make(side=False)
    larger = collate([3.0 * lora for lora in draw()])
    torch.testing.assert_close(model(larger), model(BATCH))
    for other in (make(), make(side=False, unit_norm=False)):
        assert float((other(larger) - other(BATCH)).detach().abs().max()) > 1e-3


def test_without_unit_norm_the_typical_size_is_divided_out():
    model = make(side=False, unit_norm=False)
    small = collate([1e-4 * lora for lora in draw()])
    again = make(side=False, unit_norm=False)
    again.prepare(small)
    torch.testing.assert_close(again(small), model(BATCH))


def test_row_dropout_acts_in_training_only():
    model = make(row_dropout=0.5)
    assert torch.equal(model(BATCH), model(BATCH))
    model.train()
    assert not torch.equal(model(BATCH), model(BATCH))


def test_missing_layers_are_zero_updates_of_average_size():
    loras = draw()
    partial = loras[0].select(["b.0.q", "b.1.conv"])
    batch = collate([partial, *loras[1:]], BATCH.signature, allow_missing=True)
    for options in ({}, {"depth": 2, "gate": "smooth", "norm": True}, {"product": "mean"}):
        model = make(**options)
        torch.testing.assert_close(model(batch)[1:], model(BATCH)[1:])
        assert_invariant(model, batch)
        out = model(batch)
        out.sum().backward()
        assert bool(out.isfinite().all())
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())
    model = make()
    _, norms, sizes = model.features(batch)
    assert int((norms[0] == 0).sum()) == 2
    # the two missing layers with their three values and one norm each
    assert int((sizes[0] == 0).sum()) >= 2 * 4


def test_missing_layers_in_training():
    partial = draw()[0].select(["b.0.q"])
    batch = collate([partial, partial], BATCH.signature, allow_missing=True)
    model = make()
    model.prepare(batch)
    assert bool(model(BATCH).isfinite().all())
    assert bool(model(batch).isfinite().all())


def test_any_rank_is_the_same_model():
    model = make()
    loras = draw()
    doubled = collate([0.5 * (lora + lora) for lora in loras])
    assert doubled.rank == 2 * BATCH.rank
    torch.testing.assert_close(model(doubled), model(BATCH))


@pytest.mark.parametrize(
    "options", [{}, {"depth": 2, "gate": "smooth"}, {"norm": True, "head": "mlp"}]
)
def test_bfloat16_is_near(options):
    model = make(**options)
    expected = model(BATCH).detach()
    half = model.to(torch.bfloat16)
    found = half(BATCH.to(dtype=torch.float32)).detach()
    assert found.dtype == torch.bfloat16
    assert float((found.double() - expected).abs().max()) < 0.1 * float(expected.abs().max()) + 0.05


def test_autocast_trains():
    model = make().float().train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = (model(BATCH.to(dtype=torch.float32)) ** 2).sum()
    loss.backward()
    assert bool(model.first.phi[0].grad.any())


def test_it_learns_directions_that_flat_factors_hide():
    """A label carried by one direction of the update, under a random gauge and size."""
    generator = torch.Generator().manual_seed(1)
    kinds = draw(2, seed=8, rank=2)
    loras = [(1.0 + i % 3) * kinds[i % 2] + 0.2 * x for i, x in enumerate(draw(60, seed=2, rank=2))]
    batch = collate(loras)
    batch = act(random_gauges(batch, generator=generator), batch)
    labels = torch.tensor([[float(i % 2)] for i in range(60)]).double()
    train, test = batch.select(slice(0, 40)), batch.select(slice(40, 60))
    model = build_model("gl_net", batch.signature, 1, rank=4, seed=0, width=8).double()
    model.prepare(train)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    loss = torch.nn.BCEWithLogitsLoss()
    for _ in range(60):
        optimiser.zero_grad()
        loss(model(train), labels[:40]).backward()
        optimiser.step()
    right = (model(test) > 0).double() == labels[40:]
    assert float(right.double().mean()) >= 0.95


def test_parameter_count():
    sizes = sum(s.n + s.m for s in BATCH.signature.layers)
    model = make(side=False, depth=2, norm=True, gate="none")
    head = (4 * 25 + 1) * 2
    assert model.parameter_count == 5 * sizes + 2 * 4 * 25 + 2 * (2 * 4 * 5) + head


def test_options_rebuild_it():
    model = make(depth=2, gate="smooth", head="mlp", product="shared")
    again = build_model("gl_net", model.signature, 2, rank=3, **model.options).double().eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(BATCH), model(BATCH))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0"),
        ({"depth": 0}, "depth 0"),
        ({"gate": "sign"}, "gates stand between"),
        ({"gate": "step", "depth": 2}, "found 'step'"),
        ({"product": "sum"}, "found the product 'sum'"),
        ({"head": "tree"}, "found 'tree'"),
        ({"row_dropout": 1.0}, "found p = 1.0"),
        ({"start": "zero"}, "found the start 'zero'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(DataError, match=message):
        make(**options)


def test_preparing_on_nothing_keeps_it_usable():
    model = make()
    model.prepare(BATCH.select(slice(0, 0)))
    assert bool(model(BATCH).isfinite().all())


def test_concatenated_batches(generator):
    model = make()
    other = collate(draw(3, seed=9))
    torch.testing.assert_close(
        model(concat([BATCH, other])), torch.cat([model(BATCH), model(other)])
    )


def test_a_net_that_reads_factors_is_caught():
    """The contract's invariance test is no formality: the same head on hidden rows alone fails it."""
    model = make(side=False)
    assert invariance_error(lambda x: model.first(x.groups).u, BATCH, group=Symmetry.O).error > 0.1


def test_preparing_sets_rows_to_principal_directions():
    model = make(width=5)
    for group, phi, psi in zip(BATCH.groups, model.first.phi, model.first.psi, strict=True):
        for weight, rows in (
            (phi, principal_directions(group.u, group.v, 5)),
            (psi, principal_directions(group.v, group.u, 5)),
        ):
            torch.testing.assert_close(weight[..., : rows.shape[1]], rows.mT)
    # the layer of width 4 has fewer directions than channels: the fifth row stays random
    torch.manual_seed(0)
    untouched = GLNet(BATCH.signature, 2, rank=3, width=5, hidden=8, side_width=4).double()
    torch.testing.assert_close(model.first.phi[2][..., 4], untouched.first.phi[2][..., 4])
    assert not torch.allclose(model.first.phi[2][..., 3], untouched.first.phi[2][..., 3])
    random = make(start="random")
    torch.testing.assert_close(random.first.phi[0], untouched.first.phi[0])


def test_preparing_does_not_depend_on_the_gauge():
    turned = act(random_gauges(BATCH, generator=torch.Generator().manual_seed(2)), BATCH)
    model, again = make(width=9), make(width=9)
    again.prepare(turned)
    for a, b in zip(model.first.parameters(), again.first.parameters(), strict=True):
        torch.testing.assert_close(a @ a.mT, b @ b.mT, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"start": "random"}, {"depth": 3, "gate": "smooth"}, {"product": "mean"}]
)
@pytest.mark.parametrize("factor", [1.0, 1e-4])
def test_products_reach_the_head_with_norm_one(options, factor):
    model = make(unit_norm=False, **options).train()
    batch = collate([factor * lora for lora in draw()])
    model.prepare(batch)
    assert model.training
    first = model._first(model.features(batch))
    entries = (first.u.mT @ first.v).detach()
    assert entries.square().mean().sqrt().item() == pytest.approx(1.0)
    norms = model._products(model.eval().body(first)).detach().flatten(1).norm(dim=1)
    assert norms.square().mean().sqrt().item() == pytest.approx(1.0)


def test_all_updates_zero_keep_it_finite():
    model = make()
    zero = collate([0.0 * lora for lora in draw()])
    model.prepare(zero)
    assert bool(model(zero).isfinite().all())
    assert bool(model(BATCH).isfinite().all())
