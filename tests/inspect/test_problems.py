import math
from dataclasses import replace

import pytest
import torch

from lorascope.core.lora import LoRA, Provenance, Scale, Side
from lorascope.core.low_rank import LowRank
from lorascope.inspect.measure import facts_of
from lorascope.inspect.problem import Severity
from lorascope.inspect.problems import CHECKS, problems_of


def pair(seed=0, n=12, m=9, r=3, size=0.1):
    draw = torch.Generator().manual_seed(seed)
    return LowRank(
        size * torch.randn(n, r, generator=draw), size * torch.randn(m, r, generator=draw)
    )


def sound(**changes):
    layers = {f"model.layers.{i}.q_proj": pair(i) for i in range(4)}
    base = {
        "layers": layers,
        "side": {},
        "provenance": Provenance("peft", base="tiny", config={"target_modules": ["q_proj"]}),
    }
    return LoRA(**(base | changes))


def with_layer(new, name="model.layers.1.q_proj"):
    lora = sound()
    return replace(lora, layers={**lora.layers, name: new})


def codes(lora):
    return {problem.code: problem for problem in problems_of(facts_of(lora))}


def test_a_sound_lora_has_no_problem():
    assert problems_of(facts_of(sound())) == ()


def zero(old):
    return LowRank(torch.zeros_like(old.u), old.v)


def blank(old):
    return LowRank(torch.zeros_like(old.u), torch.zeros_like(old.v))


def broken(old):
    u = old.u.clone()
    u[0, 0] = math.nan
    return LowRank(u, old.v)


def lame(old):
    u = old.u.clone()
    u[:, 2] = 0
    return LowRank(u, old.v)


SCALED = {"model.layers.0.q_proj": Scale(1e6, 3, 1e6 / 3, "alpha/r")}
OFF = {"model.layers.0.q_proj": Scale(0.0, 3, 0.0, "alpha/r")}
PLAIN = sound().provenance


@pytest.mark.parametrize(
    ("lora", "code", "severity", "layers"),
    [
        (LoRA({}), "no-layers", Severity.ERROR, 0),
        (with_layer(broken(pair(1))), "not-finite", Severity.ERROR, 1),
        (
            sound(side={"b": Side("bias", torch.tensor([math.inf]))}),
            "not-finite",
            Severity.ERROR,
            1,
        ),
        (sound().map(zero), "untrained", Severity.ERROR, 4),
        (with_layer(zero(pair(1))), "zero-layers", Severity.WARNING, 1),
        (with_layer(pair(1) * 0), "zero-layers", Severity.WARNING, 1),
        (with_layer(blank(pair(1))), "zero-filled", Severity.ERROR, 1),
        (sound().map(blank), "zero-filled", Severity.ERROR, 4),
        (with_layer(lame(pair(1))), "dead-ranks", Severity.WARNING, 1),
        (with_layer(pair(1, n=3, r=5)), "rank-above-layer", Severity.WARNING, 1),
        (sound(provenance=replace(PLAIN, scales=SCALED)), "absurd-scale", Severity.WARNING, 1),
        (sound(provenance=replace(PLAIN, scales=OFF)), "absurd-scale", Severity.WARNING, 1),
        (sound() * 1e4, "absurd-norm", Severity.WARNING, 4),
        (with_layer(pair(1, size=3.0)), "outlier-layers", Severity.WARNING, 1),
        (
            sound(provenance=replace(PLAIN, config={"target_modules": ["q_proj", "k_proj"]})),
            "targets-missing",
            Severity.WARNING,
            0,
        ),
        (
            sound(provenance=replace(PLAIN, ambiguities=("no-config: the scale is unknown.",))),
            "no-config",
            Severity.WARNING,
            0,
        ),
        (
            sound(provenance=replace(PLAIN, ambiguities=("who knows",))),
            "ambiguous",
            Severity.WARNING,
            0,
        ),
        (
            sound(provenance=replace(PLAIN, notes=("pissa: relative to",))),
            "pissa",
            Severity.NOTE,
            0,
        ),
        (sound(side={"b": Side("bias", torch.ones(2))}), "side-tensors", Severity.NOTE, 1),
        (sound(provenance=Provenance("peft")), "base-unknown", Severity.NOTE, 0),
        (
            sound(provenance=replace(PLAIN, left=("oft: needs the base weights.",))),
            "oft",
            Severity.WARNING,
            0,
        ),
        (
            sound(provenance=replace(PLAIN, config={"title": "<script>alert(1)</script>"})),
            "active-metadata",
            Severity.WARNING,
            0,
        ),
        (
            LoRA({}, {"b": Side("native", torch.ones(2))}, PLAIN),
            "no-layers",
            Severity.NOTE,
            0,
        ),
    ],
)
def test_every_problem_is_found_and_named(lora, code, severity, layers):
    problem = codes(lora)[code]
    assert problem.severity is severity
    assert len(problem.layers) == layers
    assert problem.sentence.endswith((".", "unknown.", "relative to", "who knows"))


def test_a_file_filled_with_zeros_is_not_called_untrained():
    assert set(codes(sound().map(blank))) == {"zero-filled"}
    assert set(codes(with_layer(blank(pair(1))))) == {"zero-filled"}
    layers = list(sound().map(zero).layers.items())
    mixed = LoRA({**dict(layers[:3]), layers[3][0]: blank(layers[3][1])}, {}, PLAIN)
    assert set(codes(mixed)) == {"zero-filled", "zero-layers"}


def test_the_worst_comes_first():
    lora = replace(with_layer(broken(pair(1))), provenance=Provenance("peft", notes=("a: b",)))
    found = [problem.severity for problem in problems_of(facts_of(lora))]
    assert found[0] is Severity.ERROR
    assert found == sorted(found, key=list(Severity).index)


def test_a_layer_without_rank_is_zero_not_dead():
    found = codes(with_layer(LowRank(torch.zeros(12, 0), torch.zeros(9, 0))))
    assert "zero-layers" in found
    assert "dead-ranks" not in found


def test_a_config_of_another_form_is_no_problem():
    for targets in ("all-linear", None, 3):
        assert codes(sound(provenance=replace(PLAIN, config={"target_modules": targets}))) == {}


def test_every_check_has_its_sentence():
    assert all(check.__doc__ for check in CHECKS.values())
