import pickle
import random

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from lorascope.errors import DataError
from lorascope.io.shards import open_zoo
from lorascope.zoo.engine.fitted import untrained
from lorascope.zoo.engine.language.fit import layout_of
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.factory.verify import verify_zoo
from lorascope.zoo.families.own import Answers, Lesson, Question, TextFamily
from lorascope.zoo.families.own.family import SPEC, tokenizer_of
from tests.zoo.families.example import run_example
from tests.zoo.stand_ins import write_language_base

ASKED = [Question("rock", ("moves", "orbits a star"), 1), Question("a", ("moves", "grows", "b"))]


def lesson(index, draw):
    if index == 7:
        return Lesson([])
    chosen = draw.sample(ASKED, 1 + index % 2)
    return Lesson(chosen, {"count": float(len(chosen))}, group="odd" if index % 2 else "")


def score(answers, index):
    return {"loss": answers.loss(ASKED), "accuracy": answers.accuracy(ASKED)}


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    base = write_language_base(tmp_path_factory.mktemp("bases") / "base")
    number = {"kind": "regression"}
    return TextFamily(str(base), lesson, score, {"loss": number, "accuracy": number})


def test_the_example_of_the_docs_runs_on_a_base_of_ones_own(family, tmp_path):
    out = tmp_path / "zoo"
    run_example("own_recipe", tmp_path, family.base_folder, out)
    zoo = open_zoo(out)
    assert zoo.column("id").tolist() == list(range(12))
    assert zoo.recipe["base"]["folder"] == family.base_folder.name
    assert zoo.targets["known"]["classes"] == ["kubo", "zizo", "gabu"]
    known, loss = zoo.labels("known").sum(1), zoo.labels("loss")
    assert loss[known == known.max()].mean() < loss[known == known.min()].mean()
    assert len(set(zoo.groups())) == len({tuple(row) for row in zoo.labels("known").tolist()})
    assert zoo.report["scores"]["loss"]["mean"] == pytest.approx(loss.mean(), abs=1e-3)
    assert verify_zoo(out).sound


def test_everything_follows_from_the_index(family):
    again = pickle.loads(pickle.dumps(family))
    for index in range(4):
        job = family.job(index)
        assert torch.equal(again.job(index).tokens, job.tokens)
        assert len(job.tokens) == 1 + index % 2
        assert family.hyper(index) == again.hyper(index)
        assert job.learning_rate == family.hyper(index)["learning_rate"]
    assert [family.group(i) for i in range(4)] == ["0", "odd", "2", "odd"]
    assert family.drawn(2) == lesson(2, random.Random(family.seed_at(2)))
    assert len(family.options["functions_sha256"]) == 64


def test_answers_are_those_of_transformers(family):
    model = AutoModelForCausalLM.from_pretrained(family.base_folder, dtype=torch.float32).eval()
    base = FrozenBase.of(model, torch.float32)
    one = untrained(SPEC, layout_of(base, [SPEC]))
    (row,) = family.evaluate(base, one, [1])
    assert row["count"] == 2
    tokenizer = tokenizer_of(family.base_folder)
    found = Answers(base, SPEC, one, tokenizer).log_likelihoods(ASKED)
    assert found.shape == (2, 3)
    assert found[0, 2] == float("-inf")
    sums, counts = {}, {}
    for i, question in enumerate(ASKED):
        start = len(tokenizer.encode(question.prompt).ids)
        for k, option in enumerate(question.options):
            whole = tokenizer.encode(f"{question.prompt} {option}").ids
            with torch.no_grad():
                log_p = model(torch.tensor([whole])).logits[0].log_softmax(-1)
            picked = [log_p[t - 1, whole[t]] for t in range(start, len(whole))]
            sums[i, k], counts[i, k] = float(sum(picked)), len(picked)
            assert float(found[i, k]) == pytest.approx(sums[i, k], abs=1e-4)
    total = -(sums[0, 1] + sums[1, 0]) / (counts[0, 1] + counts[1, 0])
    assert row["loss"] == pytest.approx(total, abs=1e-4)
    assert row["accuracy"] == float((found.argmax(1) == torch.tensor([1, 0])).double().mean())


def test_a_label_that_a_lora_lacks_does_not_spoil_the_report(family):
    table = pa.table(
        {
            "diverged": [False, False, False, True],
            "label:loss": [1.0, None, 3.0, None],
            "label:accuracy": pa.nulls(4, pa.float64()),
        }
    )
    scores = family.report(table)["scores"]
    assert set(scores) == {"loss"}
    assert (scores["loss"]["mean"], scores["loss"]["max"]) == (2.0, 3.0)


def test_what_is_wrong_is_said(family):
    with pytest.raises(DataError, match=r"the function lesson gave Lesson.* with questions"):
        family.job(7)
    with pytest.raises(DataError, match=r"the zoo 'own': found ranges of \['rank'\]"):
        TextFamily(family.base_folder, lesson, score, {}, ranges={"rank": 3})
