import io

from rich.console import Console

from lorascope.inspect.problem import Severity
from lorascope.inspect.scan import How, scan
from lorascope.inspect.summary import Summary, line
from tests.inspect.files import write_kohya


def summary_of(*paths):
    summary = Summary()
    results = list(scan(paths, How(headers=True)))
    for result in results:
        summary.add(result)
    return summary, results


def shown(thing):
    console = Console(width=200, color_system=None, file=io.StringIO(), record=True)
    console.print(thing)
    return console.export_text()


def test_counts_add_up(tmp_path):
    good = write_kohya(tmp_path / "a.safetensors")
    odd = write_kohya(tmp_path / "b.safetensors", metadata={"ss_network_dim": "64"})
    (tmp_path / "c.safetensors").write_bytes(b"<html>")
    summary, _ = summary_of(good, odd, tmp_path / "c.safetensors")
    assert summary.refused == 1
    told = summary.to_json()
    assert told["files"] == 3
    assert told["base"] == {"SD1": 2}
    assert told["format"] == {"kohya": 2}
    assert told["outcome"] == {"header": 2, "refused": 1}
    assert told["problem"]["metadata-contradicts"] == 1
    text = "\n".join(shown(table) for table in summary.tables())
    for word in ("by base", "by format", "by outcome", "by problem", "SD1", "web-page"):
        assert word in text


def test_the_worst_problem_is_known(tmp_path):
    summary, _ = summary_of(write_kohya(tmp_path / "a.safetensors"))
    assert not any(map(summary.reaches, Severity))
    odd = write_kohya(tmp_path / "b.safetensors", metadata={"ss_network_dim": "64"})
    summary, _ = summary_of(odd)
    assert [summary.reaches(severity) for severity in Severity] == [False, True, True]


def test_a_line_says_what_a_file_is(tmp_path):
    path = write_kohya(tmp_path / "a.safetensors", metadata={"ss_network_dim": "64"})
    (tmp_path / "b.safetensors").write_bytes(b"<html>")
    _, (good, bad) = summary_of(path, tmp_path / "b.safetensors")
    text = shown(line(good))
    for word in ("a.safetensors", "kohya", "SD1", "3 layers, rank 4", "metadata-contradicts"):
        assert word in text
    assert "web-page" in shown(line(bad))
    assert text.count("\n") == 1


def test_hostile_paths_are_shown_not_obeyed(tmp_path):
    (result,) = scan([tmp_path / "[bold]\x1b[2J.safetensors"], How(headers=True))
    text = shown(line(result, width=200))
    assert "\x1b" not in text
    assert "[bold]" in text
