import pytest

from lorascope.bench.page import page_text, write_page
from lorascope.bench.record import RUNS, SUITE
from lorascope.bench.summary import Summary
from lorascope.errors import DataError


def test_the_page_is_written_beside_its_pictures_and_is_the_same_again(finished, tmp_path):
    page = write_page(finished.folder, tmp_path / "docs" / "benchmark.md")
    text = page.read_text()
    for name in ("pictures/benchmark-home.png", "pictures/benchmark-sizes.png"):
        assert f"({name})" in text
        assert (page.parent / name).is_file()
    write_page(finished.folder, page)
    assert page.read_text() == text
    assert write_page(finished.folder) == finished.folder / "benchmark.md"


def test_the_order_of_the_record_does_not_matter(finished):
    first = page_text(Summary(finished.asked, finished.runs))
    assert page_text(Summary(finished.asked, finished.runs[::-1])) == first
    for title in (
        "In distribution",
        "Axes",
        "Tuning",
        "The paper's own numbers",
        "Adding a method",
    ):
        assert f"\n## {title}\n" in first
    assert str(finished.folder) not in first


def test_a_record_without_scores_is_refused(finished, tmp_path):
    (tmp_path / SUITE).write_text((finished.folder / SUITE).read_text())
    (tmp_path / RUNS).write_text("")
    with pytest.raises(DataError, match="no score yet"):
        write_page(tmp_path)


def test_a_record_that_was_stopped_says_what_it_lacks(finished):
    assert "Not complete" not in page_text(Summary(finished.asked, finished.runs))
    stopped = [run for run in finished.runs if run.stage != "sizes"]
    text = page_text(Summary(finished.asked, stopped))
    lost = len(finished.runs) - len(stopped)
    assert f"{lost} of {lost} of the stage sizes on home" in text
