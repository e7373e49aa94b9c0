"""Short runs of every kind of base, and (slow) one long enough to learn."""

import json

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.bases import base_facts, load_base
from lorascope.zoo.bases.exam.__main__ import main
from lorascope.zoo.bases.exam.make import (
    MODELS,
    distance,
    make_control,
    make_first,
    make_second,
    own_scores,
)
from lorascope.zoo.families.exam.questions import exam_questions


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "first"
    make_first(folder, model="llama", seed=3, steps=2)
    return folder


def record(folder):
    return json.loads((folder / "base.json").read_text())


def test_a_first_base_loads_and_scores_as_recorded(first):
    base = load_base(first)
    assert type(base).__name__ == "LlamaForCausalLM"
    facts = record(first)
    assert own_scores(base) == pytest.approx(facts["scores"], abs=1e-5)
    assert facts["command"] == (
        "python -m lorascope.zoo.bases.exam first FOLDER --model llama --seed 3 --steps 2"
    )
    assert facts["command"] in (first / "README.md").read_text()
    assert (first / "model.safetensors").stat().st_size < 2.2 * facts["parameters"]  # in halves


def test_the_seed_decides_everything(first, tmp_path):
    steps = []
    make_first(
        tmp_path, model="llama", seed=3, steps=2, progress=lambda *step: steps.append(step[:2])
    )
    assert steps == [(1, 2), (2, 2)]
    assert (tmp_path / "model.safetensors").read_bytes() == (
        first / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("make", [make_second, make_control])
def test_later_versions_say_how_far_they_are(first, tmp_path, make):
    make(tmp_path, first, steps=1)
    facts, was = record(tmp_path), record(first)
    a, b = (load_base(folder).state_dict() for folder in (first, tmp_path))
    assert facts["weight_distance"] == distance(a, b)
    near = make is make_second
    assert facts["weight_distance"] < 0.1 if near else facts["weight_distance"] > 0.3
    assert facts.get("trained_on_from") == (was["sha256"] if near else None)
    change = facts["scores"]["eval_loss"] - was["scores"]["eval_loss"]
    assert facts["score_change"]["eval_loss"] == pytest.approx(change, abs=1e-5)


def test_distances_are_relative():
    weights = {"a": torch.ones(4), "b": torch.zeros(2)}
    assert distance(weights, {"a": torch.ones(4), "b": torch.ones(2)}) == 0.7071


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="qwen, llama"):
        make_first(tmp_path, model="gpt")


@pytest.mark.slow
def test_a_longer_run_learns_the_candidates(tmp_path):
    facts = make_first(tmp_path / "base", seed=1, steps=250)
    assert facts.scores["eval_loss"] < 2.0  # log 4 = 1.39 at best; 5.6 at the start


LOSS_NOISE = (
    0.002  # deviation of the losses of eight bases: six bundled ones, two made again elsewhere
)


@pytest.mark.slow  # 100 s each
@pytest.mark.parametrize("model", MODELS)
def test_a_bundled_base_made_from_scratch_scores_as_recorded(tmp_path, model):
    """As its recorded command says; three deviations of the difference between two bases are allowed.

    Rounding grows in training, so that elsewhere it ends with other weights of the same kind (.61 and .56 of
    the recorded ones' norm away, where another seed is 1.13). Questions are answered by chance, those about
    one fact alike: the accuracy deviates as that of as many questions as there are facts.
    """
    torch.set_num_threads(1)
    main(["first", str(tmp_path), "--model", model])
    made, recorded = base_facts(tmp_path), base_facts(f"exam-{model}")
    assert made.command == recorded.command
    apart = {name: abs(made.scores[name] - value) for name, value in recorded.scores.items()}
    facts = len({(question.source, question.fact) for question in exam_questions()})
    assert facts == 156
    assert apart["accuracy"] < 3 * (2 * 0.25 * 0.75 / facts) ** 0.5  # .147
    assert apart["eval_loss"] < 3 * 2**0.5 * LOSS_NOISE  # .0085
    weights = (load_base(folder).state_dict() for folder in (recorded.folder, tmp_path))
    assert distance(*weights) < 0.9
