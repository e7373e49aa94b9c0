import pytest


@pytest.mark.parametrize("words", [["--count", "8"], ["--count", "x"], ["--seeds", "3"]])
def test_bad_words_end_with_two(run, words):
    code, out, err = run("demo", *words)
    assert (code, out) == (2, "")
    assert "Error: " in err


@pytest.mark.slow
def test_the_demo_prints_the_table_and_the_comparison(run, tmp_path, monkeypatch):
    monkeypatch.setenv("LORASCOPE_HOME", str(tmp_path / "home"))
    code, out, _ = run("demo", "--quick", "--count", 64, "--out", tmp_path / "demo")
    assert code == 0
    assert "its exam" in out
    assert (tmp_path / "demo" / "results.png").is_file()
    assert list((tmp_path / "home" / "zoos").glob("exam-*/index.parquet"))
