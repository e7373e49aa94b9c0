"""Blocks and head in C against the same in torch; skipped where no C compiler works."""

from dataclasses import replace

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.engine.adapter_spec import AdapterSpec
from lorascope.zoo.engine.language import quick
from lorascope.zoo.engine.language.causal_lm import Dropout, Pair
from lorascope.zoo.engine.language.evaluate import choice_log_likelihoods
from lorascope.zoo.engine.language.fit import fit_adapters
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.engine.language.kernels import QUICK, kernels_for
from lorascope.zoo.engine.language.network import EAGER, causal_views, views, visible
from lorascope.zoo.engine.language.ragged import Ragged
from tests.zoo.conftest import make_base, make_job
from tests.zoo.engine.language.test_evaluate import make_choices

pytestmark = pytest.mark.skipif(quick.library() is None, reason="no C compiler")

SIZES = {"hidden_size": 32, "intermediate_size": 40}
WIDE = {"hidden_size": 96, "intermediate_size": 256, "vocab_size": 67}
EVERY = quick.MODULES


def frozen_base(kind="qwen2", **changes):
    """Small, used with kernels, and the same in float64."""
    model = make_base(kind, dtype=torch.float32, **{**SIZES, **changes})
    base = FrozenBase.of(model, torch.float32)
    return replace(base, compiled=True), base.to(torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scene(base, *, rows=12, length=9, lone=False):
    """Views of rows of different lengths, one slot of three without any; some tokens are asked."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    lengths[4:8] = 0
    seen = torch.arange(length) < lengths[:, None]
    places = torch.stack([(lengths - 1).clamp(min=0), (lengths - 2).clamp(min=0)], 1)
    used = torch.stack([lengths > 0, lengths > 1], 1)
    if lone:
        places, used = places[:, :1], used[:, :1]
    tokens, asked = (Ragged.of(each, int(each.sum())) for each in (seen, used))
    return causal_views(base, tokens, asked, places)


def branches(base, rows=6, length=11):
    """Views of rows that fork after three tokens: places and sights of their own."""
    segments = torch.full((rows, length), -1)
    segments[:, 3:7], segments[:, 7:] = 0, 1
    positions = torch.arange(length).repeat(rows, 1)
    positions[:, 7:] -= 4
    positions += torch.arange(rows)[:, None]
    everything = torch.ones(rows, length, dtype=torch.bool)
    places = torch.tensor([6, 10, 2]).expand(rows, -1)
    tokens, asked = Ragged.of(everything, rows * length), Ragged.of(everything[:, :3], rows * 3)
    return views(base, tokens, positions, visible(segments), asked, places)


def adapters(base, names, slots=3, rank=3, dora=False):
    """Pairs in float64 of those modules in each slot, of rank 3, 4, ..., with gains where asked for."""
    pairs = {}
    for i, name in enumerate(names):
        o, m = base.blocks[1].part(name, base.heads).weight.shape
        r = rank + i
        gain = randn(slots, o, seed=i + 70) / 3 if dora else None
        pairs[name] = Pair(
            randn(slots, r, m, seed=i) / 5, randn(slots, o, r, seed=i + 50) / 5, gain
        )
    return pairs


def turned(pairs, change):
    """Pairs of which all parts are changed."""
    return {
        name: Pair(*(None if part is None else change(part) for part in pair))
        for name, pair in pairs.items()
    }


def thinning(base, names, count):
    generator = torch.Generator().manual_seed(4)
    noise = {
        name: torch.randint(
            256,
            (count, base.blocks[1].part(name, base.heads).weight.shape[1]),
            generator=generator,
            dtype=torch.uint8,
        )
        for name in names
    }
    threshold = torch.randint(0, 200, (count, 1), generator=generator).to(torch.uint8)
    return Dropout(noise, threshold, 1 / (1 - threshold.double() / 256))


def outcome(kernels, base, x, pairs, view, dropout, *, strict=True):
    """Output and gradients of a block, of all that goes in; with kernels in C these must compute it."""
    packed = quick.packed(base)
    taken = packed is not None and quick.fits(x.to(base.dtype), packed, {}, view)
    assert taken or kernels is EAGER or not strict
    x = x.to(base.dtype).requires_grad_()
    pairs = turned(pairs, lambda part: part.to(base.dtype).requires_grad_())
    if dropout is not None:
        dropout = dropout._replace(scale=dropout.scale.to(base.dtype))
    y = kernels.block(x, base, 1, pairs, view, dropout)
    parts = [x, *(part for pair in pairs.values() for part in pair if part is not None)]
    return y, *torch.autograd.grad(y, parts, randn(*y.shape, seed=9).to(base.dtype))


def near(found, exact, most=3e-6):
    return all(
        float((a.detach().double() - b.detach()).norm()) <= most * float(b.detach().norm())
        for a, b in zip(found, exact, strict=True)
    )


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("names", [("k_proj", "v_proj"), EVERY, ()])
@pytest.mark.parametrize("make", [scene, branches])
def test_a_block_and_its_gradients_are_those_of_torch(kind, dropped, last, names, make):
    base, exact = frozen_base(kind)
    seen, wide = (make(each) for each in (base, exact))
    view, same = (each.last if last else each.inner for each in (seen, wide))
    x = randn(view.rows.places.shape[1], 32)
    pairs, drop = adapters(base, names), thinning(base, names, len(x)) if dropped else None
    assert near(
        outcome(QUICK, base, x, pairs, view, drop), outcome(EAGER, exact, x, pairs, same, drop)
    )


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("names", [("k_proj", "v_proj"), EVERY])
@pytest.mark.parametrize("rank", [3, 45])
def test_dora_and_its_gradients_are_those_of_torch(kind, dropped, last, names, rank):
    base, exact = frozen_base(kind)
    seen, wide = (scene(each) for each in (base, exact))
    view, same = (each.last if last else each.inner for each in (seen, wide))
    x = randn(view.rows.places.shape[1], 32)
    pairs = adapters(base, names, rank=rank, dora=True)
    drop = thinning(base, names, len(x)) if dropped else None
    assert near(
        outcome(QUICK, base, x, pairs, view, drop), outcome(EAGER, exact, x, pairs, same, drop)
    )


@pytest.mark.parametrize("sizes", [WIDE, {"hidden_size": 64, "intermediate_size": 104}])
def test_widths_of_every_tile_and_many_rows(sizes):
    base, exact = frozen_base(**sizes)
    view, same = (scene(each, rows=48, length=19).inner for each in (base, exact))
    x, pairs = randn(view.rows.places.shape[1], sizes["hidden_size"]), adapters(base, EVERY)
    assert near(
        outcome(QUICK, base, x, pairs, view, None), outcome(EAGER, exact, x, pairs, same, None)
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["k_proj", "gate_proj", "down_proj"])
def test_an_adapter_that_has_diverged_is_seen_and_touches_no_other(name, number):
    base, _ = frozen_base()
    view, pairs = scene(base, rows=9).inner, adapters(base, (name,))
    first = int(view.rows.token[:3].ge(0).sum())  # tokens of the first slot
    x = randn(view.rows.places.shape[1], 32)
    before = outcome(QUICK, base, x, pairs, view, None)
    pairs[name].A[0, 0, 0] = number
    after = outcome(QUICK, base, x, pairs, view, None)
    for found, same in zip(
        after[:2], before[:2], strict=True
    ):  # the output and the input's gradient
        assert not torch.isfinite(found[:first]).all()
        assert torch.equal(found[first:], same[first:])
    for found, same in zip(after[2:], before[2:], strict=True):  # those of A and B
        assert torch.equal(found[1:], same[1:])
    assert not all(torch.isfinite(found[0]).all() for found in after[2:])
    losses = QUICK.head(after[0].detach(), base, torch.zeros(len(x), 1, dtype=torch.int64))
    assert not torch.isfinite(losses[:first]).all()
    assert torch.isfinite(losses[first:]).all()


@pytest.mark.parametrize("names", [("q_proj", "down_proj"), ("o_proj", "up_proj")])
@pytest.mark.parametrize("rank", [31, 40, 64])
@pytest.mark.parametrize("dropped", [False, True])
def test_ranks_up_to_and_beyond_the_widths(names, rank, dropped):
    base, exact = frozen_base()
    view, same = (scene(each).inner for each in (base, exact))
    x, pairs = randn(view.rows.places.shape[1], 32), adapters(base, names, rank=rank)
    drop = thinning(base, names, len(x)) if dropped else None
    assert near(
        outcome(QUICK, base, x, pairs, view, drop), outcome(EAGER, exact, x, pairs, same, drop)
    )


def test_a_slot_of_which_nothing_is_asked_and_rows_as_long_as_may_be():
    base, exact = frozen_base()
    found = []
    for each in (base, exact):
        seen = torch.ones(3, quick.LONGEST, dtype=torch.bool)
        places = torch.full((3, 1), quick.LONGEST - 1)
        used = torch.tensor([[True], [False], [True]])
        tokens, asked = Ragged.of(seen, seen.numel()), Ragged.of(used, 2)
        view = causal_views(each, tokens, asked, places).last
        kernels = QUICK if each is base else EAGER
        x, pairs = randn(seen.numel(), 32), adapters(each, ("k_proj", "gate_proj"))
        found.append(outcome(kernels, each, x, pairs, view, None))
    assert near(*found, 1e-5)


@pytest.mark.parametrize("label", [-1, 40])
def test_a_label_that_is_no_word_is_refused(label):
    base, _ = frozen_base()
    labels = torch.tensor([[1], [label], [3]])
    with pytest.raises(DataError, match=f"found {label}, expected tokens from 0 to 39"):
        QUICK.head(randn(3, 32).float(), base, labels)


def test_the_default_type_of_tensors_does_not_matter():
    base, exact = frozen_base()
    view, same = (scene(each).inner for each in (base, exact))
    x, pairs = randn(view.rows.places.shape[1], 32), adapters(base, EVERY)
    wanted = outcome(EAGER, exact, x, pairs, same, None)
    torch.set_default_dtype(torch.float64)
    try:
        found = outcome(QUICK, base, x, pairs, view, None)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[0].dtype == torch.float32
    assert near(found, wanted)


def test_nothing_is_kept_where_no_backward_follows(monkeypatch):
    base, _ = frozen_base()
    view, pairs = scene(base).inner, adapters(base, ("k_proj",))
    pairs = turned(pairs, lambda part: part.float().requires_grad_())
    monkeypatch.setattr(quick.Told, "keep", lambda *_: pytest.fail("kept"))
    with torch.no_grad():
        y = QUICK.block(randn(view.rows.places.shape[1], 32).float(), base, 1, pairs, view, None)
    assert not y.requires_grad


def test_threads_share_the_slots_and_change_nothing():
    base, _ = frozen_base()
    view, pairs = scene(base).inner, adapters(base, EVERY)
    x, found, before = randn(view.rows.places.shape[1], 32), [], torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(outcome(QUICK, base, x, pairs, view, None))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("sizes", [SIZES, WIDE])
@pytest.mark.parametrize("count", [1, 150])
def test_the_head_and_its_gradient_are_those_of_torch(sizes, count):
    base, exact = frozen_base(**sizes)
    words, width = exact.head.shape
    labels = torch.randint(words, (count, 3), generator=torch.Generator().manual_seed(1))
    results = []
    for kernels, each in ((QUICK, base), (EAGER, exact)):
        x = randn(count, width).to(each.dtype).requires_grad_()
        losses = kernels.head(x, each, labels)
        gradient = randn(*losses.shape, seed=2).to(each.dtype)
        results.append((losses, *torch.autograd.grad(losses, x, gradient)))
    assert near(*results)


def test_which_bases_the_kernels_take(monkeypatch):
    base, exact = frozen_base()
    assert kernels_for(base, quick.LONGEST) is QUICK
    assert kernels_for(base, quick.LONGEST + 1) is EAGER
    assert kernels_for(replace(base, compiled=False), 9) is EAGER
    odd = frozen_base(hidden_size=24)[0]  # heads of 6
    for other in (exact, base.to(torch.bfloat16), odd):
        assert quick.packed(other) is None
    assert quick.packed(base) is quick.packed(base)
    assert kernels_for(replace(odd, compiled=True), 9) is EAGER
    dora, view = adapters(base, ("k_proj",), dora=True), scene(base).inner
    dora = turned(dora, lambda part: part.float())
    assert quick.fits(randn(9, 32).float(), quick.packed(base), dora, view)
    monkeypatch.setattr(quick, "DENSEST", 1000)
    dense = quick.packed(frozen_base()[0])
    assert not quick.fits(randn(9, 32).float(), dense, dora, view)
    assert quick.fits(randn(9, 32).float(), dense, {}, view)
    monkeypatch.setattr(quick, "LARGEST", 1000)
    assert quick.packed(frozen_base()[0]) is None


def test_what_a_kernel_does_not_take_is_computed_by_torch():
    base, exact = frozen_base()
    long = scene(base, rows=3, length=quick.LONGEST + 1).inner
    x, pairs = randn(long.rows.places.shape[1], 32), adapters(base, EVERY)
    assert not quick.fits(x.float(), quick.packed(base), {}, long)
    long_exact = scene(exact, rows=3, length=quick.LONGEST + 1).inner
    found, wanted = (
        outcome(QUICK, each, x, pairs, view, None, strict=False)
        for each, view in ((base, long), (exact, long_exact))
    )
    assert near(found, wanted)


def test_without_a_c_compiler_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr(quick, "compiled_or_none", lambda *_, **__: None)
    base = frozen_base()[0]
    assert quick.library() is None
    assert quick.packed(base) is None
    assert kernels_for(base, 9) is EAGER


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_adapters_and_answers_are_those_of_the_plain_path(kind):
    base, exact = frozen_base(kind)
    spec = AdapterSpec(("k_proj", "v_proj", "down_proj"), rank=3, alpha=8)
    jobs = [make_job(s, examples=30, batch_size=b) for s, b in enumerate((8, 8, 16, 4, 8))]
    fitted = fit_adapters(base, spec, jobs, slots=4)
    plain = fit_adapters(exact, spec, jobs, slots=4)
    for i in range(len(jobs)):
        assert float(plain.to_lora(i).cosine(fitted.to_lora(i))) > 1 - 1e-5
    for by_length in (False, True):
        found, wanted = (
            choice_log_likelihoods(each, spec, fitted, make_choices(), by_length=by_length)
            for each in (base, replace(base, compiled=False))
        )
        assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
