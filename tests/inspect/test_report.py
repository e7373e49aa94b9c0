import io
import json
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from lorascope.core.lora import LoRA, Provenance, Scale, Side
from lorascope.core.low_rank import LowRank
from lorascope.inspect.facts import SideFacts
from lorascope.inspect.headers import header_facts
from lorascope.inspect.measure import facts_of
from lorascope.inspect.problems import problems_of
from lorascope.inspect.report import bar, report_json, report_view, size, span
from tests.inspect.files import write_peft


def lora(names=("model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.11.q_proj")):
    torch.manual_seed(0)
    layers = {
        name: LowRank(torch.randn(12, 3) * (place + 1) / 10, torch.randn(8, 3))
        for place, name in enumerate(names)
    }
    scales = {names[0]: Scale(6.0, 3, 2.0, "alpha/r")}
    return LoRA(layers, {"b": Side("bias", torch.ones(2))}, Provenance("peft", scales=scales))


def shown(adapter, **options):
    return view(facts_of(adapter), **options)


def view(facts, **options):
    console = Console(width=120, color_system=None, record=True, file=io.StringIO())
    console.print(report_view("folder", facts, problems_of(facts), **options))
    return console.export_text()


def test_the_report_says_what_the_facts_are():
    text = shown(lora())
    assert "3 layers, rank 3, 180 parameters" in text
    assert "model.layers.*.q_proj" in text
    assert "12 x 8" in text
    assert "base-unknown" in text
    assert "2 = alpha/r" in text
    assert "model.layers.11.q_proj" not in text
    assert "model.layers.11.q_proj" in shown(lora(), every_layer=True)


def test_bars_grow_with_strength_and_stand_in_one_column():
    lines = [line for line in shown(lora()).splitlines() if "█" in line]
    assert len(lines) == 3
    assert len({line.index("█") for line in lines}) == 1
    lengths = [line.count("█") for line in lines]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 32


@pytest.mark.parametrize(
    ("share", "drawn"), [(0, ""), (1, "█" * 32), (1 / 256, "▏"), (2, "█" * 32), (-1, "")]
)
def test_a_bar_is_drawn_in_eighths(share, drawn):
    assert bar(share) == drawn


def test_hostile_names_are_shown_not_obeyed():
    text = shown(lora(names=("[bold red]x.0.a", "\x1b[2Jx.1.a", "[/link]x.2.a")))
    assert "\x1b" not in text
    assert "[bold red]x" in text
    assert "\\x1b[2Jx" in text
    assert "[/link]x" in text


def test_json_is_json_even_for_a_broken_lora():
    broken = LoRA({"a": LowRank(torch.full((3, 1), math.nan), torch.ones(2, 1))})
    facts = facts_of(broken)
    data = json.loads(json.dumps(report_json("p", facts, problems_of(facts)), allow_nan=False))
    assert data["norm"] is None
    assert data["layers"][0]["finite"] is False
    assert data["problems"][0]["code"] == "not-finite"
    assert "nan" in shown(broken)


def test_json_holds_the_facts():
    facts = facts_of(lora())
    data = report_json("p", facts, problems_of(facts))
    assert data["format"] == "peft"
    assert data["layers"][0]["scale"] == {"alpha": 6.0, "rank": 3, "factor": 2.0, "rule": "alpha/r"}
    assert data["layers"][1]["scale"] is None
    assert data["layers"][2]["block"] == "model.layers.11"
    assert data["layers"][2]["top"] == pytest.approx(facts.layers[2].spectrum[0])
    assert [block["layers"] for block in data["blocks"]] == [1, 1, 1]
    assert data["side"] == [
        {"name": "b", "kind": "bias", "shape": (2,), "dtype": "float32", "finite": True}
    ]


@pytest.mark.parametrize("every_layer", [True, False])
def test_what_was_not_measured_is_a_dash_and_null(tmp_path, every_layer):
    facts, _ = header_facts(write_peft(tmp_path / "adapter"))
    text = view(facts, every_layer=every_layer)
    assert "nan" not in text
    row = next(line for line in text.splitlines() if "q_proj" in line)
    assert row.split()[-2:] == ["-", "-"]
    beside = replace(facts, side=(SideFacts("b", "bias", (2,), "float32", True),))
    data = report_json("p", beside, ())
    unknown = ("norm", "rms", "top", "effective_rank", "dead_ranks", "finite", "scale")
    assert {data["layers"][0][key] for key in unknown} == {None}
    assert data["side"][0]["finite"] is None


def test_a_spectrum_that_was_not_taken_is_no_number():
    facts = facts_of(lora())
    layers = tuple(replace(x, spectrum=None, effective_rank=None) for x in facts.layers)
    text = view(replace(facts, layers=layers), every_layer=True)
    assert "nan" not in text
    assert report_json("p", replace(facts, layers=layers), ())["layers"][0]["dead_ranks"] is None


def test_an_empty_lora_is_shown():
    assert "no-layers" in shown(LoRA({}))


def test_numbers_are_short():
    assert span([1.0, 2.0], ".1f") == "1.0 to 2.0"
    assert span([1.0, 1.0], ".1f") == "1.0"
    assert span([1.0, None], ".1f") == "-"
    assert span([], ".1f") == "none"
    assert [size(x) for x in (5, 1536, 3 << 20, 5 << 30)] == [
        "5 bytes",
        "1.5 KiB",
        "3 MiB",
        "5 GiB",
    ]
