import json
import math
import multiprocessing
import os
import shutil

import pytest
import torch

from lorascope.core import LoRA, LowRank
from lorascope.core.lora import Provenance
from lorascope.errors import FileError, IntegrityError, MissingExtraError
from lorascope.io.processes import DIED
from lorascope.io.write import write_lora
from lorascope.models.build import build_model
from lorascope.predict import many as many_module
from lorascope.predict.many import (
    Answer,
    Clock,
    Question,
    ask,
    open_results,
    predict_many,
)
from lorascope.predict.prediction import Prediction
from lorascope.predict.predictor import Predictor
from lorascope.predict.target import Target

SIZES = {"model.layers.0.q_proj": (8, 6), "model.layers.0.v_proj": (5, 6)}


def lora(seed, sizes=SIZES):
    draw = torch.Generator().manual_seed(seed)
    layers = {
        name: LowRank(torch.randn(n, 2, generator=draw), torch.randn(m, 2, generator=draw))
        for name, (n, m) in sizes.items()
    }
    return LoRA(layers, provenance=Provenance(base="tiny"))


@pytest.fixture
def paths(tmp_path):
    """Nine adapters, of which the sixth has other layers, and a file that is none."""
    made = []
    for number in range(9):
        sizes = {"model.layers.0.k_proj": (8, 6)} if number == 5 else SIZES
        made.append(tmp_path / "in" / f"{number}")
        write_lora(lora(number, sizes), made[-1])
    broken = tmp_path / "in" / "9.safetensors"
    broken.write_bytes(b"<!DOCTYPE html>")
    return [*made, broken]


@pytest.fixture
def folder(tmp_path):
    """A predictor whose weights are as they were drawn."""
    model = build_model("svd", lora(0).signature(), 1, rank=4, seed=0)
    return Predictor(model, Target("score", "regression")).save(tmp_path / "predictor")


@pytest.fixture
def question(folder):
    return Question.of([folder])


def test_each_file_has_its_document_in_order(paths, question):
    found = list(predict_many(paths, question))
    assert [one["path"] for one in found] == list(map(str, paths))
    assert [len(one["predictions"]) for one in found] == [1] * 5 + [0] + [1] * 3 + [0]
    assert "k_proj" in found[5]["errors"][0]
    assert found[5]["errors"][0].startswith("score: ")
    assert "web page" in found[9]["errors"][0]
    assert not any("passing" in one for one in found)


def test_batches_are_bounded_in_count_and_size(paths, question, monkeypatch):
    (predictor,) = question.load()
    sizes = []
    real = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, loras: sizes.append(len(loras)) or real(self, loras)
    )
    whole = [answer.to_json() for answer in ask([predictor], paths[:5])]
    assert sizes == [5]
    monkeypatch.setattr(many_module, "BATCH", 2)
    assert len(list(ask([predictor], paths[:5]))) == 5
    assert sizes == [5, 2, 2, 1]
    monkeypatch.setattr(many_module, "BATCH", 64)
    monkeypatch.setattr(many_module, "BATCH_BYTES", lora(0).nbytes + 1)
    again = [answer.to_json() for answer in ask([predictor], paths[:5])]
    assert sizes == [5, 2, 2, 1, 2, 2, 1]
    for one, other in zip(again, whole, strict=True):
        value, expected = (x["predictions"][0].pop("value") for x in (one, other))
        assert value == pytest.approx(expected, rel=1e-5)
        assert one == other


def test_one_that_does_not_fit_is_found_by_halves(paths, question, monkeypatch):
    sizes = []
    real = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda self, loras: sizes.append(len(loras)) or real(self, loras)
    )
    list(ask(question.load(), paths[:8]))
    assert sizes == [8, 4, 4, 2, 1, 1, 2]


def test_a_lora_without_layers_is_not_passed_over(paths, question, monkeypatch):
    monkeypatch.setattr(many_module, "read_lora", lambda *_, **how: LoRA({}))
    (answer,) = ask(question.load(), paths[:1])
    assert "it has none of the 2 layers" in answer.errors[0] or "missing" in answer.errors[0]


def test_the_clock_knows_where_the_time_went(paths, question):
    clock = Clock()
    list(ask(question.load(), paths, clock=clock))
    assert clock.reading > 0
    assert clock.predicting > 0


def test_nothing_is_read_before_it_is_asked_for(paths, question, monkeypatch):
    read = []
    real = many_module.read_lora
    monkeypatch.setattr(
        many_module, "read_lora", lambda path, **how: read.append(path) or real(path, **how)
    )
    monkeypatch.setattr(many_module, "BATCH", 2)
    going = predict_many(paths, question, processes=1)
    next(going)
    assert read == paths[:2]
    going.close()


