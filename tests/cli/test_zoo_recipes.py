"""The paper's four recipes whole, as they stand: from the command line, by two workers, on stand-ins.

The stand-ins (`tests/zoo/stand_ins.py`) have the folders, files and syntax of the published models and data;
ranges, photographs and samples are the recipes' own.
"""

import json
import warnings

import pytest
from tests.zoo.stand_ins import (
    write_arc,
    write_celeba,
    write_clip,
    write_diffusion,
    write_imagenette,
    write_language_base,
)

from lorascope.io import open_zoo, read_lora
from lorascope.zoo.families.published import PUBLISHED

LABELS = {
    "celeba-sd14": {"attributes", "all_attributes", "clip_score", "fidelity", "fidelity_gain"},
    "imagenette-sd14": {"classes", "dataset_size"},
    "arc-qwen2-1.5b": {"sources", "accuracy", "eval_loss", "eval_loss_gain", "dataset_size"},
    "arc-llama3.2-3b": {"sources", "accuracy", "eval_loss", "eval_loss_gain", "dataset_size"},
}
MODULES = {"celeba": {"to_q", "to_v"}, "imagenette": {"to_q", "to_v"}, "arc": {"k_proj", "v_proj"}}


def stand_ins(name, folder):
    """What --base, --data and --clip name."""
    if name.startswith("arc"):
        kind = "llama" if "llama" in name else "qwen2"
        return {
            "--base": write_language_base(folder / "base", kind),
            "--data": write_arc(folder / "arc"),
        }
    if name.startswith("celeba"):
        data = write_celeba(folder / "celeba", people=6, photographs=21)
    else:
        data = write_imagenette(folder / "imagenette")
    return {
        "--base": write_diffusion(folder / "base"),
        "--data": data,
        "--clip": write_clip(folder / "clip"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_recipe_of_the_paper_from_the_command_line(run, tmp_path, monkeypatch, name):
    folders = stand_ins(name, tmp_path)
    places = [word for pair in folders.items() for word in pair]
    folder, out = tmp_path / "zoo", tmp_path / "adapter"
    words = ("--count", 2, "--processes", 2, "--out", folder)
    code, said, err = run("zoo", "build", name, *places, *words)
    assert code == 0, err
    assert said.startswith("2 LoRAs: ")
    zoo = open_zoo(folder)
    assert set(zoo.targets) >= LABELS[name]
    assert {layer.rsplit(".", 1)[-1] for layer in zoo.lora(1)} == MODULES[name.split("-")[0]]
    log = [json.loads(line) for line in (folder / "build.jsonl").read_text().splitlines()]
    assert log[0]["processes"] == 2
    assert not {event["event"] for event in log} & {"failed", "diverged", "skipped"}
    code, said, err = run("zoo", "verify", folder)
    assert (code, err) == (0, "")
    assert said.strip().endswith("sound")
    code, said, err = run("zoo", "rebuild", folder, 1, *places)
    assert (code, err) == (0, ""), said
    code, said, err = run("zoo", "export", folder, 1, "--peft", out, "--base", folders["--base"])
    assert (code, err) == (0, "")
    stored, again = zoo.lora(1), read_lora(out)
    assert set(stored) == set(again)
    assert all((again[x].dense() - stored[x].dense()).abs().max() < 1e-6 for x in stored)
    card = (out / "README.md").read_text()
    monkeypatch.chdir(out)
    with warnings.catch_warnings():  # those of the libraries, where somebody follows the card
        warnings.simplefilter("ignore")
        exec(compile(card.split("```python\n")[1].split("```")[0], "README.md", "exec"), {})
