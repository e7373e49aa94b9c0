"""fusion: what it can learn, what it stores, that one map equals its mixtures, many targets at once."""

import pytest
import torch

from lorascope.core import LayerShape, Signature, collate
from lorascope.errors import TrainingError
from lorascope.models.closed_form import Labels
from lorascope.models.fusion import EVEN, LANDMARKED, LINEAR, MIXTURES, Fusion
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(200)
# what the size is worth depends on a direction: neither sum nor size alone tells it
MIXED = SIZE * (2 * CLASSES[:, :1] - 1)
TRAIN, TEST = slice(0, 140), slice(140, 200)


def fitted(y, kind, **options):
    model = Fusion(BATCH.signature, y.shape[1], rank=3, **options)
    model.fit(BATCH.select(TRAIN), y[TRAIN], kind=kind)
    return model


def r2(model, y):
    error = (model(BATCH.select(TEST)) - y[TEST]).square().mean()
    return 1 - float(error / y[TEST].var(correction=0))


def test_directions_sizes_and_their_products_are_learned():
    labels = fitted(CLASSES, "multilabel")
    hits = (labels(BATCH.select(TEST)) > 0) == (CLASSES[TEST] > 0.5)
    assert float(hits.float().mean()) > 0.95
    assert r2(fitted(SIZE, "regression"), SIZE) > 0.9
    assert r2(fitted(MIXED, "regression"), MIXED) > 0.98


def test_classes_are_learned():
    kind = (CLASSES[:, 0] + 2 * CLASSES[:, 1]).long()
    model = Fusion(BATCH.signature, 4, rank=3)
    model.fit(BATCH.select(TRAIN), kind[TRAIN], kind="multiclass")
    found = model(BATCH.select(TEST)).argmax(1)
    assert float((found == kind[TEST]).float().mean()) > 0.95


def test_logits_of_noise_are_the_base_rate():
    noise = (torch.rand(200, 1, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    probabilities = fitted(noise, "multilabel")(BATCH.select(TEST)).sigmoid()
    assert float((probabilities - 0.3).abs().max()) < 0.25


def test_one_map_equals_the_sum_of_its_mixtures():
    """The duals of every mixture against its own kernel, without adding anything up."""
    model = Fusion(BATCH.signature, 1, rank=3, landmarks=60).double()
    batch = BATCH.select(TRAIN).to(dtype=torch.float64)
    study = model.study(batch)
    labels = Labels(SIZE[TRAIN].double(), "regression", torch.arange(140))
    model.solve(study, labels)
    kernels = study.results[labels.key, "kernels"]
    dual = torch.randn(len(MIXTURES), 140, 1, generator=torch.Generator().manual_seed(2)).double()
    model._add_up(kernels, dual)
    expected = model.get_buffer("intercept").clone().expand(140, 1)
    for mixture, a in zip(MIXTURES.values(), dual, strict=True):
        expected = expected + kernels.mixed(mixture) @ a
    torch.testing.assert_close(model(batch), expected, rtol=1e-7, atol=1e-7)


def test_every_kernel_has_a_use():
    assert {name for mixture in MIXTURES.values() for name in mixture} == {
        EVEN,
        *LINEAR,
        *LANDMARKED,
    }


def test_what_is_stored_does_not_grow_with_the_training_set():
    few, many = (Fusion(BATCH.signature, 1, rank=3, landmarks=50, components=8) for _ in range(2))
    few.fit(BATCH.select(slice(0, 60)), SIZE[:60], kind="regression")
    many.fit(BATCH.select(TRAIN), SIZE[TRAIN], kind="regression")
    sizes = [{k: v.shape for k, v in model.state_dict().items()} for model in (few, many)]
    assert sizes[0] == sizes[1]
    assert r2(many, SIZE) > 0.9


def test_a_folder_at_the_shapes_of_stable_diffusion_is_small():
    """64 layers of attention, as in CelebA-LoRA, at the most landmarks and components, ten labels."""
    widths = [(320, 5), (640, 5), (1280, 6)]
    blocks = [n for n, count in widths for _ in range(count)]
    shapes = [
        LayerShape(f"{block}.{attention}.{name}", n, m)
        for block, n in enumerate(blocks)
        for attention, inputs in ((1, n), (2, 768))
        for name, m in (("to_q", n), ("to_v", inputs))
    ]
    assert sum(shape.n + shape.m for shape in shapes) == 99_648
    model = Fusion(Signature(tuple(shapes)), 10, rank=32)
    numbers = sum(b.numel() for b in model.buffers() if b.numel())
    numbers += model.cores.widths[0] * model.most_components
    numbers += 1000 * (model.get_buffer("sizes").shape[0] + model.most_components)
    assert 4 * numbers + 8 * 5 * 10 * 1000 < 50e6


def test_few_loras_and_other_ranks():
    model = Fusion(BATCH.signature, 1, rank=3)
    model.fit(BATCH.select(slice(0, 5)), SIZE[:5], kind="regression")
    lower = collate([lora.truncate(1).lora for lora in BATCH.select(TEST).unbind()])
    assert bool(model(lower).isfinite().all())
    assert bool(model(BATCH.select(TEST)).isfinite().all())


def test_other_ranks_keep_their_labels():
    model = fitted(CLASSES, "multilabel")
    cut = collate([lora.truncate(2).lora for lora in BATCH.select(TEST).unbind()])
    hits = (model(cut) > 0) == (CLASSES[TEST] > 0.5)
    assert float(hits[:, :2].float().mean()) > 0.9  # of the directions that are left


def test_targets_share_a_study_and_rows_may_lack_a_label():
    model = Fusion(BATCH.signature, 1, rank=3)
    study = model.study(BATCH.select(TRAIN))
    rows = torch.arange(0, 140, 2)
    other = Fusion(BATCH.signature, 1, rank=3)
    other.adopt(model)
    other.solve(study, Labels(SIZE[TRAIN][rows].double(), "regression", rows))
    assert r2(other, SIZE) > 0.85


def test_groups_are_left_out_together():
    """Twins of one group that share a random label: alone left out, the twin would tell it."""
    rows = torch.arange(70).repeat(2)
    batch = BATCH.select(rows)
    noise = torch.randn(70, 1, generator=torch.Generator().manual_seed(3))[rows]
    model = Fusion(BATCH.signature, 1, rank=3)
    model.fit(batch, noise, kind="regression", groups=rows)
    assert float(model(BATCH.select(TEST)).std()) < 0.5


def test_before_it_is_fitted_it_says_so():
    with pytest.raises(TrainingError, match="has not been fitted"):
        Fusion(BATCH.signature, 1, rank=3)(BATCH)