def test_processes_give_the_same_documents(paths, question, monkeypatch):
    monkeypatch.setattr(many_module, "CHUNK", 4)
    alone = list(predict_many(paths, question, processes=1))
    found = list(predict_many(paths, question, processes=2))
    for one, other in zip(found, alone, strict=True):
        for made, expected in zip(one["predictions"], other["predictions"], strict=True):
            assert made.pop("value") == pytest.approx(expected.pop("value"), rel=1e-5)
        assert one == other


def test_a_process_that_dies_costs_its_own_file(paths, question, monkeypatch):
    monkeypatch.setattr(many_module, "_ask_chunk", die_at_three)
    found = list(predict_many(paths, question, processes=2))
    assert [one["path"] for one in found] == list(map(str, paths))
    assert [one["path"] for one in found if one["errors"] == [DIED]] == [str(paths[3])]
    assert found[3]["passing"] is True


def die_at_three(question, paths):
    """Stands in for a fault in a library: the process is gone, no exception is raised."""
    if any(path.name == "3" for path in paths) and multiprocessing.parent_process() is not None:
        os._exit(1)
    return [Answer(path).to_json() for path in paths]


def test_a_run_goes_on_where_it_was(paths, question, tmp_path, monkeypatch):
    place = tmp_path / "answers.jsonl"
    monkeypatch.setattr(many_module, "BATCH", 2)
    whole = list(predict_many(paths, question))
    stopped = predict_many(paths, question, results=open_results(place))
    assert [next(stopped) for _ in range(4)] == whole[:4]
    stopped.close()
    with place.open("a") as file:
        file.write('{"schema": "lorascope.predict.answer/1", "key": "to')
    read = []
    real = many_module.read_lora
    monkeypatch.setattr(
        many_module, "read_lora", lambda path, **how: read.append(path) or real(path, **how)
    )
    results = open_results(place)
    assert list(predict_many(paths, question, results=results)) == whole
    assert (read, results.reused) == (paths[4:], 4)
    assert list(predict_many(paths, question, results=open_results(place))) == whole
    assert read == paths[4:]


def test_other_predictors_other_files_and_other_ways_are_asked_anew(paths, folder, tmp_path):
    place = tmp_path / "answers.jsonl"

    def known(question):
        results = open_results(place)
        list(predict_many(paths[:2], question, results=results))
        return results.reused

    question = Question.of([folder])
    assert [known(question), known(question)] == [0, 2]
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert known(Question.of([moved])) == 2
    os.utime(paths[0] / "adapter_model.safetensors", ns=(1, 1))
    assert known(question) == 1
    config = paths[1] / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 7}))
    assert known(question) == 1
    assert known(Question.of([folder], allow_pickle=True)) == 0
    assert known(Question.of([folder, folder])) == 0
    (predictor,) = question.load()
    Predictor(predictor.model, Target("other", "regression")).save(folder)
    assert known(Question.of([folder])) == 0
    assert Question.of([folder]).load()[0].target.name == "other"


def test_what_may_pass_is_asked_again(paths, question, tmp_path, monkeypatch):
    place = tmp_path / "answers.jsonl"
    for error in (OSError(5, "Input/output error"), MissingExtraError("gguf", "gguf", "Reading")):
        with monkeypatch.context() as patch:

            def refuse(*_, error=error, **how):
                raise error

            patch.setattr(many_module, "read_lora", refuse)
            (one,) = predict_many(paths[:1], question, results=open_results(place))
            assert one["passing"] is True
            assert one["errors"]
    results = open_results(place)
    (one,) = predict_many(paths[:1], question, results=results)
    assert (len(one["predictions"]), results.reused) == (1, 0)


def test_other_files_are_not_taken_for_answers(tmp_path):
    place = tmp_path / "answers.jsonl"
    place.write_text('{"schema": "lorascope.inspect.brief/1"}\n')
    with pytest.raises(FileError, match="something else than results"):
        open_results(place)


def test_a_changed_predictor_is_refused_before_anything_is_asked(folder):
    document = json.loads((folder / "predictor.json").read_text())
    (folder / "predictor.json").write_text(json.dumps(document | {"report": {"x": 1}}))
    with pytest.raises(IntegrityError):
        Question.of([folder])


def test_what_the_reader_assumed_goes_with_the_answer(paths, question):
    config = paths[0] / "adapter_config.json"
    plain = json.loads(config.read_text())
    del plain["lora_alpha"]
    config.write_text(json.dumps(plain))
    found = list(predict_many(paths[:2], question))
    assert [len(one["ambiguities"]) for one in found] == [1, 0]
    assert found[0]["ambiguities"][0].startswith("scale: ")


def test_numbers_that_json_cannot_say_are_none(paths):
    prediction = Prediction(Target("s", "regression"), value=1.0, interval=(-math.inf, math.inf))
    (document,) = Answer(paths[0], [prediction]).to_json()["predictions"]
    assert document["interval"] == [None, None]
