"""A module's tensors and back: the same update, the same raw alpha."""

import pytest
import torch
from lycoris.modules import LoConModule, LohaModule, LokrModule

from lorascope.core import Hadamard, Kronecker, LowRank, Scale
from lorascope.io.modules import Parts, build_module, slots_of
from tests.core.updates import KINDS, made
from tests.io.lyco import added, filled, gap, loaded, quiet, saved
from tests.io.modules.test_build import CASES, LAYERS, parts

ALGORITHMS = [case for case in CASES if CASES[case][0] in (LoConModule, LohaModule, LokrModule)]


@pytest.mark.parametrize("case", ALGORITHMS)
def test_what_lycoris_made_comes_back(case):
    algorithm, kind, options = CASES[case]
    layer = filled(LAYERS[kind](), seed=1)
    with quiet():
        module = filled(algorithm("m", layer, **{"lora_dim": 3, "alpha": 1.5, **options}))
    built = build_module(parts(saved(module, "m")))
    again = build_module(Parts("m", slots_of(built.pair, built.scale), "a file"))
    torch.testing.assert_close(again.pair.dense_weight(), built.pair.dense_weight())
    assert (again.pair.kernel, again.pair.rank) == (built.pair.kernel, built.pair.rank)
    if type(again.pair) is type(built.pair):
        assert (again.scale.alpha, again.scale.rank) == (built.scale.alpha, built.scale.rank)
    else:
        assert isinstance(built.pair, Hadamard) and built.pair.kernel  # noqa: PT018


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_every_update_comes_back(kind, kernel, generator):
    update = made(kind, generator, kernel)
    slots = slots_of(update)
    assert all(tensor.is_contiguous() for tensor in slots.values())
    again = build_module(Parts("m", slots, "a file")).pair
    torch.testing.assert_close(again.dense_weight(), update.dense_weight())
    assert again.rank == update.rank
    if isinstance(update, Kronecker):
        assert isinstance(again, Kronecker)
        assert (again.w1.shape, again.w2.shape) == (update.w1.shape, update.w2.shape)


def test_lycoris_loads_what_is_written():
    layer = filled(LAYERS["linear"](), seed=1)
    draw = torch.Generator().manual_seed(2)
    n, m = layer.weight.shape
    halves = [
        LowRank(torch.randn(n, 2, generator=draw), torch.randn(m, 2, generator=draw))
        for _ in range(2)
    ]
    pair = LowRank(torch.randn(n // 4, 2, generator=draw), torch.randn(m // 4, 2, generator=draw))
    for update in (Hadamard(*halves), Kronecker(torch.randn(4, 4, generator=draw), pair)):
        slots = slots_of(update, Scale(1.0, 2, 0.5, "alpha/r"))
        tensors = {f"m.{slot}": tensor for slot, tensor in slots.items()}
        assert gap(update, added(loaded(tensors, "m", layer), layer)) < 1e-5
        assert slots["alpha"] == 1.0


def test_the_alpha_of_two_whole_factors_counts_for_nothing_and_is_kept():
    update = Kronecker(torch.ones(2, 2), torch.ones(3, 3))
    slots = slots_of(update, Scale(7.0, 1, 1.0, "1 (two whole factors)"))
    assert slots["alpha"] == 7.0
    assert "alpha" not in slots_of(update)
    torch.testing.assert_close(slots["lokr_w1"], update.w1)


def test_rank_zero_is_written_as_a_column_of_zeros():
    slots = slots_of(LowRank(torch.zeros(3, 0), torch.zeros(2, 0)))
    assert {slot: tuple(t.shape) for slot, t in slots.items()} == {
        "down": (1, 2), "up": (3, 1), "alpha": ()}  # fmt: skip
