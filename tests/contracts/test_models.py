"""Contract B: what every model in the table owes its users, in float64 at 1e-9.

The LoRAs have several shape groups, a convolution, ragged ranks. Every model is prepared or fitted on
some of them first, so that statistics, templates and landmarks are real. They come in four kinds of two
sizes, which the labels name: so a fitted model has learned something, and its outputs differ.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorascope.core import MAGNITUDE, LoRA, LoRABatch, LowRank, Side, Symmetry, collate
from lorascope.errors import RankError, SignatureError
from lorascope.models import MODELS, ClosedForm, Model, build_model, select_features
from lorascope.symmetry import assert_invariant, invariance_error
from tests.conftest import random_lora, random_pair
from tests.core.test_magnitudes import with_magnitudes

TOLERANCE = 1e-9
RANK = 4  # what the models are built for; the LoRAs have less, so that padding is tested
OUTPUTS = 3
SMALL = {"mlp": {"hidden": 16}, "o_align": {"hidden": 16}, "svd": {"hidden": 16}}
SMALL |= {"dense": {"hidden": 16}, "transformer": {"width": 16, "depth": 1, "heads": 2}}
SMALL |= {"w2t": {"width": 16, "depth": 1, "heads": 2}, "sketch": {"size": 4}}
SMALL |= {
    "mvprobe": {"probes": 4, "hidden": 4, "width": 8, "head": 16},
    "deep_sets": {"hidden": 16, "width": 8, "head": 16},
}


def draw(count: int, seed: int, rank: int = 3) -> list[LoRA]:
    """LoRAs of four kinds in turn, noise of their own around each kind's factors."""
    kinds = [random_lora(torch.Generator().manual_seed(k), rank=rank) for k in range(4)]
    generator = torch.Generator().manual_seed(seed)

    def vary(pair: LowRank) -> LowRank:
        u, v = (x + 0.3 * torch.randn(x.shape, generator=generator) for x in (pair.u, pair.v))
        return replace(pair, u=u, v=v)

    return [kinds[i % 4].map(vary) * (1.0 + i % 2) for i in range(count)]


TRAINING = draw(16, seed=1)
LABELS = torch.tensor([[i % 2, i % 4 == 0, (i % 4) / 3] for i in range(16)]).double()
LORAS = draw(5, seed=2)
BATCH = collate(LORAS)


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> Model:
    return train(request.param)


def train(name: str, loras: list[LoRA] = TRAINING) -> Model:
    batch = collate(loras)
    options = SMALL.get(name, {})
    model = build_model(name, batch.signature, OUTPUTS, rank=RANK, seed=0, **options).double()
    if isinstance(model, ClosedForm):
        model.fit(batch, LABELS, kind="regression")
    else:
        model.prepare(batch)
        shake(model)
    return model.eval()


def telling(lora: LoRA, labels: Tensor) -> LoRA:
    """The LoRA with magnitudes that are its labels, over and over."""
    side = {
        f"{name}.{MAGNITUDE}": Side(MAGNITUDE, 1 + labels.repeat(pair.n)[: pair.n])
        for name, pair in lora.layers.items()
    }
    return replace(lora, side=side)


