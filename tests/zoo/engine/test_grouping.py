from lorascope.zoo.engine.grouping import JobShape, arrange, lanes_of_group, rows_of_slot


def test_slots_have_eight_rows_where_that_goes():
    assert [rows_of_slot(size) for size in (8, 16, 5, 24)] == [8, 8, 5, 8]
    assert [lanes_of_group(size, 64) for size in (8, 16, 5, 1024)] == [64, 32, 64, 1]


def test_groups_hold_like_jobs_and_equal_work():
    shapes = [JobShape(size, 20, False, 10 * k) for size in (8, 16) for k in range(1, 41)]
    groups = arrange(shapes, slots=4)
    assert sorted(i for members in groups for i in members) == list(range(80))
    for members in groups:
        assert len({shapes[i].batch_size for i in members}) == 1
        assert len(members) <= 4 * lanes_of_group(shapes[members[0]].batch_size, 4)
    works = [sum(shapes[i].steps for i in members) for members in groups[:3]]
    assert max(works) < 1.2 * min(works)
