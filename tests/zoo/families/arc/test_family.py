import dataclasses
import pickle

import pytest
import torch
from transformers import AutoModelForCausalLM

from lorascope.errors import DataError, FileError
from lorascope.zoo.engine.language.frozen_base import FrozenBase
from lorascope.zoo.factory.build import build_zoo
from lorascope.zoo.families.arc.family import RANGES, ArcFamily, base_scores, scores_of
from lorascope.zoo.families.arc.questions import SOURCES, questions_of
from lorascope.zoo.families.texts import load_tokenizer


def test_draws_are_those_of_the_paper(family):
    draws = [ArcFamily(family.base_folder, family.data).draw(i) for i in range(600)]
    dropped = torch.tensor([20.0 - len(draw.kept) for draw in draws])
    assert set(dropped.tolist()) == set(range(1, 20))
    assert abs(dropped.mean() - 10) < 0.7
    assert all(draw.kept[0] == 0 for draw in draws)
    hyper = {name: torch.tensor([draw.hyper[name] for draw in draws]) for name in RANGES}
    assert hyper["learning_rate"].min() >= 1e-5
    assert hyper["learning_rate"].max() <= 1e-3
    assert 0.8e-4 < hyper["learning_rate"].median() < 1.3e-4
    assert hyper["weight_decay"].log10().mean() == pytest.approx(-4, abs=0.2)
    assert set(hyper["epochs"].tolist()) == {2, 3, 4}
    assert set(hyper["batch_size"].tolist()) == {32, 64, 128}
    assert 0 <= hyper["dropout"].min() <= hyper["dropout"].max() <= 0.1


def test_a_job_holds_the_questions_of_its_sources(family):
    index = next(i for i in range(50) if 3 < len(family.draw(i).kept) < 12)
    draw, job = family.draw(index), family.job(index)
    kept = [q for q in questions_of(family.data, "train") if q.source in draw.kept]
    assert len(job.tokens) == len(kept)
    tokenizer = load_tokenizer(family.base_folder)
    for row, question in zip(job.tokens, kept, strict=True):
        assert question.stem in tokenizer.decode(row.tolist())
    assert family.group(index) == f"{sum(1 << s for s in draw.kept):05x}"


def test_a_zoo_from_end_to_end(family, tmp_path):
    zoo = build_zoo(family, 6, tmp_path, processes=0, slots=1, progress=False, compile=False)
    assert len(zoo) == 6
    assert zoo.targets["sources"]["classes"] == list(SOURCES[1:])
    names = [name.rsplit(".", 1)[-1] for name in zoo.lora(0).layers]
    assert names == ["k_proj", "v_proj"] * 3
    gains = zoo.labels("eval_loss_gain")
    assert min(gains) < -0.15  # finetuning helps on questions of the same kind
    assert "eval_loss" in zoo.report["scores"]
    base = zoo.report["scores"]["eval_loss"]["base_value"]
    assert base == pytest.approx(zoo.labels("eval_loss")[0] - gains[0], abs=1e-3)
    assert zoo.report["questions_left_out"] == {"train": 0, "dev": 0, "test": 0}
    shares = zoo.report["padded_share"]  # few questions fill few rows: the last stay half empty
    assert 0 <= shares["training"] < 0.1
    assert 0 <= shares["evaluation"] < 0.2


def test_scores_are_those_of_transformers(family):
    """Every option by itself through the model as it is."""
    model = AutoModelForCausalLM.from_pretrained(family.base_folder, dtype=torch.float32).eval()
    frozen = FrozenBase.of(model, torch.float32)
    right, loss = scores_of(frozen, family.spec, None, family.material)
    tokenizer = load_tokenizer(family.base_folder)
    for i, question in enumerate(questions_of(family.data, "test", ("ARC-Challenge",))):
        sums = [option_score(model, tokenizer, question, text)[0] for text in question.options]
        assert (max(range(len(sums)), key=sums.__getitem__) == question.answer) == bool(right[0, i])
    parts = [
        option_score(model, tokenizer, question, question.options[question.answer])
        for question in questions_of(family.data, "dev")
    ]
    mean = -sum(score for score, _ in parts) / sum(count for _, count in parts)
    assert float(loss[0]) == pytest.approx(mean, abs=1e-4)
    own = base_scores(frozen, family.data, family.base_folder, family.longest)
    assert torch.equal(own[0], right[0])


@torch.no_grad()
def option_score(model, tokenizer, question, text):
    """Summed log-likelihood of an option and its number of tokens."""
    whole = tokenizer.encode(f"{question.prompt} {text}").ids
    start = len(tokenizer.encode(question.prompt).ids)
    log_p = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    picked = [log_p[k - 1, whole[k]] for k in range(start, len(whole))]
    return float(sum(picked)), len(picked)


def test_a_family_travels(family):
    again = pickle.loads(pickle.dumps(family))
    assert again == family
    assert torch.equal(again.job(2).tokens, family.job(2).tokens)


def test_what_is_wrong_is_said(family, tmp_path):
    with pytest.raises(DataError, match=r"found ranges of \['rank'\]"):
        ArcFamily(family.base_folder, family.data, ranges={"rank": {"choice": [1]}})
    with pytest.raises(FileError, match="no train questions of ARC-Easy"):
        dataclasses.replace(family, data=tmp_path / "nowhere").job(0)
    few = dataclasses.replace(family.material, sources=torch.zeros(96).long())
    with pytest.raises(DataError, match=r"no training question is from \['WASL'\]"):
        few.of_sources([19])
