import shutil
from dataclasses import replace

import pytest

from lorascope.bench.jobs import Job, run_job
from lorascope.bench.methods import METHODS, Method
from lorascope.bench.page import ADD, page_text, write_page
from lorascope.bench.record import RUNS, SUITE, append_run
from lorascope.bench.summary import Summary
from lorascope.bench.terms import source_digest, terms_of
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
        "Other adapters at a glance",
        "Axes",
        "Where `fusion` loses or is level",
        "What failed",
        "Tuning",
        "The paper's own numbers",
        "Adding a method",
    ):
        assert f"\n## {title}\n" in first
    assert str(finished.folder) not in first


def test_the_head_says_what_methods_are_given_and_what_an_error_is(finished):
    text = page_text(Summary(finished.asked, finished.runs))
    head = text.split("## At a glance")[0]
    assert "hidden from all but the control *hyper-parameters*" in head
    assert "standard error over 2 seeds" in head
    assert "sqrt(1/2 + 20/70), 1.25 times" in head
    assert f"(source {source_digest()})" in head
    glance = text.split("## At a glance")[1].split("## ")[0]
    assert "is beaten by more than two standard errors on" in glance


def test_the_example_of_a_method_runs_as_it_is_printed(asked, monkeypatch):
    lines = [line[4:] for line in ADD.splitlines() if line.startswith("    ") or not line]
    code, row = "\n".join(lines).split("# the row, in src/lorascope/bench/methods.py")
    names = {"Method": Method}
    exec(compile(code, "median.py", "exec"), names)
    monkeypatch.setitem(METHODS, "median", eval(row.strip(), names))
    many = replace(asked.suite, methods=("majority", "median"))
    asked = replace(asked, suite=many, terms=terms_of(many.methods))
    job = Job("score", "home", "median", 0, {}, sets=("validation", "test", "home-second"))
    run = run_job(job, asked.folders, asked.digests, asked.terms)
    assert run.error is None
    assert set(run.scores["test"]) == {"sources", "score", "dataset_size", "learning_rate"}
    assert -0.5 < run.scores["test"]["score"]["r2"] <= 0
    assert "home-second" in run.scores


@pytest.mark.parametrize("key", ["0" * 16, "f" * 16])
def test_runs_of_older_zoos_methods_and_versions_are_not_reported(finished, tmp_path, key):
    """A stale line has the stage, method, seed and dials of a run that counts: only its key tells it apart."""
    expected = write_page(finished.folder, tmp_path / "now.md").read_text()
    again = tmp_path / "bench"
    shutil.copytree(finished.folder, again)
    for place, run in enumerate(finished.runs):
        scores = {
            name: {t: dict.fromkeys(of, 0.123) for t, of in targets.items()}
            for name, targets in run.scores.items()
        }
        stale = replace(run, key=key[:12] + f"{place:04d}")  # sorted before or after all others
        append_run(again, replace(stale, scores=scores, seconds=99.0, all_seconds=1e6))
    assert write_page(again, tmp_path / "now.md").read_text() == expected


def test_another_version_reports_the_same_bytes(finished, tmp_path, monkeypatch):
    expected = write_page(finished.folder, tmp_path / "page.md").read_bytes()
    other = {
        name: replace(row, revision=row.revision + 1, trials=row.trials[::-1])
        for name, row in METHODS.items()
    }
    for name, row in other.items():
        monkeypatch.setitem(METHODS, name, row)
    now = {"lorascope": "99.0", "torch": "0"}
    monkeypatch.setattr("lorascope.bench.terms.versions", lambda: now)
    monkeypatch.setattr("lorascope.bench.terms.PROTOCOL", 99)
    assert terms_of(["ridge"]) != finished.asked.terms
    assert write_page(finished.folder, tmp_path / "page.md").read_bytes() == expected


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
