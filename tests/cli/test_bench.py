import pytest


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "OUT"], "plan.json"),
        (["run", "--zoo", "ZOO", "--target", "beauty", "--out", "OUT"], "beauty"),
        (["run", "--zoo", "ZOO", "--model", "oracle", "--out", "OUT"], "oracle"),
        (["run", "--zoo", "OUT"], "no zoo"),
    ],
)
def test_bad_input_is_one_message(run, zoo, tmp_path, words, said):
    places = {"ZOO": zoo, "OUT": tmp_path / "x"}
    code, out, err = run("bench", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert said in err
