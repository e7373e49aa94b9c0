"""The table of models: names, options, seeds, and the examples in their docstrings."""

import doctest
import importlib
import json
import pkgutil

import pytest
import torch

import lorascope.models
from lorascope.core import collate
from lorascope.errors import DataError
from lorascope.models.build import DEFAULT, MODELS, build_model, model_name, model_options, restrict
from lorascope.models.closed_form import ClosedForm
from tests.conftest import random_lora

NAMES = {
    "fusion",
    "mlp",
    "o_align",
    "svd",
    "dense",
    "gl_net",
    "transformer",
    "w2t",
    "mvprobe",
    "deep_sets",
    "ridge",
    "spectral_statistics",
    "spectra_knn",
    "sketch",
    "kernel_raw",
    "kernel_cosine",
    "kernel_spectra",
    "kernel_product",
}


@pytest.fixture
def batch(generator):
    return collate([random_lora(generator) for _ in range(3)], dtype=torch.float32)


def test_the_table_holds_all_models():
    assert set(MODELS) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_options_are_plain_data_and_complete(name, batch):
    model = build_model(name, batch.signature, 2, rank=3)
    assert model.options == model_options(name)
    assert json.loads(json.dumps(model.options)) == model.options


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_seed_draws_the_weights_and_nothing_else(name, batch):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build_model(name, batch.signature, 2, rank=3, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
    if one.parameter_count:
        assert any(
            not torch.equal(value, other.state_dict()[key])
            for key, value in one.state_dict().items()
        )


def test_unknown_names_and_options_say_what_there_is(batch):
    with pytest.raises(
        DataError, match=r"found the name 'cnn', expected auto or one of deep_sets, dense, fusion"
    ):
        build_model("cnn", batch.signature, 1, rank=3)
    with pytest.raises(
        DataError, match=r"'mlp': found the option 'layers', expected one of hidden"
    ):
        build_model("mlp", batch.signature, 1, rank=3, layers=3)


def test_auto_stands_for_the_default_and_is_stored_by_its_own_name(batch):
    assert build_model("auto", batch.signature, 1, rank=3).name == model_name("auto") == DEFAULT
    assert model_options("auto") == model_options(DEFAULT)
    assert model_name("ridge") == "ridge"


@pytest.mark.parametrize(
    "module", [m.name for m in pkgutil.iter_modules(lorascope.models.__path__)]
)
def test_the_examples_in_docstrings_run(module, batch):
    names = {"torch": torch, "batch": batch, "signature": batch.signature}
    source = importlib.import_module(f"lorascope.models.{module}")
    for test in doctest.DocTestFinder().find(source, extraglobs=names):
        output = []
        doctest.DocTestRunner().run(test, out=output.append)
        assert not output, "".join(output)


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("columns", [slice(1, 2), slice(0, 3)])
def test_some_of_the_outputs_are_the_same_outputs(name, columns, batch):
    model = build_model(name, batch.signature, 3, rank=3, seed=0)
    if isinstance(model, ClosedForm):  # as many LoRAs as outputs: the two must not be mixed up
        y = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [2.0, 0.0, 1.0]])
        model.fit(batch, y, kind="regression")
    else:
        model.prepare(batch)
    model.eval()
    few = restrict(model, columns)
    assert few.out_features == columns.stop - columns.start
    assert not few.training
    assert few.name == name
    torch.testing.assert_close(few(batch), model(batch)[:, columns])
