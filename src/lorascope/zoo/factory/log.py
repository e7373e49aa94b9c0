"""build.jsonl read back: what a build did, and what failed and why."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["build_events", "failures_of"]


def build_events(folder: str | Path) -> list[dict[str, Any]]:
    """The events of a zoo, oldest first; a line that a kill tore is passed over. Empty without a log."""
    path = Path(folder) / "build.jsonl"
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def failures_of(events: Iterable[Mapping[str, Any]], present: Iterable[int]) -> dict[str, Any]:
    """What went wrong and is so still: LoRAs that are not there, by the last line of the reason.

    Args:
        present: ids in the index; a LoRA that failed once and is there now is no failure.

    Returns:
        `missing` ids and `reasons` with counts; how many were `retried` with success; the ids of LoRAs of
        whose data something bad was `skipped`; how many files were `left_out` of an import, however often
        it was asked for; and how often a build was `stopped`, a shard was `not_written`.
    """
    there = set(present)
    reasons: dict[int, str] = {}
    for event in events:
        if event.get("event") == "failed":
            lines = str(event.get("problem", "")).strip().splitlines()
            for identity in event.get("ids", ()):
                reasons[int(identity)] = lines[-1] if lines else "no reason recorded"
    still = {identity: reason for identity, reason in reasons.items() if identity not in there}
    skipped = {
        int(identity)
        for event in events
        if event.get("event") == "skipped"
        for identity in event.get("ids", ())
    }
    left_out = {str(event.get("file")) for event in events if event.get("event") == "left out"}
    kinds = Counter(event.get("event") for event in events)
    return {
        "missing": sorted(still),
        "reasons": dict(Counter(still.values()).most_common()),
        "retried": len(reasons) - len(still),
        "left_out": len(left_out),
        "skipped": sorted(skipped),
        "stopped": kinds["stopped"],
        "not_written": kinds["not written"],
    }
