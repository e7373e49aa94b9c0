"""The written configuration: usual values, rules for the rest, and what of the old one stays."""

import torch

from lorascope.core import LoRA, LowRank, Provenance, Side
from lorascope.io.peft import write_config as peft_write_config
from lorascope.io.peft.pattern import Patterns
from lorascope.io.peft.write_config import Rule, make_config


def rules(*values):
    return [Rule(path, path, "", rank, alpha) for path, rank, alpha in values]


def empty(**provenance):
    return LoRA({}, provenance=Provenance(**provenance))


def resolved(config, names):
    ranks = Patterns(config["rank_pattern"], "rank_pattern", "")
    alphas = Patterns(config["alpha_pattern"], "alpha_pattern", "")
    return [
        (ranks.match(name) or config["r"], alphas.match(name) or config["lora_alpha"])
        for name in names
    ]


def test_the_most_common_values_are_the_defaults():
    given = rules(("a.q", 4, 8.0), ("b.q", 2, 8.0), ("c.q", 4, 3.5))
    config = make_config(empty(), given, "tiny", rslora=False)
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["rank_pattern"] == {"b.q": 2}
    assert config["alpha_pattern"] == {"c.q": 3.5}
    assert config["base_model_name_or_path"] == "tiny"
    assert config["target_modules"] == ["a.q", "b.q", "c.q"]
    assert (config["modules_to_save"], config["bias"], config["target_parameters"]) == (
        None,
        "none",
        None,
    )


def test_among_equals_the_value_of_before_stays():
    given = rules(("a.q", 4, 8.0), ("b.q", 2, 6.0))
    before = {"r": 2, "lora_alpha": 6, "peft_type": "LORA"}
    config = make_config(empty(format="peft", config=before), given, None, rslora=True)
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (2, 6, True)
    assert config["rank_pattern"] == {"a.q": 4}


def test_rules_that_would_hit_others_are_anchored(monkeypatch):
    """'q' alone would match every path that ends in '.q'."""
    given = rules(("q", 2, 8.0), ("m.q", 4, 8.0), ("m.k", 4, 8.0))
    config = make_config(empty(), given, None, rslora=False)
    assert config["rank_pattern"] == {"^q": 2}
    assert resolved(config, ["q", "m.q", "m.k"]) == [(2, 8), (4, 8), (4, 8)]
    # nor is the dot of a path any character
    given = rules(("m.q.a", 2, 8.0), ("m.q_a", 4, 8.0), ("m.k", 4, 8.0))
    config = make_config(empty(), given, None, rslora=False)
    assert resolved(config, ["m.q.a", "m.q_a"]) == [(2, 8), (4, 8)]
    # a table too long to be checked is anchored unseen
    monkeypatch.setattr(peft_write_config, "MAX_CHECKS", 0)
    config = make_config(
        empty(), rules(("m.q", 2, 8.0), ("m.k", 4, 8.0), ("m.v", 4, 8.0)), None, rslora=False
    )
    assert config["rank_pattern"] == {r"^m\.q": 2}


def test_what_stays_of_the_old_configuration():
    before = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "lora_dropout": 0.1,
        "init_lora_weights": "pissa",
        "use_bdlora": {"nblocks": 2},
        "use_qalora": True,
        "layers_to_transform": [1],
        "peft_version": "0.21.2",
        "modules_to_save": ["head"],
    }
    config = make_config(
        empty(format="peft", config=before), rules(("m.q", 2, 2.0)), None, rslora=False
    )
    assert config["task_type"] == "CAUSAL_LM"
    assert (config["lora_dropout"], config["init_lora_weights"]) == (0.1, "pissa")
    assert config["modules_to_save"] == ["head"]
    assert not {"use_bdlora", "use_qalora", "layers_to_transform", "peft_version"} & set(config)
    config = make_config(
        empty(format="peft", config=before | {"peft_type": "ADALORA"}),
        rules(("m.q", 2, 2.0)),
        None,
        rslora=False,
    )
    assert config["peft_type"] == "LORA"
    assert "lora_dropout" not in config
    # another format's configuration is not PEFT's
    config = make_config(
        empty(format="mlx", config=before), rules(("m.q", 2, 2.0)), None, rslora=False
    )
    assert "task_type" not in config


def test_modules_inside_adapted_ones_come_with_them():
    config = make_config(
        empty(), rules(("attn", 2, 2.0), ("attn.out_proj", 2, 2.0)), None, rslora=False
    )
    assert config["target_modules"] == ["attn"]


def test_side_tensors_set_their_flags():
    side = {
        "head.weight": Side("full", torch.ones(1)),
        "m.q.dora_magnitude": Side("dora_magnitude", torch.ones(1)),
        "m.q.lora_bias": Side("lora_bias", torch.ones(1)),
        "m.q.bias": Side("bias", torch.ones(1)),
    }
    lora = LoRA({"m.q": LowRank(torch.ones(1, 1), torch.ones(1, 1))}, side)
    config = make_config(lora, rules(("m.q", 1, 1.0)), None, rslora=False)
    assert (config["use_dora"], config["lora_bias"], config["bias"]) == (True, True, "lora_only")
    assert config["modules_to_save"] == ["head"]
