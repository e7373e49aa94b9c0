from pathlib import Path

import pytest

from lorascope.errors import FileError, IntegrityError
from lorascope.zoo.factory.plan import (
    JOB,
    SHAPE,
    apart_of,
    counts_of,
    groups_of,
    plan_zoo,
    set_apart,
)
from tests.zoo.planted_family import PlantedFamily

FAMILY = PlantedFamily(base_folder=None)


def test_groups_cover_the_indices_once():
    groups = list(groups_of(FAMILY, [50], slots=4))
    assert sorted(i for group in groups for i in group.indices) == list(range(50))
    assert len({group.number for group in groups}) == len(groups)
    sizes = [len(group.indices) for group in groups]
    assert max(sizes) <= 16  # four slots, four jobs one after another


def test_a_lane_trains_as_many_as_it_is_told():
    groups = list(groups_of(FAMILY, [50], slots=4, per_lane=2))
    assert sorted(i for group in groups for i in group.indices) == list(range(50))
    assert max(len(group.indices) for group in groups) <= 8


def test_labels_count_as_work():
    """Many LoRAs of little finetuning may cost more than few of much."""

    class Labelled(PlantedFamily):
        label_rows = 10**9

    family = Labelled(base_folder=None)
    sizes = [len(group.indices) for group in groups_of(family, [40], slots=2)]
    assert sizes == sorted(sizes, reverse=True)


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_history_that_finds_no_room_is_one_message(tmp_path):
    for name, write in (("counts", counts_of), ("apart", set_apart)):
        (tmp_path / f"{name}.json.part").symlink_to("/dev/full")
        with pytest.raises(FileError, match=rf"Writing .*{name}\.json: No space left.*goes on"):
            write(tmp_path, 5 if write is counts_of else [5])
        assert not list(tmp_path.iterdir())


class Unplanned(PlantedFamily):
    """Some of its LoRAs have no job."""

    lost = (5, 20)

    def job(self, index):
        if index in self.lost:
            raise ValueError("no such file")
        return super().job(index)


def members(groups):
    return {group.number: group.indices for group in groups}


def test_who_cannot_be_planned_is_set_apart_and_stays_there(tmp_path):
    broken = plan_zoo(Unplanned(None), tmp_path, [30], 4, lambda number: False)
    assert apart_of(tmp_path) == {5: SHAPE, 20: SHAPE}
    assert sorted(i for group in broken for i in group.indices) == list(range(30))
    assert {29: (5,), 28: (20,)}.items() <= members(broken).items()
    assert not any(group.problem for group in broken)
    mended = plan_zoo(FAMILY, tmp_path, [30], 4, lambda number: True)
    assert members(mended) == members(broken)


def test_what_is_built_is_not_planned_again(tmp_path):
    """A LoRA that was planned when its part of the zoo was begun and cannot be now: the part waits."""
    (group,) = plan_zoo(Unplanned(None), tmp_path, [30], 4, lambda number: number == 0)
    assert group.indices == tuple(range(30))
    assert "ValueError: no such file" in group.problem
    assert apart_of(tmp_path) == {}


def test_whose_job_failed_leaves_its_group(tmp_path):
    whole = members(groups_of(FAMILY, [30], 4))
    set_apart(tmp_path, [7])
    set_apart(tmp_path, [3])
    apart = apart_of(tmp_path)
    assert apart == {7: JOB, 3: JOB}
    left = members(groups_of(FAMILY, [30], 4, apart))
    assert (left.pop(29), left.pop(28)) == ((7,), (3,))
    assert left == {n: tuple(i for i in m if i not in apart) for n, m in whole.items()}
    (tmp_path / "apart.json").write_text('{"7": "luck"}')
    with pytest.raises(IntegrityError, match=r"apart\.json"):
        apart_of(tmp_path)
