"""What a build did, read back from its log."""

from lorascope.zoo.factory.log import build_events, failures_of


def test_a_torn_line_is_passed_over(tmp_path):
    assert build_events(tmp_path) == []
    (tmp_path / "build.jsonl").write_text(
        '{"event": "start"}\n{"event": "sh\n[1]\n{"event": "end"}\n'
    )
    assert [event["event"] for event in build_events(tmp_path)] == ["start", "end"]


def test_failures_that_were_retried_are_none():
    events = [
        {"event": "failed", "ids": [1, 2], "problem": "Traceback\n  deep\nRuntimeError: no memory"},
        {"event": "failed", "ids": [4], "problem": ""},
        {"event": "left out", "file": "x"},
        {"event": "left out", "file": "x"},  # the same import once more
        {"event": "not written", "shard": 0},
        {"event": "stopped"},
        {"event": "skipped", "ids": [3], "problems": ["a picture"]},
        {"event": "skipped", "ids": [3], "problems": ["a picture"]},
    ]
    assert failures_of(events, present=[0, 2, 3]) == {
        "missing": [1, 4],
        "reasons": {"RuntimeError: no memory": 1, "no reason recorded": 1},
        "retried": 1,
        "left_out": 1,
        "skipped": [3],
        "stopped": 1,
        "not_written": 1,
    }
