"""PEFT one by one, as the timing of zoos has it, does real work wherever it is put."""

import pytest
import torch
from speed.zoo import (
    alone_rate,
    choices_by_length,
    job_by_length,
    main,
    padded_shares,
    start_alone,
    timed,
    typical,
    word_flops_of,
    work_of,
)
from speed.zoo_images import start_image_alone

from lorascope.errors import DataError
from lorascope.zoo.engine.language.packing import real_lengths
from lorascope.zoo.families import FAMILIES
from lorascope.zoo.families.exam.scores import questions

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def small(family, count=64):
    """The LoRA of least work."""
    return min(range(count), key=lambda i: work_of(family, i))


def test_the_typical_stand_for_all():
    family = FAMILIES["exam"](1)
    some = [work_of(family, i) for i in typical(family, 64, 8)]
    every = [work_of(family, i) for i in range(64)]
    assert some == sorted(some)
    assert sum(some) / len(some) == pytest.approx(sum(every) / len(every), rel=0.1)


def test_peft_alone_gives_labels():
    family = FAMILIES["exam"](1)
    accuracy, loss = start_alone(family, False, "sdpa", "cpu")(small(family))
    assert 0.2 < accuracy <= 1
    assert 0 < loss < 10


def test_the_rate_of_peft_is_that_of_its_work(monkeypatch):
    """Two processes, one of which has nothing to do at the end."""

    def jobs(tasks, start, processes):
        yield from (
            (task, 9.0 if place < processes else seconds)
            for place, (task, seconds) in enumerate(zip(tasks, [0, 0, 6.0, 2.0, 4.0], strict=True))
        )

    monkeypatch.setattr("speed.zoo.run_tasks", jobs)
    family = FAMILIES["exam"](1)
    assert alone_rate(family, [3, 1, 2], 2, False, "sdpa", "cpu") == 2 * 3 / 12 * 60


def test_seconds_of_a_task_are_told():
    done = []
    assert 0 <= timed(lambda to: to.append, done)("this") < 5
    assert done == ["this"]


def test_the_operations_of_a_lora_of_words_grow_with_its_rows():
    family = FAMILIES["exam"](1)
    few, many = sorted(range(8), key=lambda i: work_of(family, i))[::7]
    (less, labels), (more, same) = (word_flops_of(family, [i]) for i in (few, many))
    assert labels == same > 0
    tokens = [family.job(i).epochs * len(family.job(i).tokens) for i in (few, many)]
    assert more / less == pytest.approx(tokens[1] / tokens[0], rel=0.02)


def test_padding_is_hardly_any_work_of_an_exam():
    training, labels = padded_shares(FAMILIES["exam"](0), list(range(8)))
    assert 0 < training < 0.05
    assert 0 < labels < 0.05


def test_rows_of_each_length_hold_no_padding():
    job = FAMILIES["exam"](0).job(0)
    parts = job_by_length(job)
    assert [part.tokens.shape[1] for part in parts] == [6, 7, 8]
    assert sum(len(part.tokens) for part in parts) == len(job.tokens)
    assert all((real_lengths(part.weights) == part.tokens.shape[1] - 1).all() for part in parts)
    sets = choices_by_length(questions())
    assert sum(map(len, sets)) == len(questions())
    assert all((each.prefix_lengths == each.prefixes.shape[1]).all() for each in sets)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="cuda:7"):
        main(["--device", "cuda:7"])


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ["exam", "faces"])
def test_peft_alone_gives_the_same_labels_on_a_gpu(name):
    family = FAMILIES[name](1)
    start = start_alone if name == "exam" else start_image_alone
    here, there = (start(family, False, "eager", d)(small(family)) for d in ("cpu", "cuda"))
    if name == "exam":
        assert there == pytest.approx(here, abs=0.05)
    else:
        assert there[0]["label:fidelity"] == pytest.approx(here[0]["label:fidelity"], abs=2.0)
