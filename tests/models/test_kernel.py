"""Kernel models: kernels against dense formulas, what each can learn, logits, what they store."""

import pytest
import torch

from lorascope.core import collate
from lorascope.errors import DataError, TrainingError
from lorascope.models.kernel import KernelCosine, KernelProduct, KernelRaw, KernelSpectra
from tests.models.signs import signed_loras

BATCH, CLASSES, SIZE = signed_loras(200)
LORAS = BATCH.unbind()
# what the size is worth depends on a direction: neither sum nor size alone tells it
MIXED = SIZE * (2 * CLASSES[:, :1] - 1)
TRAIN, TEST = slice(0, 140), slice(140, 200)
KINDS = (KernelRaw, KernelCosine, KernelSpectra, KernelProduct)


def fitted(kind_of_model, y, kind, **options):
    model = kind_of_model(BATCH.signature, y.shape[1], rank=3)
    model.fit(BATCH.select(TRAIN), y[TRAIN], kind=kind, **options)
    return model


def r2(model, y):
    error = (model(BATCH.select(TEST)) - y[TEST]).square().mean()
    return 1 - float(error / y[TEST].var(correction=0))


def accuracy(model):
    return float(((model(BATCH.select(TEST)) > 0) == (CLASSES[TEST] > 0.5)).float().mean())


def dense_kernels(rows, columns):
    """Inner products and mean cosines by dense matrices."""
    raw = torch.zeros(len(rows), len(columns))
    cosine = torch.zeros(len(rows), len(columns))
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            inner = [(a[n].dense() * b[n].dense()).sum() for n in a.layers]
            sizes = [a[n].dense().norm() * b[n].dense().norm() for n in a.layers]
            raw[i, j] = sum(inner)
            cosine[i, j] = sum(x / s for x, s in zip(inner, sizes, strict=True)) / len(inner)
    return raw, cosine


