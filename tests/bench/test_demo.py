import io

import pytest
from rich.console import Console

from lorascope.bench.demo import (
    DEMO_MODELS,
    TARGETS,
    Steps,
    append_comparison,
    best_model,
    demo_plan,
    machine,
    run_demo,
)
from lorascope.bench.results import Result
from lorascope.errors import DataError
from lorascope.io import open_zoo, read_lora
from lorascope.io.processes import cores
from lorascope.models import MODELS
from lorascope.predict import load_predictor


def result(model, score, *, seed=0, target="accuracy", control=False, metric="r2"):
    return Result("data", target, model, seed, control=control, validation={metric: score})


def test_the_best_model_is_chosen_by_validation_over_all_seeds():
    results = [
        result("a", 0.9),
        result("a", 0.1, seed=1),
        result("b", 0.6),
        result("b", 0.6, seed=1),
        result("c", None),
        result("hyper-parameters", 1.0, control=True),
        result("d", 1.0, target="other"),
    ]
    assert best_model(results, "accuracy", "r2") == "b"
    errors = [result("a", 0.3, metric="rmse"), result("b", 0.2, metric="rmse")]
    assert best_model(errors, "accuracy", "rmse") == "b"
    with pytest.raises(DataError, match="no run"):
        best_model(results, "loss", "r2")


def test_the_plan_is_that_of_the_readme():
    full, quick = demo_plan(), demo_plan(quick=True)
    assert (full.count, full.models, full.seeds, full.faces) == (512, DEMO_MODELS, 3, 96)
    assert quick.seeds == 1
    assert set(quick.models) < set(full.models) < set(MODELS)
    assert demo_plan(700).count == demo_plan(700, quick=True).count == 700


def test_the_machine_is_named():
    text = machine()
    assert f"{len(cores())} core(s)" in text
    assert "torch" in text


def test_steps_are_numbered_and_timed():
    console = Console(file=io.StringIO(), width=80)
    steps = Steps(console)
    steps.begin("one")
    steps.end("done")
    steps.begin("two")
    printed = console.file.getvalue()
    assert "1. one" in printed
    assert "done (0 s)" in printed
    assert "2. two" in printed
    assert 0 <= steps.total() < 5


def test_the_comparison_stands_under_the_table(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("# table\n\n| a |\n\n")
    append_comparison(path, ["x", "y"])
    assert path.read_text().startswith("# table\n\n| a |\n\n## One adapter")
    assert path.read_text().endswith("```\nx\ny\n```\n")


@pytest.mark.slow
def test_the_demo_runs_end_to_end(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    plan = demo_plan(64, quick=True)
    places = {"zoo": tmp_path / "zoo", "faces": tmp_path / "faces"}
    duel = run_demo(plan, tmp_path / "demo", console=console, **places)
    printed = console.file.getvalue()
    for name in ("table.md", "results.png", "results.jsonl", "adapter", "predictors", "faces.png"):
        assert (tmp_path / "demo" / name).exists()
    assert set(duel.predictions) == set(TARGETS)
    assert duel.ratios.warm > 5
    for word in (*TARGETS, *plan.models, "ratio", "Total time", "core(s)", "faces.png"):
        assert word in printed
    # the exam through peft gives the label that the zoo holds, up to the arithmetic of the build
    opened = open_zoo(tmp_path / "zoo")
    labels = opened.labels("accuracy")
    assert min(abs(labels - duel.found["accuracy"])) < 0.02
    lora = read_lora(duel.adapter)
    for target in TARGETS:
        folder = tmp_path / "demo" / "predictors" / target
        assert load_predictor(folder).predict(lora)[0].warnings == ()
    began = console.file.tell()
    run_demo(plan, tmp_path / "demo", console=console, **places)  # nothing made again
    assert "64 LoRAs" in console.file.getvalue()[began:]
    assert (tmp_path / "demo" / "table.md").read_text().count("One adapter") == 1
