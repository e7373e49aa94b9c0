"""The opening in float32: what it divides, and what zoos of half precision owe to it."""

import torch

from lorascope.zoo.engine.opening import lessons_of, opens, spans_of


class Piece:
    def __init__(self, steps, base=None, spans=None):
        self.steps, self.base, self.spans = torch.tensor(steps), base, spans

    def part(self, base, spans):
        return Piece(self.steps.tolist(), base, spans)


class Ground:
    def __init__(self, exact, exact_steps):
        self.exact, self.exact_steps = exact, exact_steps


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
    base = Ground("fine", 2)
    first, rest = lessons_of(lesson, base)
    assert (first.base, rest.base) == ("fine", base)
    assert [len(span) for span in rest.spans] == [0, 3]
