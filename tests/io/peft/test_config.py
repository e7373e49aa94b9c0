"""adapter_config.json: scales, flags, and configurations that are refused."""

import json
import math

import pytest

from lorascope.core import Scale
from lorascope.errors import FormatError, HostileFileError
from lorascope.io.peft import config as peft_config
from lorascope.io.peft.config import OTHER_KINDS, PeftConfig, read_config

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 6}


def config(**changes):
    return PeftConfig(LORA | changes, "file")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Scale(6.0, 4, 1.5, "alpha/r")),
        ({"use_rslora": True}, Scale(6.0, 4, 3.0, "alpha/sqrt(r)")),
        ({"alpha_pattern": {"q": 2}}, Scale(2.0, 4, 0.5, "alpha/r")),
        ({"alpha_pattern": {"k": 2}, "lora_alpha": 0.5}, Scale(0.5, 4, 0.125, "alpha/r")),
        (
            {"rank_pattern": {"q": 9}},
            Scale(6.0, 4, 1.5, "alpha/r"),
        ),  # the rank is that of the tensors
        ({"peft_type": "ADALORA", "init_r": 12}, Scale(6.0, 12, 6 / (12 + 1e-5), "alpha/(r+1e-5)")),
        (
            {"peft_type": "ADALORA", "init_r": 12, "lora_alpha": 0},
            Scale(0.0, 12, 12 / (12 + 1e-5), "alpha/(r+1e-5)"),
        ),
    ],
)
def test_scales(changes, expected):
    assert config(**changes).scale_of("m.q", 4) == expected


def test_ranks():
    assert config().rank_of("m.q") == 4
    assert config(rank_pattern={"q": 9}).rank_of("m.q") == 9
    assert PeftConfig(None, "file").rank_of("m.q") is None
    assert PeftConfig({}, "file").rank_of("m.q") is None


def test_absence():
    absent = PeftConfig(None, "file")
    assert absent.scale_of("m.q", 4) == Scale(None, 4, 1.0, "1 (no config)")
    assert [text.split(":")[0] for text in absent.ambiguities()] == ["scale"]
    assert (absent.base, absent.version, absent.notes()) == (None, None, ())


def test_facts():
    full = config(base_model_name_or_path="tiny", peft_version="0.19.1.dev0@abc")
    assert (full.base, full.version) == ("tiny", (0, 19, 1))
    assert config(peft_version="main").version is None
    assert config(base_model_name_or_path="").base is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"r": 4, "lora_alpha": 6}, "kind"),
        ({"peft_type": "LORA", "r": 4}, "scale"),
        (LORA | {"init_lora_weights": "new_thing"}, "init"),
        (LORA | {"use_qalora": True}, "qalora"),
    ],
)
def test_what_is_left_open(data, code):
    assert [text.split(":")[0] for text in PeftConfig(data, "file").ambiguities()] == [code]


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_plain_initialisations_say_nothing(init):
    assert (
        config(init_lora_weights=init).ambiguities(),
        config(init_lora_weights=init).notes(),
    ) == ((), ())


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "corda", "lora_ga", "loftq"])
def test_initialisations_that_change_the_base_are_noted(init):
    (note,) = config(init_lora_weights=init).notes()
    assert note.startswith("base_changed: ")


@pytest.mark.parametrize("flag", peft_config.FLAGS)
def test_every_flag_is_noted(flag):
    notes = config(**{flag: {"on": 1}}).notes()
    assert [note.split(":")[0] for note in notes] == [flag]


@pytest.mark.parametrize("kind", [*OTHER_KINDS, "SOMETHING_NEW", 7])
def test_other_kinds_are_refused_with_the_reason(kind):
    reason = OTHER_KINDS.get(str(kind), "unknown to this version")
    with pytest.raises(FormatError) as caught:
        config(peft_type=kind)
    assert reason in str(caught.value)
    assert repr(kind) in str(caught.value)


def test_every_kind_of_peft_is_known():
    from peft import PeftType

    ours = {*OTHER_KINDS, "LORA", "ADALORA"}
    # kinds that came after this table was written are refused as unknown, which is right but less helpful
    assert len(ours - {kind.value for kind in PeftType}) == 0


@pytest.mark.parametrize("mark", ["fine_tune_type", "lora_parameters"])
def test_mlx_is_named(mark):
    with pytest.raises(FormatError, match="configuration of MLX"):
        PeftConfig({mark: "lora"}, "file")


def test_merged_linear_is_refused():
    with pytest.raises(FormatError, match="enable_lora"):
        config(enable_lora=[True, False, True])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_alpha": None}, "lora_alpha is None, expected a finite number"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": "6"}, "lora_alpha is '6'"),
        ({"lora_alpha": math.inf}, "lora_alpha is inf"),
        ({"lora_alpha": math.nan}, "lora_alpha is nan"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000"),
        ({"alpha_pattern": {"q": [1]}}, r"lora_alpha is \[1\]"),
    ],
)
def test_nonsensical_alphas_are_refused(changes, message):
    with pytest.raises(FormatError, match=message):
        config(**changes).scale_of("m.q", 4)


@pytest.mark.parametrize("rank", [0, -1, 1.5, "4", True, [4]])
def test_nonsensical_ranks_are_refused(rank):
    with pytest.raises(FormatError, match=r"r is .*, expected a whole number from 1"):
        config(r=rank).rank_of("m.q")


def test_nonsensical_tables_and_lists_are_refused():
    with pytest.raises(FormatError, match=r"rank_pattern is .*, expected a table"):
        config(rank_pattern=[1])
    with pytest.raises(FormatError, match=r"use_bdlora is .*, expected a table"):
        config(use_bdlora=[1]).table("use_bdlora")
    with pytest.raises(FormatError, match=r"target_parameters is .*, expected a list of names"):
        config(target_parameters="experts").names("target_parameters")
    with pytest.raises(HostileFileError, match="qalora_group_size is 999, expected at most 10"):
        config(qalora_group_size=999).count("qalora_group_size", 16, 10)
    assert config(qalora_group_size=None).count("qalora_group_size", 16, 20) == 16


def test_files(tmp_path, monkeypatch):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(LORA))
    assert read_config(path).rank_of("q") == 4
    path.write_text("[1, 2]")
    with pytest.raises(FormatError, match="JSON list, expected a table"):
        read_config(path)
    monkeypatch.setattr(peft_config, "MAX_CONFIG_BYTES", 3)
    with pytest.raises(HostileFileError, match="more than 3 bytes"):
        read_config(path)


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}', encoding="utf-8-sig")
    assert read_config(path).scale_of("m.q", 4).factor == 2.0
