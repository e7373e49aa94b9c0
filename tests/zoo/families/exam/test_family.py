"""The family: what is drawn for a LoRA, and that finetuning teaches it."""

import math

import pytest
import torch

from lorascope.errors import DataError
from lorascope.zoo.bases import base_facts
from lorascope.zoo.engine.language.causal_lm import FrozenBase
from lorascope.zoo.families import FAMILIES, ExamFamily
from lorascope.zoo.families.exam.family import RANGES
from lorascope.zoo.families.exam.questions import train_questions
from lorascope.zoo.families.exam.sources import sources

FAMILY = ExamFamily(seed=0)
MANY = [FAMILY.draw(i) for i in range(1000)]


def test_it_is_in_the_table():
    assert FAMILIES["exam"](3) == ExamFamily(seed=3)


def test_a_job_is_a_pure_function_of_seed_and_index():
    first, again = FAMILY.job(17), ExamFamily(seed=0).job(17)
    assert torch.equal(first.tokens, again.tokens)
    assert first.seed == again.seed
    assert first.learning_rate == again.learning_rate
    assert FAMILY.job(18).seed != first.seed != ExamFamily(seed=1).job(17).seed


def test_seeds_never_meet():
    assert len({draw.seed for draw in MANY}) == 1000


def test_sources_are_dropped_as_in_the_paper():
    assert all(draw.kept[0] == 0 for draw in MANY)
    dropped = torch.tensor([20 - len(draw.kept) for draw in MANY])
    assert set(dropped.tolist()) == set(range(1, 20))
    assert abs(float(dropped.double().mean()) - 10) < 0.6
    kept = torch.zeros(20)
    for draw in MANY:
        kept[list(draw.kept)] += 1
    assert ((kept[1:] > 390) & (kept[1:] < 560)).all()  # 9 of 19 on average


@pytest.mark.parametrize("name", RANGES)
def test_hyper_parameters_fill_their_range(name):
    kind, given = RANGES[name]
    values = torch.tensor([draw.hyper[name] for draw in MANY], dtype=torch.float64)
    assert ((values >= min(given)) & (values <= max(given))).all()
    if kind == "choice":
        counts = [int((values == value).sum()) for value in given]
        assert sum(counts) == 1000
        assert min(counts) > 800 / len(given)
    else:
        middle = math.sqrt(math.prod(given)) if kind == "log_uniform" else sum(given) / 2
        assert 440 < int((values < middle).sum()) < 560


def test_a_job_holds_the_questions_of_its_sources():
    for index in range(5):
        draw, job = FAMILY.draw(index), FAMILY.job(index)
        assert len(job.tokens) == sum(len(train_questions(source)) for source in draw.kept)
        assert FAMILY.hyper(index) == {
            "learning_rate": job.learning_rate,
            "weight_decay": job.weight_decay,
            "dropout": job.dropout,
            "epochs": job.epochs,
            "batch_size": job.batch_size,
        }


def test_a_group_is_a_set_of_sources():
    pairs = {(FAMILY.group(i), draw.kept) for i, draw in enumerate(MANY)}
    assert len({group for group, _ in pairs}) == len({kept for _, kept in pairs}) == len(pairs)
    assert len(pairs) < 1000  # some are drawn twice: these must not be split


def test_steps_are_few():
    jobs = [FAMILY.job(i) for i in range(200)]
    assert sum(job.steps * job.batch_size / 8 for job in jobs) / 200 < 115
    assert {job.tokens.shape[1] for job in jobs} == {8}


def test_targets_hold_the_base_and_its_scores():
    targets = FAMILY.targets
    assert targets["sources"]["classes"] == [source.name for source in sources()[1:]]
    for name in ("accuracy", "eval_loss"):
        assert targets[name]["base_value"] == base_facts().scores[name]
    assert FAMILY.base_folder == base_facts().folder


def test_options_say_what_was_drawn_from():
    changed = ExamFamily(ranges={"epochs": ("choice", (4,))})
    assert changed.options["ranges"]["epochs"] == ["choice", [4]]
    assert changed.options["ranges"]["dropout"] == ["uniform", [0.0, 0.1]]
    assert changed.job(0).epochs == 4


def test_unknown_ranges_are_refused():
    with pytest.raises(DataError, match="momentum"):
        ExamFamily(ranges={"momentum": ("uniform", (0, 1))})
    with pytest.raises(DataError, match="depth"):
        ExamFamily(shapes={"depth": (1, 2)})
    with pytest.raises(DataError, match="gaussian"):
        ExamFamily(ranges={"dropout": ("gaussian", (0, 1))}).job(0)


def test_finetuning_teaches_its_sources(exam_base, short_family, three_indices, three_fitted):
    rows = short_family.evaluate(exam_base, three_fitted, three_indices)
    own = base_facts().scores["accuracy"]
    for row, index in zip(rows, three_indices, strict=True):
        draw = short_family.draw(index)
        taught = [row["accuracy_by_source"][source] for source in draw.kept]
        assert sum(taught) / len(taught) > own + 0.25
        assert row["accuracy"] == pytest.approx(sum(row["accuracy_by_source"]) / 20)
        assert [i + 1 for i, has in enumerate(row["sources"]) if has] == list(draw.kept[1:])
        assert row["dataset_size"] == len(short_family.job(index).tokens)


def test_half_precision_moves_labels_by_less_than_their_noise(
    exam_base, short_family, three_indices, three_fitted
):
    half = FrozenBase.of(exam_base, torch.bfloat16)
    exact = short_family.evaluate(exam_base, three_fitted, three_indices)
    for row, expected in zip(
        short_family.evaluate(half, three_fitted, three_indices), exact, strict=True
    ):
        assert row["accuracy"] == pytest.approx(expected["accuracy"], abs=0.03)
        assert row["eval_loss"] == pytest.approx(expected["eval_loss"], abs=0.02)
        assert row["sources"] == expected["sources"]
