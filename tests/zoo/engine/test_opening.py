"""The opening in float32: what it divides, and what zoos of half precision owe to it."""

import dataclasses

import pytest
import torch

from lorascope.zoo.engine.language.alone import fit_alone
from lorascope.zoo.engine.language.engine import load_model
from lorascope.zoo.engine.opening import lessons_of, opens, spans_of
from lorascope.zoo.engine.peft_model import adapted_layers
from lorascope.zoo.factory.family import engine_of, spec_of
from lorascope.zoo.families.collection import named_zoo


class Piece:
    def __init__(self, steps, base=None, spans=None):
        self.steps, self.base, self.spans = torch.tensor(steps), base, spans

    def part(self, base, spans):
        return Piece(self.steps.tolist(), base, spans)


class Ground:
    def __init__(self, exact, exact_steps):
        self.exact, self.exact_steps, self.later = exact, exact_steps, "coarse"


def test_the_first_steps_and_the_rest_are_all_steps():
    for first in (1, 3, 9):
        for n, *parts in zip([2, 5, 1], *spans_of([2, 5, 1], first), strict=True):
            assert [*parts[0], *parts[1]] == list(range(n))
            assert len(parts[0]) == min(first, n)


def test_only_coarse_types_open():
    kinds = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    assert [opens(kind) for kind in kinds] == [True, True, False, False]


def test_a_lesson_is_divided_only_where_there_is_an_opening_and_a_rest():
    lesson = Piece([2, 5])
    assert lessons_of(lesson, Ground(None, 0)) == [lesson]
    assert lessons_of(lesson, Ground("fine", 0)) == [lesson]
    (only,) = lessons_of(lesson, Ground("fine", 5))
    assert only.base == "fine"
    first, rest = lessons_of(lesson, Ground("fine", 2))
    assert (first.base, rest.base) == ("fine", "coarse")
    assert [len(span) for span in rest.spans] == [0, 3]


def updates(fitted):
    """The update of every layer of each LoRA, side by side: (g, numbers)."""
    rows = fitted.layout.unpack(fitted.scaled.double())
    return torch.cat([(B @ A).flatten(1) for A, B, _ in rows.values()], 1)


def finetuned(name, indices, dtype, **settings):
    """LoRAs of a zoo of the collection, from its own recipe's ranges."""
    family = named_zoo(name).family()
    engine = engine_of(family)
    compiled = settings.pop("compiled", engine.compiles())
    base = engine.load(family.base_folder, dtype, compiled, **settings)
    specs, jobs = zip(*((spec_of(family, i), family.job(i)) for i in indices), strict=True)
    return engine.fit(base, specs, jobs, engine.slots)


def shipped(name, indices, **settings):
    """As zoos are built where the processor has bfloat16."""
    steps = engine_of(named_zoo(name).family()).exact_steps
    return finetuned(name, indices, torch.bfloat16, exact_steps=steps, **settings)


def cosines(name, indices, **settings):
    """Of each LoRA's whole update with that of float32 training."""
    exact = finetuned(name, indices, torch.float32, compiled=False)
    return torch.cosine_similarity(updates(exact), updates(shipped(name, indices, **settings)), 1)


@pytest.mark.parametrize(("name", "indices"), [("faces", [81, 2193]), ("exam-qwen", [343, 1031])])
def test_half_precision_keeps_to_float32(name, indices):
    kept = cosines(name, indices)
    assert (kept >= 0.999).all(), kept
    exact, coarse = (
        updates(finetuned(name, indices, kind)) for kind in (torch.float32, torch.bfloat16)
    )
    lost = torch.cosine_similarity(exact, coarse, 1)
    assert (lost < 0.9995).all(), lost  # these need the opening


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "chaotic"),
    [("faces", 24, 0), ("objects", 24, 0), ("exam-qwen", 64, 0), ("exam-llama", 64, 1)],
)
def test_a_sample_of_the_collection_keeps_to_float32(name, count, chaotic):
    """One exam in a hundred is chaotic (high rate, 240 steps): any rounding grows, whenever it happens."""
    of = named_zoo(name).count
    kept = cosines(name, [int((k + 0.5) * of / count) for k in range(count)]).sort().values
    assert int((kept < 0.999).sum()) <= chaotic, kept[:8]
    assert kept[0] > 0.99
    assert kept.median() > 0.9997


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_shipped_exams_keep_to_peft_alone():
    indices = [343, 593, 1468]
    family = named_zoo("exam-qwen").family()
    ours = shipped("exam-qwen", indices, compiled=False)
    rows = []
    for index in indices:
        model = fit_alone(load_model(family.base_folder), family.spec, family.job(index))
        factors = [
            part.default.weight.detach().flatten()
            for layer in adapted_layers(model).values()
            for part in (layer.lora_A, layer.lora_B)
        ]
        rows.append(torch.cat(factors))
    theirs = dataclasses.replace(ours, rows=torch.stack(rows))
    kept = torch.cosine_similarity(updates(theirs), updates(ours), 1)
    assert (kept >= 0.999).all(), kept
