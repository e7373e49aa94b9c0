import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from lorascope.bench.report import MARKDOWN, PICTURE, markdown, rich_table, text, write_report
from lorascope.bench.results import Result, append_results
from lorascope.bench.table import Cell, build_table
from lorascope.errors import DataError, FileError
from lorascope.predict.target import Target
from tests.bench.test_table import PLAN, RESULTS, TABLE


def shown(table, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(rich_table(table))
    return console.file.getvalue()


def test_cells_say_mean_spread_and_mark():
    scores = {0: 0.5, 1: 0.7}
    assert text(Cell(scores)) == "0.600 ±.141"
    assert text(Cell(scores, loses_to="norm only")) == "0.600 ±.141†"
    assert text(Cell(scores, loses_to="norm only", below_majority=True)) == "0.600 ±.141‡"
    assert text(Cell({0: 0.5})) == "0.500"
    assert text(Cell({0: -10.0, 1: 10.0})) == "0.000 ±14.142"
    assert text(Cell()) == "-"


def test_the_table_fits_a_terminal_of_80_columns_and_says_what_loses():
    found = shown(TABLE)
    lines = found.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in found
    rows = [line.split()[0] for line in lines if "±" in line and not line.startswith("100")]
    assert rows == ["majority", "norm", "svd", "mlp", "dense"]
    flat = " ".join(found.split())
    assert "† score: mlp does not beat the control 'norm only'." in flat
    assert "‡ loss: dense does not beat the mean." in flat
    assert re.search(r"label ceiling\s+0\.900", found)


def test_the_widest_names_scores_and_marks_fit_too():
    names = ("majority", "hyper-parameters")
    targets = (*PLAN.targets, Target("dataset", "regression"))
    plan = replace(
        PLAN,
        data={target.name: "abc" for target in targets},
        targets=targets,
        models=("transformer", "kernel_product"),
        controls=names,
    )
    results = [
        Result(
            "abc",
            target.name,
            name,
            seed,
            metrics={target.metric: -0.5 + 0.1 * seed},
            seconds=123.4,
            parameters=123_456,
        )
        for target in targets
        for name in (*names, *plan.models)
        for seed in plan.seeds
    ]
    found = shown(build_table(plan, results))
    assert max(map(len, found.splitlines())) <= 80
    assert "…" not in found
    assert "-0.400 ±.100‡" in found


def test_the_markdown_has_the_same_numbers_and_the_best_in_bold():
    found = markdown(TABLE)
    table = [line for line in found.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "| svd | **0.600 ±.100** | **0.600 ±.100** | 10 | 1.0 |" in found
    assert "| *norm only* | 0.500 ±.100 | 1.100 ±.100 |  | 0.0 |" in found
    assert "- † score: mlp does not beat the control 'norm only'." in found


def test_a_run_without_a_score_is_said_with_its_reason():
    failed = [r for r in RESULTS if r.model != "dense"]
    failed.append(type(RESULTS[0])("abc", "score", "dense", 0, error="DataError: [bold] too large"))
    table = build_table(PLAN, failed)
    sentence = "score: dense has a run without a score. DataError: [bold] too large"
    assert sentence in markdown(table)
    assert sentence in " ".join(shown(table).split())


def test_writing_a_report_twice_gives_the_same_bytes(tmp_path):
    PLAN.save(tmp_path)
    append_results(tmp_path, RESULTS)
    write_report(tmp_path)
    first = {name: (tmp_path / name).read_bytes() for name in (MARKDOWN, PICTURE)}
    write_report(tmp_path)
    assert first == {name: (tmp_path / name).read_bytes() for name in first}


def test_a_folder_without_a_benchmark_or_without_results_is_refused(tmp_path):
    with pytest.raises(FileError, match="bench run"):
        write_report(tmp_path)
    PLAN.save(tmp_path)
    with pytest.raises(DataError, match="no score yet"):
        write_report(tmp_path)
