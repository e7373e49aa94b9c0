import numpy as np
import pytest

from lorascope.errors import DataError
from lorascope.train.splits import Split, group_split, row_split

GROUPS = [f"g{i // 3}" for i in range(3000)]


def test_no_group_is_in_two_parts_and_every_row_is_in_one():
    split = group_split(GROUPS, seed=1)
    names = [{GROUPS[row] for row in part} for part in split.parts()]
    assert not names[0] & names[1]
    assert not (names[0] | names[1]) & names[2]
    assert sorted(np.concatenate(split.parts()).tolist()) == list(range(len(GROUPS)))


def test_the_parts_are_near_the_fractions():
    sizes = [len(part) / len(GROUPS) for part in group_split(GROUPS, (0.5, 0.2, 0.3)).parts()]
    np.testing.assert_allclose(sizes, (0.5, 0.2, 0.3), atol=0.05)


def test_growing_the_collection_moves_nothing():
    small, large = group_split(GROUPS[:1000]), group_split([*GROUPS, "new", "newer"])
    for a, b in zip(small.parts(), large.parts(), strict=True):
        np.testing.assert_array_equal(a, b[b < 1000])


def test_the_order_of_rows_does_not_matter():
    split, turned = group_split(GROUPS), group_split(GROUPS[::-1])
    assert {GROUPS[i] for i in split.test} == {GROUPS[::-1][i] for i in turned.test}


def test_the_seed_is_the_salt():
    assert set(group_split(GROUPS, seed=0).test) != set(group_split(GROUPS, seed=1).test)
    np.testing.assert_array_equal(
        group_split(GROUPS, seed=4).test, group_split(GROUPS, seed=4).test
    )


def test_rows_are_split_at_random_and_exactly_only_under_their_own_name():
    split = row_split(100, (0.7, 0.1, 0.2), seed=0)
    assert [len(part) for part in split.parts()] == [70, 10, 20]
    assert set(split.train) != set(range(70))
    assert sorted(np.concatenate(split.parts()).tolist()) == list(range(100))


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.5, 0.5)])
def test_fractions_that_make_no_split_are_refused(fractions):
    with pytest.raises(DataError, match="three positive numbers"):
        group_split(GROUPS, fractions)
    with pytest.raises(DataError, match="three positive numbers"):
        row_split(10, fractions)


def test_among_keeps_the_rows_that_have_a_label():
    split = Split(np.array([0, 1]), np.array([2]), np.array([3, 4])).among(np.array([1, 2, 4]))
    assert [part.tolist() for part in split.parts()] == [[1], [2], [4]]


def test_an_empty_part_and_a_shared_row_are_refused():
    with pytest.raises(DataError, match="test part is empty"):
        Split(np.array([0]), np.array([1]), np.array([], dtype=np.int64)).check()
    with pytest.raises(DataError, match="share rows"):
        Split(np.array([0]), np.array([1]), np.array([0])).check()
