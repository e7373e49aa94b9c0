import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from lorascope.errors import FileError, FormatError
from lorascope.inspect.headers import READ, header_facts
from lorascope.inspect.measure import facts_of
from lorascope.inspect.problem import Severity
from lorascope.io.peft.config import KINDS
from lorascope.io.read import read_lora
from tests.inspect.files import METADATA, kohya_tensors, write_kohya, write_peft


def test_a_header_tells_what_needs_no_value(tmp_path):
    facts, problems = header_facts(write_kohya(tmp_path / "a.safetensors"))
    assert (facts.format, facts.writer, facts.family.name) == ("kohya", "sd-scripts", "SD1")
    assert {(x.n, x.m, x.rank, x.dtype) for x in facts.layers} == {
        (320, 768, 4, "float16"),
        (320, 320, 4, "float16"),
    }
    assert facts.training.trigger_words == ("sks dog", "best dog")
    assert not facts.measured
    assert facts.norm is None
    assert problems == ()


def test_it_agrees_with_the_reading_of_the_values(tmp_path):
    for path in (write_peft(tmp_path / "peft"), write_kohya(tmp_path / "a.safetensors")):
        header, whole = header_facts(path)[0], facts_of(read_lora(path))
        for name in ("format", "base", "family", "training", "parameters"):
            one, other = getattr(header, name), getattr(whole, name)
            assert (one.name if name == "family" else one) == (
                other.name if name == "family" else other
            )
        assert sorted((x.n, x.m, x.rank) for x in header.layers) == sorted(
            (x.n, x.m, x.rank) for x in whole.layers
        )


def test_an_adapters_folder_has_its_configuration(tmp_path):
    facts, _ = header_facts(write_peft(tmp_path / "a", base="Qwen/Qwen2-0.5B"))
    assert (facts.format, facts.base, facts.family.name) == ("peft", "Qwen/Qwen2-0.5B", "Qwen2")
    assert facts.training.facts["dim"] == 2


@pytest.mark.parametrize("config", ["[" * 100_000, "[1]", "{", '{"a": NaN}', " " * (1 << 21)])
def test_a_configuration_of_any_form_breaks_nothing(tmp_path, config):
    folder = write_peft(tmp_path / "a")
    (folder / "adapter_config.json").write_text(config)
    facts, problems = header_facts(folder)
    assert facts.base is None
    assert [problem.severity for problem in problems] == [Severity.ERROR]


def test_a_method_whose_values_are_not_read_is_named(tmp_path):
    assert KINDS == READ
    folder = write_peft(tmp_path / "a")
    (folder / "adapter_config.json").write_text('{"peft_type": "VERA"}')
    (problem,) = header_facts(folder)[1]
    assert (problem.code, "VERA" in problem.sentence) == ("other-method", True)


def test_ranks_of_products_are_those_that_the_values_have(tmp_path):
    shapes = {
        "a.lokr_w1": (8, 8), "a.lokr_w2_a": (8, 2), "a.lokr_w2_b": (2, 8), "b.lokr_w1": (4, 2),
        "b.lokr_w2": (2, 8), "c.hada_w1_a": (16, 3), "c.hada_w1_b": (3, 12), "c.hada_w2_a": (16, 3),
        "c.hada_w2_b": (3, 12), "d.lokr_w1_a": (8, 1), "d.lokr_w1_b": (1, 8), "d.lokr_w2": (4, 4),
    }  # fmt: skip
    tensors = {f"lora_unet_{key}": torch.rand(shape) for key, shape in shapes.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    header, whole = (
        header_facts(tmp_path / "a.safetensors")[0],
        facts_of(read_lora(tmp_path / "a.safetensors")),
    )
    assert [x.rank for x in header.layers] == [x.rank for x in whole.layers] == [16, 4, 9, 4]
    assert header.parameters == whole.parameters
    save_file({"lora_unet_a.hada_w1_a": torch.ones(4, 2)}, tmp_path / "half.safetensors")
    assert [p.code for p in header_facts(tmp_path / "half.safetensors")[1]] == ["missing-half"]


def test_halves_and_shards_are_told(tmp_path):
    tensors = kohya_tensors()
    first = next(iter(tensors)).removesuffix(".lora_down.weight")
    del tensors[f"{first}.lora_up.weight"]
    save_file(tensors, tmp_path / "half.safetensors", METADATA)
    (problem,) = header_facts(tmp_path / "half.safetensors")[1]
    assert (problem.code, problem.severity, problem.layers) == (
        "missing-half",
        Severity.ERROR,
        (first,),
    )
    shards = {"m.q.lora_A.weight": torch.ones(8), "m.q.lora_B.weight": torch.ones(0)}
    save_file(shards, tmp_path / "shards.safetensors")
    assert [p.code for p in header_facts(tmp_path / "shards.safetensors")[1]] == ["not-gathered"]
    empty = {"m.q.lora_A.weight": torch.ones(0, 8), "m.q.lora_B.weight": torch.ones(8, 0)}
    save_file(empty, tmp_path / "empty.safetensors")
    assert [p.code for p in header_facts(tmp_path / "empty.safetensors")[1]] == ["not-gathered"]


def test_what_is_no_lora_or_no_safetensors_is_refused(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match="names a factor"):
        header_facts(tmp_path / "x.safetensors")
    with pytest.raises(FileError):
        header_facts(tmp_path / "absent.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="expected adapter_model"):
        header_facts(tmp_path / "folder")


def test_what_has_no_rank_stands_beside(tmp_path):
    tensors = {"lora_unet_a.oft_blocks": torch.ones(2, 4, 4)}
    save_file(tensors | {"<s1>": torch.ones(8)}, tmp_path / "a.safetensors")
    facts, _ = header_facts(tmp_path / "a.safetensors")
    assert [(side.name, side.kind) for side in facts.side] == [
        ("lora_unet_a", "oft"),
        ("<s1>", "native"),
    ]


def test_no_tensor_library_is_loaded(tmp_path):
    path = write_kohya(tmp_path / "a.safetensors")
    code = (
        "import sys; from pathlib import Path; from lorascope.inspect.examine import examine;"
        f"print(examine(Path({str(path)!r}), headers=True).to_json()['family']['name']);"
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[:2] == ["SD1", "[]"]
