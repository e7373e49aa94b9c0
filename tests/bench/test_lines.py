import pytest

from lorascope.bench.lines import append_lines, read_lines
from lorascope.errors import IntegrityError


def test_lines_come_back_in_their_order(tmp_path):
    path = tmp_path / "folder" / "record.jsonl"
    assert read_lines(path, int) == []
    append_lines(path, ["1\n", "2\n"])
    append_lines(path, ["3\n"])
    assert read_lines(path, int) == [1, 2, 3]


def test_a_line_that_was_cut_off_is_passed_over_and_taken_out(tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("1\n[2, ")
    assert read_lines(path, int) == [1]
    append_lines(path, ["3\n"])
    assert path.read_text() == "1\n3\n"


@pytest.mark.parametrize("line", ["{", "null"])
def test_damage_names_its_line(tmp_path, line):
    path = tmp_path / "record.jsonl"
    path.write_text(f"1\n{line}\n3\n")
    with pytest.raises(IntegrityError, match=r"record\.jsonl: line 2 is damaged"):
        read_lines(path, int)
