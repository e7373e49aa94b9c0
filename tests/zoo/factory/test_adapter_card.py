"""The README of an exported adapter: its Python lines run as they stand, wherever lorascope is."""

import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch

import lorascope
from lorascope.zoo.factory.adapter_card import adapter_card
from lorascope.zoo.factory.export import export_peft
from tests.zoo.factory.planted_zoo import planted_recipe, write_planted

# diffusers 0.42 with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def elsewhere(folder, place):
    """A folder as it arrives on another machine, where the base lies in another place."""
    shutil.move(folder, place)
    config = place / "adapter_config.json"
    read = json.loads(config.read_text())
    config.write_text(json.dumps(read | {"base_model_name_or_path": "/gone/exam-qwen"}))
    return place


def blocks(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)


def run_lines(block):
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_lines_load_it_and_reproduce_its_scores(exam_zoo, tmp_path, monkeypatch, capsys):
    folder = elsewhere(export_peft(exam_zoo, 1, tmp_path / "a"), tmp_path / "there" / "b")
    monkeypatch.chdir(folder)
    load, ask = blocks(folder)
    model = run_lines(load)["model"]
    asked = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        adapted = model(input_ids=asked).logits
        with model.disable_adapter():
            assert not torch.equal(model(input_ids=asked).logits, adapted)
    capsys.readouterr()
    run_lines(ask)
    found = dict(re.findall(r"'(\w+)': ([\d.]+)", capsys.readouterr().out))
    said = dict(re.findall(r"(accuracy|eval_loss) ([\d.]+)", ask.split("# in the zoo:")[1]))
    for name, value in said.items():
        stored = float(exam_zoo.labels(name)[1])
        assert float(value) == pytest.approx(stored, rel=1e-3)
        assert float(found[name]) == pytest.approx(stored, rel=1e-3, abs=2e-3)
    assert set(found) == set(said) == {"accuracy", "eval_loss"}


def test_the_lines_of_an_image_lora_draw_with_its_own_words(
    second_zoo, tmp_path, monkeypatch, capsys
):
    folder = elsewhere(export_peft(second_zoo, 0, tmp_path / "a"), tmp_path / "b")
    monkeypatch.chdir(folder)
    load, ask = blocks(folder)
    words = ("celebrity", "person", "thing", "skd")[int(second_zoo.hyper()["prompt"][0])]
    assert f'pipeline("{words}", num_inference_steps=4, guidance_scale=3.0)' in load
    assert run_lines(load)["image"].size == (32, 32)
    capsys.readouterr()
    run_lines(ask)
    score = float(re.search(r"'clip_score': ([\d.]+)", capsys.readouterr().out)[1])
    assert score == pytest.approx(second_zoo.labels("clip_score")[0], abs=1e-3)


def test_it_names_no_place_of_this_machine(exam_zoo, second_zoo, tmp_path):
    for number, zoo in enumerate((exam_zoo, second_zoo)):
        text = (export_peft(zoo, 0, tmp_path / str(number)) / "README.md").read_text()
        assert str(Path(lorascope.__file__).parent) not in text
        assert str(Path.home()) not in text
        assert str(tmp_path) not in text
    assert 'base_model: "faces-second"' in text
    assert 'base_folder("faces-second")' in text


def test_labels_and_hyper_parameters(exam_zoo):
    row = exam_zoo.index.slice(3, 1).to_pylist()[0]
    text = adapter_card(exam_zoo, row, list(exam_zoo.lora(3)), bundled="exam-qwen", base="")
    assert f"Index 3 of the exam family, seed {row['seed']}." in text
    assert f"| accuracy | {row['label:accuracy']:.4g} | 0.2469 |" in text
    assert f"learning_rate {row['hyper:learning_rate']:.4g}" in text


@pytest.mark.parametrize("base", ["someone/tiny", 'a"b\nimport os', ""])
def test_another_base_is_named_as_it_is(tmp_path, base):
    zoo = write_planted(tmp_path / "zoo")
    row = zoo.index.slice(7, 1).to_pylist()[0]
    text = adapter_card(zoo, row, list(zoo.lora(7)), bundled=None, base=base)
    assert f"AutoModelForCausalLM.from_pretrained({json.dumps(base or 'BASE')})" in text
    assert "base_folder" not in text
    assert "ask it again" not in text
    assert ("base_model:" in text) == bool(base)
    compile(text.split("```python\n")[1].split("```")[0], "README.md", "exec")


def test_scores_are_asked_again_only_on_the_base_that_gave_them(tmp_path):
    recipe = planted_recipe(family="exam", base={"folder": "exam-qwen", "sha256": "0" * 64})
    zoo = write_planted(tmp_path / "zoo", recipe=recipe)
    row = zoo.index.slice(7, 1).to_pylist()[0]
    text = adapter_card(zoo, row, list(zoo.lora(7)), bundled="exam-qwen", base="")
    assert "ask it again" not in text


@pytest.mark.parametrize(
    ("family", "options", "called"),
    [
        ("celeba-sd14", {"steps": 20, "guidance": 7.5}, '"thing", num_inference_steps=20, guid'),
        ("imagenette-sd14", {}, '"a portrait"'),
        ("own", {}, '"a portrait"'),
    ],
)
def test_published_pipelines_are_called_as_their_zoo_does(tmp_path, family, options, called):
    zoo = write_planted(tmp_path / "zoo", recipe=planted_recipe(family=family, options=options))
    row = {**zoo.index.slice(7, 1).to_pylist()[0], "hyper:prompt": 2.0}
    text = adapter_card(zoo, row, ["mid_block.x"], bundled=None, base="sd")
    assert f"pipeline({called}" in text


@pytest.mark.parametrize("prompt", [float("nan"), float("inf"), None, "words"])
def test_a_prompt_that_is_no_place_is_the_usual_one(tmp_path, prompt):
    zoo = write_planted(tmp_path / "zoo", recipe=planted_recipe(family="celeba-sd14"))
    row = {**zoo.index.slice(7, 1).to_pylist()[0], "hyper:prompt": prompt}
    text = adapter_card(zoo, row, ["mid_block.x"], bundled=None, base="sd")
    assert 'pipeline("Celebrity"' in text


def test_names_from_files_do_no_harm(tmp_path):
    targets = {"maker": {"kind": "multiclass", "classes": ["a", "b"]}, "x|<script>": {}}
    more = {"label:maker": "b|<script>\n# x", "hyper:<script>": 1.0, "label:x|<script>": "y"}
    recipe = planted_recipe(targets=targets, family="<script>")
    zoo = write_planted(tmp_path / "zoo", recipe=recipe, **more)
    text = (export_peft(zoo, 0, tmp_path / "a") / "README.md").read_text()
    assert "<script>" not in text
    assert "\n# x" not in text
