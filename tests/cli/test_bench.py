import pytest

from lorascope.bench import suites
from lorascope.bench.terms import source_digest

FEW = suites.Suite("few", ("majority", "norm only", "ridge"), ("faces",), seeds=(0,), trials=1)


def test_a_benchmark_runs_and_reports(run, zoo, tmp_path):
    out_folder = tmp_path / "bench"
    words = ["--zoo", zoo, "--out", out_folder, "--target", "strength", "--model", "ridge"]
    code, out, _ = run("bench", "run", *words, "--seeds", 1, "--processes", 1)
    assert code == 0
    assert "ridge" in out
    assert "majority" in out
    assert "[/]" not in out
    assert (out_folder / "table.md").is_file()
    assert (out_folder / "results.png").is_file()
    code, again, err = run("bench", "report", out_folder)
    assert (code, err) == (0, "")
    assert again == out


def test_a_suite_is_planned_run_and_reported(run, zoo, tmp_path, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "few", FEW)
    words = ["--suite", "few", "--zoo", zoo, "--out", tmp_path]
    code, out, err = run("bench", "plan", *words)
    assert (code, err) == (0, "")
    assert "score  planted" in out
    assert "within the budget" in out
    code, out, _ = run("bench", "run", *words, "--processes", 1)
    assert code == 0
    page = tmp_path / "benchmark.md"
    assert str(page) in out
    assert "| ridge |" in page.read_text()
    other = tmp_path / "docs" / "page.md"
    code, out, err = run("bench", "report", tmp_path, "--page", other)
    assert (code, err) == (0, "")
    assert other.read_text() == page.read_text()


def test_the_small_suite_is_planned_before_its_zoos_are_built(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path))
    code, out, err = run("bench", "plan", "--suite", "small", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "not built yet" in out


def test_a_record_that_other_code_began_is_warned_of(run, zoo, tmp_path, monkeypatch):
    monkeypatch.setitem(suites.SUITES, "few", FEW)
    words = ["bench", "run", "--suite", "few", "--zoo", zoo, "--out", tmp_path, "--processes", 1]
    _, _, err = run(*words)
    assert "other source" not in err
    record = tmp_path / "runs.jsonl"
    record.write_text(record.read_text().replace(source_digest(), "0123456789ab"))
    code, _, err = run(*words)
    assert code == 0
    assert "Warning: Going on with" in err
    assert "were made by other source" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "OUT"], "plan.json"),
        (["run", "--zoo", "ZOO", "--target", "beauty", "--out", "OUT"], "beauty"),
        (["run", "--zoo", "ZOO", "--model", "oracle", "--out", "OUT"], "oracle"),
        (["run", "--zoo", "OUT"], "no zoo"),
        (["run"], "expected one"),
        (["run", "--suite", "huge", "--zoo", "ZOO"], "expected one of full, paper, small"),
        (["plan", "--suite", "small", "--zoo", "OUT"], "there is none"),
    ],
)
def test_bad_input_is_one_message(run, zoo, tmp_path, words, said):
    places = {"ZOO": zoo, "OUT": tmp_path / "x"}
    code, out, err = run("bench", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert said in err
