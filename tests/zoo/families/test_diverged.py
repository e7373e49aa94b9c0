"""What an adapter that diverged would answer is no label, whichever family asks."""

import dataclasses

import pytest
import torch

from lorascope.zoo.engine.fitted import untrained
from lorascope.zoo.engine.image.base import layout_of as image_layout
from lorascope.zoo.engine.language.fit import layout_of
from lorascope.zoo.factory.family import engine_of
from lorascope.zoo.families.arc import ArcFamily
from lorascope.zoo.families.celeba import CelebaFamily
from lorascope.zoo.families.diverged import without_scores
from lorascope.zoo.families.exam import ExamFamily
from lorascope.zoo.families.faces import FacesFamily
from lorascope.zoo.families.own import Lesson, Question, TextFamily
from tests.zoo.stand_ins import write_arc, write_language_base

ASKED = [Question("rock", ("moves", "orbits a star"), 1)]


def lesson(index, draw):
    return Lesson(ASKED, {"count": 1.0})


def score(answers, index):
    return {"accuracy": answers.accuracy(ASKED)}


def pair_of(family, base, layout):
    """Two of the same adapter, of which the second diverged: its factors are too large for a finite answer."""
    one = untrained(family.spec, layout(base, [family.spec]))
    two = one.select([0, 0])
    rows = torch.stack((two.rows[0], torch.full_like(two.rows[0], 1e30)))
    return dataclasses.replace(two, rows=rows, finite=torch.tensor([True, False]))


def test_what_is_known_of_the_data_stays():
    one = untrained(ExamFamily().spec, Nothing())
    fitted = dataclasses.replace(one.select([0, 0]), finite=torch.tensor([True, False]))
    rows = [{"sources": [True], "accuracy": 0.25}] * 2
    kept, cleared = without_scores(rows, fitted, ("sources",))
    assert kept == rows[0]
    assert cleared == {"sources": [True], "accuracy": None}


class Nothing:
    """A layout without layers."""

    def first(self, specs, seeds, dtype):
        return torch.zeros(len(seeds), 0, dtype=dtype)


@pytest.mark.parametrize("kind", ["exam", "arc", "own"])
def test_of_languages(kind, tmp_path):
    base, known = write_language_base(tmp_path / "base"), {"sources", "dataset_size"}
    if kind == "exam":
        family = ExamFamily()
    elif kind == "arc":
        family = ArcFamily(base, write_arc(tmp_path / "arc"))
    else:
        targets = {key: {"kind": "regression"} for key in ("count", "accuracy")}
        family, known = TextFamily(base, lesson, score, targets), {"count"}
    frozen = engine_of(family).load(family.base_folder, torch.float32, False)
    kept, cleared = family.evaluate(frozen, pair_of(family, frozen, layout_of), [0, 16])
    assert None not in kept.values()
    assert set(cleared) == set(kept)
    assert {name for name, value in cleared.items() if value is not None} == known


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")
def test_of_pictures(brief_folder, diffusion_folder, celeba_folder, clip_folder):
    photographs = {"photographs": 3, "steps": 1, "own_samples": 1}
    folders = (diffusion_folder, celeba_folder, clip_folder)
    for family in (
        FacesFamily({"seed": 5, "base": str(brief_folder)}),
        CelebaFamily(*folders, ranges={"steps": {"choice": [2]}}, **photographs),
    ):
        base = family.engine.load(family.base_folder, torch.float32, False)
        fitted = pair_of(family, base, image_layout)
        sound = dataclasses.replace(fitted, rows=fitted.rows[[0, 0]])
        kept, cleared = family.evaluate(base, sound, [0, 1])
        sampled = {name for name in kept if name.startswith(("clip_score", "fidelity"))}
        assert all(kept[name] == kept[name] for name in sampled)
        assert all(cleared[name] is None or cleared[name] != cleared[name] for name in sampled)
        assert set(kept) == set(cleared)
        assert all(cleared[name] is not None for name in set(kept) - sampled)
