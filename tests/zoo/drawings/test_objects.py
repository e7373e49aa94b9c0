"""Objects: ten classes that pixels tell apart, no two pictures alike."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lorascope.errors import DataError
from lorascope.zoo.drawings.objects import CLASSES, COLOURS, draw_objects


def drawn(classes, colours, seed):
    return draw_objects(classes, colours, torch.Generator().manual_seed(seed))


def test_classes_are_told_apart_in_any_colour_and_place():
    classes = torch.arange(len(CLASSES)).repeat(60)
    colours = torch.randint(len(COLOURS), classes.shape, generator=torch.Generator().manual_seed(0))
    pictures = drawn(classes, colours, 1)
    edges = torch.cat((pictures.diff(dim=2).flatten(1), pictures.diff(dim=3).flatten(1)), 1).abs()
    probe = LogisticRegression(C=0.1, max_iter=300).fit(edges[:400], classes[:400])
    assert probe.score(edges[400:], classes[400:]) > 0.6  # by chance 0.1


def test_pictures_of_one_class_differ():
    pictures = drawn(torch.zeros(8).long(), torch.zeros(8).long(), 2)
    gaps = (pictures[:, None] - pictures[None]).abs().mean((2, 3, 4))
    assert float(gaps[~torch.eye(8).bool()].min()) > 0.02


def test_the_colour_is_the_one_asked_for():
    names = list(COLOURS)
    red, blue = (torch.full((20,), names.index(name)) for name in ("red", "blue"))
    balls = torch.zeros(20).long()
    middle = (drawn(balls, red, 3) - drawn(balls, blue, 3)).mean((0, 2, 3))
    assert float(middle[0]) > 0.02
    assert float(middle[2]) < -0.02


@pytest.mark.parametrize(("kind", "colour"), [(10, 0), (0, -1), (0, 6)])
def test_unknown_indices_are_refused(kind, colour):
    with pytest.raises(DataError, match="drawing objects"):
        drawn(torch.tensor([kind]), torch.tensor([colour]), 0)
