"""The benchmark of speed does real work at small sizes."""

import json
import time

import pytest
import torch
from speed.clock import Clock
from speed.evaluation import machine, main, standards_of
from speed.prediction import Done, a_lora, collection, measure, random_predictor
from speed.random_weights import made_in
from speed.reading import TARGETS, bases, reading
from speed.standard import Part, Standard, climbed, fastest, free_bytes, trial, types_of
from speed.standard_images import MINIATURE as IMAGES
from speed.standard_images import STABLE_DIFFUSION, image_standard, unet_layers
from speed.standard_language import (
    LETTERS,
    LLAMA,
    OPTIONS,
    QWEN,
    affordable,
    asking,
    language_standard,
    random_model,
)
from speed.standard_language import MINIATURE as LANGUAGE
from speed.standard_tiny import exam_model, sitting
from speed.workloads import MINIATURES, PARTS, WORKLOADS

from lorascope.core import LayerShape, Signature
from lorascope.io.processes import cores

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


def test_a_shared_clock_counts_processor_time_by_all_cores_or_one():
    clock = Clock(repeats=1, shared=True)
    assert clock.once(lambda: time.sleep(0.2)) < 0.1
    assert clock.threads == (1,)
    counted, began = clock.on_one_core(), time.process_time()
    assert counted.once(lambda: sum(range(10**6))) <= time.process_time() - began
    assert clock.cores == len(cores())
    assert counted.cores == Clock().cores == 1


def test_the_fastest_way_counts_and_remembers_the_others():
    slow, quick = Standard("it", 2.0, "float32", 1), Standard("it", 1.0, "bfloat16", 8)
    found = fastest([slow, quick], {"float32": 0.1})
    assert (found.seconds, found.batch) == (1.0, 8)
    assert found.tried == (("float32", 1, 2.0), ("bfloat16", 8, 1.0))
    assert found.trial == (("float32", 0.1),)


def test_a_trial_times_half_precision_and_float32():
    made = []
    found = trial(CLOCK, lambda dtype: lambda: made.append(dtype))
    assert set(found) == set(types_of("cpu")) == set(made)
    assert {torch.bfloat16, torch.float32} <= set(found)
    assert types_of("cuda") == (torch.float16, torch.bfloat16)


def test_weights_are_random_and_of_their_type_from_the_start():
    with made_in("cpu", torch.bfloat16):
        layer = torch.nn.Linear(2000, 1000)
        norm = torch.nn.LayerNorm(8)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.float().std().item() == pytest.approx(0.02, rel=0.05)
    repeated = layer.weight.flatten()[2**20 :]
    assert torch.equal(repeated, layer.weight.flatten()[: len(repeated)])
    assert (norm.weight == 1).all()
    assert torch.nn.Linear(2, 2).weight.dtype == torch.float32


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
    cheaper, dearer = language_standard(CLOCK, LANGUAGE, whole=whole)
    assert cheaper.seconds <= dearer.seconds
    assert {cheaper.way, dearer.way} == {"by options", "by letters"}
    for standard in (images, cheaper, dearer):
        assert standard.seconds > 0
        assert standard.extrapolated is not whole
        assert len(standard.tried) == (3 * len(types_of("cpu")) if whole else 3)
        assert bool(standard.parts) is not whole
        assert bool(standard.trial) is not whole
    if not whole:
        assert sum(part.calls for part in images.parts) >= 2 * IMAGES.prompts
        assert [part.calls for part in cheaper.parts] == [LANGUAGE.questions / cheaper.batch]