def shake(model: Model) -> None:
    """Moves every parameter off its initial value: a zero or a one would hide what it multiplies."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def assert_close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-3))


def test_outputs_tell_loras_apart(model: Model) -> None:
    out = model(BATCH)
    assert out.shape == (len(LORAS), OUTPUTS)
    assert out.dtype == torch.float64
    assert float(out.detach().std(0).min()) > 1e-2


def test_same_answer_alone_or_in_a_batch(model: Model) -> None:
    together = model(BATCH)
    assert_close(torch.cat([model(collate([lora])) for lora in LORAS]), together)


def test_features_can_be_computed_once_and_gathered(model: Model) -> None:
    rows = torch.tensor([3, 0])
    gathered = select_features(model.features(BATCH), rows)
    assert_close(model.score(gathered), model(BATCH)[rows])


def test_zero_columns_change_nothing(model: Model) -> None:
    expected = model(BATCH)
    top = model.max_rank or RANK + 3
    assert_close(model(BATCH.pad(top)), expected)
    written_out = [lora.map(lambda pair: pair.pad(top)) for lora in LORAS]
    assert_close(model(collate(written_out)), expected)
    assert_close(model(BATCH.pad(top + 2)), expected)  # padding above the maximum is still padding


def test_ranks_above_the_maximum_are_refused(model: Model) -> None:
    above = (model.max_rank or RANK) + 1
    batch = collate(draw(2, seed=5, rank=above))
    if model.max_rank is None:
        assert bool(model(batch).isfinite().all())
        return
    with pytest.raises(RankError, match=rf"'b\.0\.q' has rank {above}.*at most {model.max_rank}"):
        model(batch)


def test_order_of_layers_in_the_file_does_not_matter(model: Model) -> None:
    turned = [replace(x, layers=dict(reversed(list(x.layers.items())))) for x in LORAS]
    assert list(turned[0].layers) != list(LORAS[0].layers)
    assert_close(model(collate(turned, signature=model.signature)), model(BATCH))


def test_declared_symmetry_holds(model: Model) -> None:
    assert_invariant(model, BATCH, group=model.symmetry, tolerance=TOLERANCE)


def test_declared_symmetry_holds_for_one_lora_at_a_time(model: Model) -> None:
    def function(lora: LoRA) -> Tensor:
        return model(collate([lora], signature=model.signature))

    assert_invariant(function, LORAS[0], group=model.symmetry, tolerance=TOLERANCE)


def test_what_is_not_declared_really_breaks(model: Model) -> None:
    larger = [group for group in Symmetry if group > model.symmetry]
    for group in larger:
        assert invariance_error(model, BATCH, group=group).error > 1e-3
    assert model.symmetry is not Symmetry.GL or not larger


def test_rank_one(model: Model) -> None:
    generator = torch.Generator().manual_seed(6)
    shapes = [(layer.name, layer.n, layer.m) for layer in model.signature.layers]
    loras = [
        LoRA({name: random_pair(n, m, 1, generator) for name, n, m in shapes}) for _ in range(3)
    ]
    batch = collate(loras)
    assert batch.rank == 1
    assert_invariant(model, batch, group=model.symmetry, tolerance=TOLERANCE)
    assert_close(torch.cat([model(collate([lora])) for lora in loras]), model(batch))


def test_repeated_singular_values(model: Model) -> None:
    generator = torch.Generator().manual_seed(7)

    def orthonormal(pair: LowRank) -> LowRank:
        u, v = (torch.randn(x.shape, generator=generator).double() for x in (pair.u, pair.v))
        return replace(pair, u=torch.linalg.qr(u).Q, v=torch.linalg.qr(v).Q)

    batch = collate([lora.map(orthonormal) for lora in LORAS])
    assert_close(model(batch.select([1])), model(batch)[1:2])
    if model.breaks:  # said, and true
        assert model.breaks == "equal singular values"
        assert model.breaks in (type(model).__doc__ or "")
        assert invariance_error(model, batch, group=model.symmetry).error > 1e-3
        return
    assert_invariant(model, batch, group=model.symmetry, tolerance=TOLERANCE)


def test_pairs_below_their_own_rank(model: Model) -> None:
    """Two equal columns: a singular value that is zero up to rounding."""

    def double(pair: LowRank) -> LowRank:
        return replace(pair, u=pair.u[:, [0] * pair.rank], v=pair.v)

    batch = collate([lora.map(double) for lora in LORAS])
    assert bool(model(batch).isfinite().all())
    if model.symmetry is Symmetry.GL:
        assert_invariant(model, batch, tolerance=1e-7)  # rounding divided by the zero value's floor


def test_missing_layers(model: Model) -> None:
    partial = LORAS[0].select([name for name in LORAS[0].layers if name != "b.1.q"])
    batch = collate([partial, *LORAS[1:]], signature=model.signature, allow_missing=True)
    if not model.accepts_missing:
        with pytest.raises(SignatureError, match=r"LoRA 0 of the batch lacks layer 'b\.1\.q'"):
            model(batch)
        return
    out = model(batch)
    assert bool(out.isfinite().all())
    assert_close(out[1:], model(BATCH)[1:])
    assert_close(model(batch.select([0])), out[:1])
    if "Piecewise constant" not in (type(model).__doc__ or ""):
        assert float((out[0] - model(BATCH)[0]).detach().abs().max()) > 1e-6
    assert_invariant(model, batch, group=model.symmetry, tolerance=TOLERANCE)


def test_magnitudes_are_read_by_those_that_say_so(model: Model) -> None:
    """Trained without any, no model depends on them; trained with some, those that accept them do."""
    generator = torch.Generator().manual_seed(5)
    dora = collate([with_magnitudes(lora, generator) for lora in LORAS])
    assert not model.reads_magnitudes
    assert torch.equal(model(dora), model(BATCH))
    found = train(model.name, [telling(x, y) for x, y in zip(TRAINING, LABELS, strict=True)])
    assert found.reads_magnitudes == model.accepts_magnitudes
    out, without = found(dora), found(BATCH)
    assert bool(out.isfinite().all() and without.isfinite().all())
    if not model.accepts_magnitudes:
        assert torch.equal(out, without)
        return
    assert float((out - without).detach().abs().max()) > 1e-3
    assert_invariant(found, dora, group=found.symmetry, tolerance=TOLERANCE)
    again = build_model(found.name, found.signature, OUTPUTS, rank=RANK, **found.options).double()
    again.load_state_dict(found.state_dict())
    assert torch.equal(again(dora), out)


def test_a_lora_without_any_layer(model: Model) -> None:
    batch = collate([LORAS[0], LoRA({})], signature=model.signature, allow_missing=True)
    if not model.accepts_missing:
        with pytest.raises(SignatureError, match="LoRA 1 of the batch lacks"):
            model(batch)
        return
    assert bool(model(batch).isfinite().all())


def test_a_zero_update_is_a_value(model: Model) -> None:
    """PEFT starts at u = 0: such a file is a LoRA like any other."""
    zero = LORAS[0].map(lambda pair: replace(pair, u=torch.zeros_like(pair.u)))
    out = model(collate([zero, LORAS[1]]))
    assert bool(out.isfinite().all())
    assert_close(out[1], model(BATCH)[1])


def test_gradients_are_finite(model: Model) -> None:
    if isinstance(model, ClosedForm):
        assert model.parameter_count == 0  # solved: nothing for an optimiser to move
        return
    zero = LORAS[0].map(lambda pair: replace(pair, u=torch.zeros_like(pair.u)))
    loras = [zero, *LORAS[1:]]
    if model.accepts_missing:
        loras.append(LORAS[0].select(["b.0.v"]))
    model.train()
    model.zero_grad()
    model(collate(loras, signature=model.signature, allow_missing=True)).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.eval()
    assert gradients
    assert all(bool(g.isfinite().all()) for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 0


def test_half_precision_input(model: Model) -> None:
    half = BATCH.to(dtype=torch.bfloat16)
    assert_close(model(half), model(half.to(dtype=torch.float64)))


def test_float32(model: Model) -> None:
    """The contract in the precision that users run, at the tolerance that it allows."""
    single = build_model(
        model.name, model.signature, OUTPUTS, rank=model.rank, seed=1, **model.options
    ).eval()
    single.load_state_dict(model.state_dict())
    out = single(BATCH.to(dtype=torch.float32))
    assert out.dtype == torch.float32
    assert_close(out.double(), model(BATCH), 2e-3)


def test_empty_batch(model: Model) -> None:
    assert model(collate([], signature=model.signature)).shape == (0, OUTPUTS)


def test_other_layers_are_refused(model: Model) -> None:
    other = [replace(x, layers={**x.layers, "b.1.q": x.layers["b.0.v"]}) for x in LORAS]
    with pytest.raises(SignatureError, match=r"expected layer 'b\.1\.q' \(8 x 6\).*\(5 x 6\)"):
        model(collate(other))
    fewer = collate([x.select(["b.0.q", "b.0.v"]) for x in LORAS])
    with pytest.raises(SignatureError, match="expected 4 layers, found 2"):
        model(fewer)


def test_the_state_dict_and_the_options_are_the_model(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    options = json.loads(json.dumps(model.options))
    again = build_model(
        model.name, model.signature, OUTPUTS, rank=model.rank, seed=9, **options
    ).double()
    again.load_state_dict(load_file(path))
    assert torch.equal(again.eval()(BATCH), model(BATCH))


def test_inputs_are_left_alone(model: Model) -> None:
    before = [x.clone() for group in BATCH.groups for x in (group.u, group.v)]
    model(BATCH)
    after = [x for group in BATCH.groups for x in (group.u, group.v)]
    assert all(map(torch.equal, before, after))


def test_the_docstring_says_what_a_model_is(model: Model) -> None:
    text = type(model).__doc__ or ""
    for word in ("Under g:", "Symmetry:", "Equation:", "Source:", "Cost:"):
        assert word in text, f"{type(model).__name__} says nothing about {word}"
    assert "Parameters:" in text or "Numbers learned:" in text
    assert f"Symmetry: {model.symmetry.value}" in text


def test_the_table_names_each_model_by_its_own_name() -> None:
    assert {name: kind.name for name, kind in MODELS.items()} == {name: name for name in MODELS}


def test_a_batch_of_the_wrong_kind_is_told_by_its_first_layer() -> None:
    model = train("svd")
    renamed = [LoRA({f"x.{k}": v for k, v in lora.layers.items()}) for lora in LORAS]
    batch: LoRABatch = collate(renamed)
    with pytest.raises(SignatureError, match=r"expected layer 'b\.0\.q'.*found 'x\.b\.0\.q'"):
        model(batch)
