"""The base class: checks, gathering of features, fitted buffers."""

import pytest
import torch

from lorascope.core import LoRA, Symmetry, collate
from lorascope.errors import DataError, SignatureError
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


def test_a_score_must_be_filled(batch):
    class Silent(Norms):
        score = Model.score

    model = Silent(batch.signature, 1, rank=3)
    with pytest.raises(NotImplementedError, match="Silent must fill score"):
        model(batch)