def test_kernels_equal_their_dense_formulas():
    raw, cosine = dense_kernels(LORAS[150:154], LORAS[:20])
    batch, training, y = BATCH.select(slice(150, 154)), BATCH.select(slice(0, 20)), SIZE[:20]
    models = {}
    for kind in KINDS:
        models[kind] = kind(BATCH.signature, 1, rank=3)
        models[kind].fit(training, y, kind="regression")
    torch.testing.assert_close(models[KernelRaw].features(batch), raw, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(models[KernelCosine].features(batch), cosine, rtol=0, atol=1e-5)
    for kind, factor in ((KernelSpectra, 1.0), (KernelProduct, 1 + cosine)):
        model = models[kind]
        z, landmarks = model.sizes(batch), model.sizes(training)
        distance = (z.unsqueeze(1) - landmarks.unsqueeze(0)).square().sum(2)
        expected = (-model.get_buffer("bandwidth") * distance).exp() * factor
        torch.testing.assert_close(model.features(batch), expected, rtol=1e-4, atol=1e-6)


def test_directions_are_read_by_kernels_of_direction():
    assert accuracy(fitted(KernelCosine, CLASSES, "multilabel")) > 0.95
    assert accuracy(fitted(KernelRaw, CLASSES, "multilabel")) > 0.9
    assert accuracy(fitted(KernelProduct, CLASSES, "multilabel")) > 0.9
    assert accuracy(fitted(KernelSpectra, CLASSES, "multilabel")) < 0.65


def test_sizes_are_read_by_kernels_of_size():
    assert r2(fitted(KernelSpectra, SIZE, "regression"), SIZE) > 0.9
    assert r2(fitted(KernelProduct, SIZE, "regression"), SIZE) > 0.9
    assert r2(fitted(KernelCosine, SIZE, "regression"), SIZE) < 0.3


def test_the_product_reads_a_direction_that_turns_a_size():
    product = r2(fitted(KernelProduct, MIXED, "regression"), MIXED)
    assert product > 0.7
    assert product > r2(fitted(KernelSpectra, MIXED, "regression"), MIXED) + 0.1
    assert product > r2(fitted(KernelCosine, MIXED, "regression"), MIXED) + 0.1


def test_classes_get_logits_that_are_probabilities():
    strongest = (CLASSES * torch.tensor([3.0, 2.0, 1.0])).argmax(1)
    model = KernelCosine(BATCH.signature, 3, rank=3)
    model.fit(BATCH.select(TRAIN), strongest[TRAIN], kind="multiclass")
    out = model(BATCH.select(TEST))
    assert float((out.argmax(1) == strongest[TEST]).float().mean()) > 0.85
    loss = float(torch.nn.functional.cross_entropy(out, strongest[TEST]))
    assert loss < 0.5  # sure where right; raw -1 and 1 scores would give about 0.6


def test_no_signal_gives_the_base_rate():
    y = (torch.rand(200, 1, generator=torch.Generator().manual_seed(1)) < 0.25).float()
    for kind in KINDS:
        rate = torch.sigmoid(fitted(kind, y, "multilabel")(BATCH.select(TEST)))
        assert float((rate - y[TRAIN].mean()).abs().max()) < 0.2


def test_groups_are_left_out_together():
    """Twins with a random label each pair shares: nothing can be said of a new pair."""
    twins = collate([lora for lora in LORAS[:60] for _ in range(2)])
    y = torch.randn(60, 1, generator=torch.Generator().manual_seed(2)).repeat_interleave(2, 0)
    groups = torch.arange(60).repeat_interleave(2)
    spread = {}
    for name, given in (("rows", None), ("groups", groups)):
        model = KernelCosine(BATCH.signature, 1, rank=3)
        model.fit(twins, y, kind="regression", groups=given)
        spread[name] = float(model(twins).std())
    assert spread["groups"] < 0.5 * spread["rows"]


@pytest.mark.parametrize("kind", KINDS)
def test_validation_chooses_where_asked(kind):
    model = kind(BATCH.signature, 3, rank=3, choose_by="validation")
    held = (BATCH.select(TEST), CLASSES[TEST])
    model.fit(BATCH.select(TRAIN), CLASSES[TRAIN], kind="multilabel", validation=held)
    assert bool(model(BATCH).isfinite().all())
    with pytest.raises(DataError, match="found no validation LoRAs"):
        model.fit(BATCH.select(TRAIN), CLASSES[TRAIN], kind="multilabel")
    y = SIZE + 2 * CLASSES[:, :1]  # something for each of the kernels
    flat = (BATCH.select(TEST), torch.zeros(60, 1) + y[TRAIN].mean())
    mean = kind(BATCH.signature, 1, rank=3, choose_by="validation")
    mean.fit(BATCH.select(TRAIN), y[TRAIN], kind="regression", validation=flat)
    assert float(mean(BATCH).std()) < 0.5 * float(fitted(kind, y, "regression")(BATCH).std())


def test_numbers_learned_and_stored():
    batch = BATCH.select(slice(0, 10))
    factors = 3 * ((12 + 10) * 2 + 6 + 10)
    stored = {}
    for kind in KINDS:
        model = kind(BATCH.signature, 2, rank=3)
        model.fit(batch, CLASSES[:10, :2], kind="multilabel")
        assert model.parameter_count == 0
        state = model.state_dict()
        assert state["dual"].shape == (10, 2)
        stored[kind] = sum(v.numel() for k, v in state.items() if k.startswith("landmark"))
    assert stored[KernelRaw] == stored[KernelCosine] == 10 * (factors + 3)
    assert stored[KernelSpectra] == 10 * 13
    assert stored[KernelProduct] == 10 * (factors + 3 + 13)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_not_fitted_says_so(kind):
    with pytest.raises(TrainingError, match="it has not been fitted"):
        kind(BATCH.signature, 1, rank=3)(BATCH)


def test_the_training_set_can_change_afterwards():
    training = BATCH.select(torch.arange(30))
    model = KernelProduct(BATCH.signature, 1, rank=3)
    model.fit(training, SIZE[:30], kind="regression")
    before = model(BATCH)
    training.groups[0].u.zero_()
    assert torch.equal(model(BATCH), before)


def test_refitting_forgets_the_last_training_set():
    model = fitted(KernelProduct, SIZE, "regression")
    fresh = KernelProduct(BATCH.signature, 1, rank=3)
    for each in (model, fresh):
        each.fit(BATCH.select(slice(0, 30)), SIZE[:30], kind="regression")
    assert torch.equal(model(BATCH), fresh(BATCH))


def test_equal_loras_do_not_break_the_bandwidth():
    same = collate([LORAS[0]] * 4)
    model = KernelProduct(BATCH.signature, 1, rank=3)
    model.fit(same, torch.tensor([[0.0], [1.0], [2.0], [3.0]]), kind="regression")
    torch.testing.assert_close(model(same), torch.full((4, 1), 1.5))
