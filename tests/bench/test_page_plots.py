from lorascope.bench.page_plots import write_pictures
from lorascope.bench.summary import Summary


def test_pictures_are_written_and_the_same_record_gives_the_same_bytes(finished, tmp_path):
    summary = Summary(finished.asked, finished.runs)
    found = write_pictures(summary, tmp_path / "pictures")
    assert found == {
        "glance": "pictures/benchmark.png",
        "home": "pictures/benchmark-home.png",
        "sizes": "pictures/benchmark-sizes.png",
    }
    write_pictures(Summary(finished.asked, finished.runs[::-1]), tmp_path / "again")
    for name in found.values():
        data = (tmp_path / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data == (tmp_path / name.replace("pictures", "again")).read_bytes()
