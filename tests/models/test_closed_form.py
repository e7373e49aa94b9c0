"""Models in closed form: what they refuse, labels as columns, a study that several targets share."""

import pytest
import torch

from lorascope.core import Symmetry, collate
from lorascope.errors import DataError, TrainingError
from lorascope.models.build import MODELS, build_model, model_options
from lorascope.models.closed_form import ClosedForm, Labels, Study
from tests.conftest import random_lora
from tests.models.signs import signed_loras

CLOSED = sorted(name for name, kind in MODELS.items() if issubclass(kind, ClosedForm))
CHOOSING = [name for name in CLOSED if "choose_by" in model_options(name)]
BATCH, CLASSES, SIZE = signed_loras(60)


class Nothing(ClosedForm):
    """A closed-form model without an answer."""

    name = "nothing"
    symmetry = Symmetry.GL


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(4)])


def test_what_a_subclass_must_fill_says_so(batch):
    model = Nothing(batch.signature, 1, rank=3, choose_by="left_out")
    with pytest.raises(NotImplementedError, match="Nothing must fill study"):
        model.fit(batch, torch.zeros(4, 1), kind="regression")
    assert model.dtype == torch.float32  # without weights, torch's default
    with pytest.raises(TrainingError, match="it has not been fitted"):
        model.require_fitted(torch.zeros(0))
    study = Study(4, ())
    with pytest.raises(NotImplementedError, match="Nothing must fill solve"):
        model.solve(study, Labels(torch.zeros(4, 1), "regression", torch.arange(4)))


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


def test_a_result_of_a_study_is_made_once():
    study, made = Study(3, ()), []

    def make():
        made.append(1)
        return len(made)

    assert [study.once("a", make), study.once("a", make), study.once("b", make)] == [1, 1, 2]


@pytest.mark.parametrize("choose_by", ["left_out", "validation"])
@pytest.mark.parametrize("name", CHOOSING)
def test_a_shared_study_solves_as_each_fit_alone(name, choose_by):
    train, held = BATCH.select(slice(0, 40)), BATCH.select(slice(40, 60))
    targets = {"regression": SIZE.double(), "multilabel": CLASSES.double()}
    first = build_model(name, BATCH.signature, 1, rank=3, choose_by=choose_by)
    study = first.study(train, held)
    for kind, y in targets.items():
        model, alone = (
            build_model(name, BATCH.signature, y.shape[1], rank=3, choose_by=choose_by)
            for _ in range(2)
        )
        model.adopt(first)
        beside = (torch.arange(20), y[40:]) if choose_by == "validation" else None
        model.solve(study, Labels(y[:40], kind, torch.arange(40), held=beside))
        alone.fit(train, y[:40], kind=kind, validation=(held, y[40:]))
        torch.testing.assert_close(model(held), alone(held))


@pytest.mark.parametrize("name", CLOSED)
def test_a_study_serves_rows_that_have_a_label(name):
    """What is left out is not kept, and nothing of it but statistics of the inputs speaks."""
    rows = torch.arange(0, 50, 2)
    first = build_model(name, BATCH.signature, 1, rank=3)
    study = first.study(BATCH.select(slice(0, 50)))
    model, alone = (build_model(name, BATCH.signature, 1, rank=3) for _ in range(2))
    model.adopt(first)
    model.solve(study, Labels(SIZE[rows].double(), "regression", rows))
    alone.fit(BATCH.select(rows), SIZE[rows], kind="regression")
    held = BATCH.select(slice(50, 60))
    assert bool(model(held).isfinite().all())
    for key, tensor in model.state_dict().items():
        if name == "fusion":
            continue  # its landmarks are drawn from all LoRAs of the study, labelled or not
        assert tensor.shape == alone.state_dict()[key].shape
    if name in ("kernel_raw", "kernel_cosine"):  # which store no statistics
        torch.testing.assert_close(model(held), alone(held))
