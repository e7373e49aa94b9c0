import pytest

from lorascope.errors import IntegrityError
from lorascope.zoo.factory.plan import counts_of, groups_of
from tests.zoo.planted_family import PlantedFamily

FAMILY = PlantedFamily(base_folder=None)


def test_groups_cover_the_indices_once():
    groups = list(groups_of(FAMILY, [50], slots=4))
    assert sorted(i for group in groups for i in group.indices) == list(range(50))
    assert len({group.number for group in groups}) == len(groups)
    sizes = [len(group.indices) for group in groups]
    assert max(sizes) <= 16  # four slots, four jobs one after another


def test_a_grown_zoo_keeps_its_groups():
    small = list(groups_of(FAMILY, [13], slots=4))
    grown = list(groups_of(FAMILY, [13, 30], slots=4))
    assert grown[: len(small)] == small
    assert sorted(i for group in grown for i in group.indices) == list(range(30))
    assert len({group.number for group in grown}) == len(grown)


def test_the_longest_groups_come_first():
    works = [
        sum(FAMILY.job(i).steps * FAMILY.job(i).batch_size for i in group.indices)
        for group in groups_of(FAMILY, [40], slots=2)
    ]
    assert works == sorted(works, reverse=True)


def test_the_history_of_counts_only_rises(tmp_path):
    assert counts_of(tmp_path, 5) == [5]
    assert counts_of(tmp_path, 5) == [5]
    assert counts_of(tmp_path, 3) == [5]
    assert counts_of(tmp_path, 9) == [5, 9]
    for damage in ("[9, 5]", '{"a": 1}', '["5"]'):
        (tmp_path / "counts.json").write_text(damage)
        with pytest.raises(IntegrityError, match="rising list"):
            counts_of(tmp_path, 9)
