"""What `inspect` prints of odd declarations and of every hostile file follows the documented schemas."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from lorascope.cli.output import without_nan
from lorascope.inspect.examine import examine
from lorascope.inspect.sarif import sarif
from lorascope.inspect.scan import brief
from lorascope.inspect.summary import Summary
from tests.hostile.files import ADAPTERS, HEADERS, write_adapter, write_header
from tests.hostile.valid import NAMES, write
from tests.inspect.schema import SCHEMA, sarif_violations, violations

ODD = ["", " ", "None", "\x1b[2J", "x" * 5000, "🙂", "../..", "[]", 0, 3.5, True, None, [], {}]  # fmt: skip


def documents_of(path):
    """All documents that the command makes of a file."""
    for headers in (False, True):
        result = examine(path, headers=headers, allow_pickle=True)
        yield without_nan(result.to_json())
        yield without_nan(brief(result))


def held(path):
    """Hold a file's documents against both schemas; the whole one."""
    found = list(documents_of(path))
    for one in found:
        summary = {
            "files": 1,
            "base": {},
            "format": {},
            "outcome": {one["outcome"]: 1},
            "problem": {},
        }
        document = {"schema": "lorascope.inspect/1", "summary": summary, "files": [one]}
        assert violations(document) == []
        assert sarif_violations(sarif([one], "0.1.0")) == []
    return found[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_format(name, tmp_path):
    assert held(write(name, tmp_path))["outcome"] != "refused"


@pytest.mark.parametrize("story", [*HEADERS, *ADAPTERS])
def test_every_hostile_file(story, tmp_path):
    make = write_header if story in HEADERS else write_adapter
    document = held(make(story, tmp_path))
    assert document["outcome"] == "refused"
    assert document["error"]


@pytest.mark.parametrize("base", ODD, ids=lambda value: repr(value)[:20])
def test_an_odd_declaration_of_the_base_in_a_configuration(base, tmp_path):
    path = write("peft", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    document = held(path.parent)
    assert document["base"] == (base if isinstance(base, str) and base else None)
    assert document["family"]["name"]


@pytest.mark.parametrize("base", ODD, ids=lambda value: repr(value)[:20])
def test_an_odd_declaration_of_the_base_for_mlx(base, tmp_path):
    path = write("mlx", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"model": base}))
    assert held(path)["base"] == (base if isinstance(base, str) and base else None)


@pytest.mark.parametrize(
    "key", ["ss_sd_model_name", "ss_base_model_version", "modelspec.architecture"]
)
@pytest.mark.parametrize(
    "base", [base for base in ODD if isinstance(base, str)], ids=lambda v: repr(v)[:20]
)
def test_an_odd_declaration_of_the_base_in_metadata(key, base, tmp_path):
    flat = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{flat}.lora_down.weight": torch.ones(2, 4),
        f"{flat}.lora_up.weight": torch.ones(4, 2),
    }
    save_file(tensors, tmp_path / "a.safetensors", {key: base})
    document = held(tmp_path / "a.safetensors")
    told = base if base and not key.startswith("modelspec") else None
    assert document["base"] == told
    assert not [
        problem for problem in document["problems"] if problem["code"] == "base-contradicts"
    ]


def test_the_validators_can_fail(tmp_path):
    document = next(documents_of(write("peft", tmp_path)))
    summary = json.loads(json.dumps(Summary().to_json()))
    good = {"schema": "lorascope.inspect/1", "summary": summary, "files": [document]}
    assert violations(good) == []
    for change in ({"schema": "2"}, {"more": 1}, {"files": [document | {"base": 3}]},
                   {"files": [document | {"norm": "1"}]}):  # fmt: skip
        assert violations(good | change)
    log = sarif([next(documents_of(write("kohya", tmp_path)))], "0.1.0")
    assert log["runs"][0]["results"]
    for part, value in (("level", "fatal"), ("ruleIndex", 99), ("message", {}), ("extra", 1)):
        broken = copy.deepcopy(log)
        broken["runs"][0]["results"][0][part] = value
        assert sarif_violations(broken)


def test_the_schema_closes_every_object():
    def objects(rule):
        if isinstance(rule, dict):
            if rule.get("type") == "object":
                yield rule
            for part in rule.values():
                yield from objects(part)
        elif isinstance(rule, list):
            for part in rule:
                yield from objects(part)

    assert all("additionalProperties" in rule for rule in objects(SCHEMA))