@pytest.mark.parametrize("protocol", [OPTIONS, LETTERS])
def test_answers_that_share_their_question_score_as_whole_rows_do(protocol):
    model = random_model(LANGUAGE, "cpu", torch.float32, 2)
    for weight in model.parameters():  # random weights are small: likelihoods would hardly differ
        weight.mul_(8) if weight.ndim == 2 else None
    draw = torch.Generator().manual_seed(0)
    asked, answers = (
        torch.randint(128, shape, generator=draw)
        for shape in ((5, protocol.shared), (5, protocol.answers, protocol.tokens))
    )
    found = asking(model, protocol, "cpu", 2, 5)()
    assert found.shape == (5, protocol.answers)
    for answer in range(protocol.answers):
        rows = torch.cat([asked, answers[:, answer]], 1)
        said = model(input_ids=rows[:, :-1], use_cache=False).logits.log_softmax(-1)
        told = said[:, protocol.shared - 1 :].gather(2, rows[:, protocol.shared :, None])
        torch.testing.assert_close(found[:, answer], told.sum((1, 2)), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1


@pytest.mark.parametrize(
    ("seconds", "tried"),
    [
        ({4: 9, 8: 8, 16: 7, 32: 6, 64: 5}, [16, 32, 64]),
        ({4: 5, 8: 6, 16: 7, 32: 8, 64: 9}, [16, 32, 8]),
        ({8: 3, 16: 2, 32: 1}, [16, 32]),
        ({8: 3, 16: 2}, [16, 8]),
        ({8: 3}, [8]),
    ],
)
def test_the_first_sizes_decide_the_direction_of_the_third(seconds, tried):
    found = climbed(list(seconds), lambda size: Standard("it", seconds[size], "float32", size))
    assert [way.batch for way in found] == tried


def test_batches_that_do_not_fit_into_memory_are_not_tried(monkeypatch):
    assert free_bytes("cpu") > 0
    for free, sizes in ((1e12, (4, 8, 16, 32, 64)), (1e9, (4, 8)), (0, (4,))):
        monkeypatch.setattr("speed.standard_language.free_bytes", lambda device, free=free: free)
        assert affordable(QWEN, OPTIONS, torch.float32, "cpu") == sizes


def test_a_random_predictor_answers_in_all_ways(tmp_path):
    many = collection(tmp_path, SIGNATURE, 2, files=3, shards=1)
    found, other = measure(CLOCK, many, [("fusion", True), ("gl_net", False)], landmarks=7)
    assert min(found.latency, found.files, found.shards, other.files, other.resident) > 0
    assert found.resident == 0  # the model's own
    assert (found.file_count, found.shard_loras) == (3, 64)


def test_many_answers_are_counted_by_wall_or_by_processor_time():
    done = [Done(2, 0.0, 1.0, 0.4), Done(2, 0.5, 2.0, 0.8)]
    assert a_lora(Clock(), done) == 0.5
    assert a_lora(Clock(shared=True), done) == pytest.approx(1.2 / len(cores()) / 4)


def test_a_random_predictor_is_of_full_size():
    predictor = random_predictor("fusion", SIGNATURE, 2, trust=True, landmarks=7)
    assert predictor.trust.outliers is not None
    for name in ("landmark_z", "near_wide", "hint_wide", "to_hint_core"):
        assert predictor.model.get_buffer(name).abs().sum() > 0
    assert predictor.model.get_buffer("landmark_z").shape[0] == 7


@pytest.mark.gpu
def test_everything_runs_on_a_gpu(tmp_path):
    clock = Clock("cuda", repeats=1, patience=0.1)
    assert not image_standard(clock, IMAGES)[0].extrapolated
    assert not language_standard(clock, LANGUAGE)[0].extrapolated
    many = collection(tmp_path, SIGNATURE, 2, files=3, shards=1)
    assert measure(clock, many, [("fusion", False)], landmarks=7)[0].resident > 0


def test_every_part_has_its_workloads_and_their_miniatures():
    assert sorted(name for names in PARTS.values() for name in names) == sorted(WORKLOADS)
    assert set(MINIATURES) == set(WORKLOADS)


@pytest.mark.slow
def test_a_part_is_measured_into_a_file_of_its_own(tmp_path, capsys):
    main(["--quick", "--part", "qwen", "--files", "4", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cpu-qwen.json").read_text())
    (workload,) = found["workloads"]
    assert [p["model"] for p in workload["predictions"]] == ["fusion", "fusion", "gl_net"]
    assert [p["file_count"] for p in workload["predictions"]] == [4, 4, 4]
    assert "~" in capsys.readouterr().out


def test_an_evaluation_is_kept_on_the_same_machine_only():
    found = {"machine": machine(CLOCK), "quick": True}
    kept = found | {"workloads": [{"name": "qwen", "standards": [1]}]}
    assert standards_of(kept, found) == {"qwen": [1]}
    other = found["machine"] | {"shared": True}
    with pytest.raises(SystemExit, match="shared"):
        standards_of(kept, found | {"machine": other})


@pytest.mark.slow
def test_predictions_are_measured_again_beside_a_kept_evaluation(tmp_path):
    common = ["--quick", "--part", "qwen", "--files", "4", "--out", str(tmp_path)]
    runs = []
    for how in ([], ["--predictions"]):
        main([*common, *how])
        runs.append(json.loads((tmp_path / "cpu-qwen.json").read_text()))
    (first,), (second,) = (found["workloads"] for found in runs)
    assert [found["kept"] for found in runs] == [False, True]
    assert first["standards"] == second["standards"]
    assert first["predictions"] != second["predictions"]


def test_the_read_and_both_forwards_are_timed():
    llama, *smaller = bases(MINIATURES)
    assert (llama.title, llama.target) == ("Llama-3.2-3B, q and v", TARGETS)
    assert [base.title.split(",")[0] for base in smaller] == ["Stable Diffusion 1.4", "Qwen2-1.5B"]
    found = reading(CLOCK, smaller[1], 2)
    assert min(found.read, *found.forward.values(), *found.ratio.values()) > 0
    assert (found.loras, found.target) == (2, {})
    sizes = [sum(layer.n + layer.m for layer in base.signature.layers) for base in bases(WORKLOADS)]
    assert [4 * size for size in sizes] == [1_146_880, 398_592, 401_408]


@pytest.mark.slow
def test_the_part_reading_has_every_base(tmp_path):
    main(["--quick", "--part", "reading", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "cpu-reading.json").read_text())["reading"]
    assert len(found) == 3
    assert all(row["read"] > 0 for row in found)
