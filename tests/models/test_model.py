"""The base class: checks, gathering of features, fitted buffers, what closed-form models refuse."""

import pytest
import torch

from lorascope.core import LoRA, Symmetry, collate
from lorascope.errors import DataError, SignatureError, TrainingError
from lorascope.models.closed_form import ClosedForm
from lorascope.models.model import Model, select_features
from tests.conftest import random_lora


class Norms(Model):
    """The least model: a weight per layer on what a training batch has fixed."""

    name = "norms"
    symmetry = Symmetry.GL

    def __init__(self, signature, out_features, *, rank, **options):
        super().__init__(signature, out_features, rank=rank, options=options)
        self.weight = torch.nn.Parameter(torch.ones(len(signature), out_features))
        self.register_fitted("seen", torch.zeros(0, len(signature)))

    def score(self, features):
        return features.ranks.to(self.dtype) @ self.weight


class Nothing(ClosedForm):
    """A closed-form model without an answer."""

    name = "nothing"
    symmetry = Symmetry.GL


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(4)])


def test_the_default_features_are_the_batch(batch):
    model = Norms(batch.signature, 2, rank=3)
    model.prepare(batch)
    assert model.features(batch) is batch
    assert model(batch).tolist() == [[9.0, 9.0]] * 4
    assert model.parameter_count == 8
    assert model.device.type == "cpu"


def test_features_are_gathered_by_rows_and_slices(batch):
    tensor = torch.arange(8.0).view(4, 2)
    rows = torch.tensor([2, 0])
    pair = select_features((batch, tensor), rows)
    assert torch.equal(pair[0].ranks, batch.ranks[rows])
    assert torch.equal(pair[1], tensor[rows])
    assert torch.equal(select_features(tensor, slice(1, 3)), tensor[1:3])
    assert select_features(batch, slice(1, 3)).size == 2


@pytest.mark.parametrize(("rank", "outputs"), [(0, 1), (1, 0)])
def test_impossible_sizes_are_refused(batch, rank, outputs):
    with pytest.raises(DataError, match="each must be at least 1"):
        Norms(batch.signature, outputs, rank=rank)


def test_a_signature_without_layers_is_refused():
    with pytest.raises(DataError, match="0 layers"):
        Norms(collate([LoRA({})]).signature, 1, rank=1)


def test_missing_layers_name_the_lora_and_the_layer(batch):
    lora = batch.unbind()[0]
    partial = collate([lora, lora.select(["b.0.q"])], signature=batch.signature, allow_missing=True)
    with pytest.raises(SignatureError, match=r"LoRA 1 .* lacks layer 'b\.0\.v'.*needs all 4"):
        Norms(batch.signature, 1, rank=3)(partial)


def test_fitted_buffers_take_the_shape_that_is_stored(batch):
    trained = Norms(batch.signature, 1, rank=3)
    trained.register_fitted("seen", torch.randn(7, 4))
    again = Norms(batch.signature, 1, rank=3)
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again.seen, trained.seen)
    with pytest.raises(RuntimeError, match="size mismatch for seen"):
        again.load_state_dict({**trained.state_dict(), "seen": torch.zeros(4)})
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        Norms(batch.signature, 2, rank=3).load_state_dict(trained.state_dict())


def test_what_a_subclass_must_fill_says_so(batch):
    model = Nothing(batch.signature, 1, rank=3, choose_by="left_out")
    with pytest.raises(NotImplementedError, match="Nothing must fill score"):
        model(batch)
    with pytest.raises(NotImplementedError, match="Nothing must fill study"):
        model.fit(batch, torch.zeros(4, 1), kind="regression")
    assert model.dtype == torch.float32  # without weights, torch's default
    with pytest.raises(TrainingError, match="it has not been fitted"):
        model.require_fitted(torch.zeros(0))


def test_labels_become_float64_columns(batch):
    model = Nothing(batch.signature, 3, rank=3, choose_by="left_out")
    classes = torch.tensor([0, 2, 1, 2])
    one_hot = model.targets(batch, classes, "multiclass")
    assert one_hot.dtype == torch.float64
    assert one_hot.argmax(1).tolist() == classes.tolist()
    assert torch.equal(model.targets(batch, one_hot.float(), "multiclass"), one_hot)
    single = Nothing(batch.signature, 1, rank=3, choose_by="left_out")
    assert single.targets(batch, torch.arange(4), "regression").shape == (4, 1)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(3, 3), r"labels of shape \(3, 3\) for 4 LoRAs, expected \(4, 3\)"),
        (torch.zeros(4, 2), r"expected \(4, 3\)"),
        (torch.tensor([[0.0] * 3] * 3 + [[float("nan")] * 3]), "label of LoRA 3 is not a finite"),
    ],
)
def test_labels_that_cannot_be_used(batch, y, message):
    model = Nothing(batch.signature, 3, rank=3, choose_by="left_out")
    with pytest.raises(DataError, match=message):
        model.targets(batch, y, "multilabel")


def test_validation_is_used_where_asked_for(batch):
    y = torch.zeros(4, 1)
    by_loo = Nothing(batch.signature, 1, rank=3, choose_by="left_out")
    assert by_loo.held_out((batch, y), "regression") is None
    by_validation = Nothing(batch.signature, 1, rank=3, choose_by="validation")
    assert by_validation.options == {"choose_by": "validation"}
    held = by_validation.held_out((batch, y), "regression")
    assert held is not None
    assert held[1].shape == (4, 1)
    with pytest.raises(DataError, match="found no validation LoRAs"):
        by_validation.held_out(None, "regression")
    with pytest.raises(DataError, match="found choose_by='luck', expected one of left_out"):
        Nothing(batch.signature, 1, rank=3, choose_by="luck")
