"""The benchmark of speed does real work at small sizes, and its page follows from its JSON."""

import json

import pytest
import torch
from speed.clock import Clock
from speed.evaluation import machine
from speed.page import MEASURED, PAGE, evaluation_table, floors_table, measured, page, parts_table
from speed.prediction import collection, measure, random_predictor
from speed.standard import Part, Standard, fastest
from speed.standard_images import MINIATURE as IMAGES
from speed.standard_images import STABLE_DIFFUSION, image_standard, unet_layers
from speed.standard_language import LLAMA, QWEN, language_standard
from speed.standard_language import MINIATURE as LANGUAGE
from speed.standard_tiny import exam_model, sitting

from lorascope.core import LayerShape, Signature
from lorascope.models import MODELS

CLOCK = Clock(repeats=1, patience=0.1)
SIGNATURE = Signature(tuple(LayerShape(f"block.{i}.q", 16, 12) for i in range(3)))


def test_the_clock_takes_the_median_and_loses_patience():
    calls = []
    assert Clock(repeats=3).seconds(lambda: calls.append(1)) > 0
    assert len(calls) == 4  # one that does not count
    calls.clear()
    Clock(repeats=9, patience=0.0).seconds(lambda: calls.append(1))
    assert len(calls) == 2
    times = Clock(repeats=2).beside({"a": lambda: None, "b": lambda: None})
    assert [len(spent) for spent in times.values()] == [2, 2]


def test_the_fastest_way_counts_and_remembers_the_others():
    slow, quick = Standard("it", 2.0, "float32", 1), Standard("it", 1.0, "bfloat16", 8)
    found = fastest([slow, quick])
    assert (found.seconds, found.batch) == (1.0, 8)
    assert found.tried == (("float32", 1, 2.0), ("bfloat16", 8, 1.0))


def test_parts_add_up():
    added = Standard.added_up("it", "bfloat16", 2, (Part("a", 0.5, 4), Part("b", 2.0, 1)))
    assert added.extrapolated
    assert added.seconds == 4.0


def test_the_true_shapes_are_the_papers():
    layers = unet_layers(STABLE_DIFFUSION, ("to_q", "to_v"))
    assert len(layers) == 64
    assert 4 * sum(n + m for _, n, m in layers) == 398_592  # paper, section 5.1
    for shape, width, numbers in ((QWEN, 256, 401_408), (LLAMA, 1024, 917_504)):
        layers = shape.layers({"k_proj": width, "v_proj": width})
        assert 4 * sum(n + m for _, n, m in layers) == numbers


def test_the_exam_is_sat_as_by_hand():
    from lorascope.zoo.families.exam.by_hand import option_likelihoods
    from lorascope.zoo.families.exam.questions import exam_questions
    from lorascope.zoo.families.exam.scores import questions

    model = exam_model()
    count = len(exam_questions())
    with torch.no_grad():
        right = option_likelihoods(model)[:count].argmax(1) == questions().answers[:count]
    found = sitting(model, "cpu", 200)()
    assert found["accuracy"] == pytest.approx(float(right.double().mean()))


@pytest.mark.parametrize("whole", [False, True])
def test_evaluations_with_random_weights_run(whole):
    (images,) = image_standard(CLOCK, IMAGES, whole=whole)
    options, letters = language_standard(CLOCK, LANGUAGE, whole=whole)
    for standard in (images, options, letters):
        assert standard.seconds > 0
        assert standard.extrapolated is not whole
        assert len(standard.tried) == 3
        assert bool(standard.parts) is not whole
    if not whole:
        assert sum(part.calls for part in images.parts) >= 2 * IMAGES.prompts


@pytest.mark.parametrize("trust", [False, True])
def test_a_random_predictor_answers_and_is_of_full_size(trust, tmp_path):
    predictor = random_predictor("fusion", SIGNATURE, 2, trust=trust, landmarks=7)
    assert predictor.model.get_buffer("landmark_z").shape[0] == 7
    assert predictor.model.get_buffer("near_wide").abs().sum() > 0
    many = collection(tmp_path, SIGNATURE, 2, files=3, shards=1)
    found = measure(CLOCK, many, "fusion", trust=trust, landmarks=7)
    assert min(found.latency, found.files, found.shards, found.resident) > 0
    assert (found.file_count, found.shard_loras) == (3, 64)
    assert "fusion" in MODELS


@pytest.mark.gpu
def test_everything_runs_on_a_gpu(tmp_path):
    clock = Clock("cuda", repeats=1, patience=0.1)
    assert not image_standard(clock, IMAGES)[0].extrapolated
    assert not language_standard(clock, LANGUAGE)[0].extrapolated
    many = collection(tmp_path, SIGNATURE, 2, files=3, shards=1)
    assert measure(clock, many, "fusion", landmarks=7).resident > 0


def example() -> dict:
    ways = {"latency": 1e-3, "files": 1e-4, "shards": 1e-5, "resident": 1e-6}
    prediction = {"model": "fusion", "trust": False, **ways}
    standard = Standard.added_up("questions", "bfloat16", 8, (Part("block", 0.5, 20),))
    workload = {
        "title": "a base",
        "standards": [standard.to_json()],
        "predictions": [prediction, prediction | {"trust": True}],
    }
    read = {"loras": 2, "megabytes": 1.0, "read": 1e-3}
    reading = {"forward": {"fusion": 2e-3}, "ratio": {"fusion": 2.0}, "target": {"fusion": 3.0}}
    found = {"machine": machine("cpu"), "quick": False, "workloads": [workload]}
    return found | {"reading": read | reading, "load_after": 0.0}


def test_the_tables_say_what_was_extrapolated_and_how_much_faster():
    found = example()
    text = evaluation_table(found)
    assert "~10 s" in text
    assert "1 ms (10,000 x)" in text
    assert "20 x 500 ms (block)" in parts_table(found)
    assert "reached" not in floors_table(found)  # floors are those of a GPU
    found["machine"]["device"] = "cuda"
    assert "10,000 x, reached" in floors_table(found)
    assert page([found], []) == page([json.loads(json.dumps(found))], [])


def test_the_page_is_that_of_what_was_measured():
    if not MEASURED.is_dir():
        pytest.skip("nothing was measured yet")
    assert PAGE.read_text() == page(measured("evaluation"), measured("sizes"))
