"""Build every zoo of the embedded collection, or what is missing, and sum up what that took.

Under $LORASCOPE_HOME/zoos lie then, beside the zoos, `collection.json` and `collection.md`: of each
zoo its folder, size, time, rate, memory, failures, and what its report says of the labels. Both are
written anew after each zoo; time adds up over the calls that built something.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lorascope.errors import LorascopeError
from lorascope.home import home
from lorascope.io.shard_writer import write_json
from lorascope.io.shards import Zoo
from lorascope.zoo.factory.build import build_zoo, usable
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.memory import MemoryWatch
from lorascope.zoo.families.collection import COLLECTION, NamedZoo, named_zoo

__all__ = ["ZooSummary", "build_collection", "summary_table"]

SUMMARY = "collection.json"
TABLE = "collection.md"


@dataclass(frozen=True)
class ZooSummary:
    """What is known of one zoo of the collection after a call."""

    name: str
    requested: int
    loras: int = 0
    diverged: int = 0
    folder: str = ""
    seconds: float = 0.0  # of all calls that built something
    peak_bytes: int = 0  # of all processes together
    disk_bytes: int = 0
    ceilings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hyper_r2: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""  # why it could not be built

    @property
    def failed(self) -> int:
        """LoRAs that are missing."""
        return self.requested - self.loras

    @property
    def rate(self) -> float:
        """LoRAs a minute."""
        return 60 * self.loras / self.seconds if self.seconds else 0.0


def build_collection(
    names: Sequence[str] = (),
    *,
    share: float = 1.0,
    note: Callable[[str], None] | None = None,
    **options: Any,
) -> list[ZooSummary]:
    """Build zoos of the collection one after another; what is there already is kept.

    Args:
        names: of the collection; none: all of it.
        share: of each zoo's LoRAs, at least one: a small collection to try things on.
        note: told a line before each zoo.
        options: for `build_zoo`: processes, dtype, compile, device, progress, console.

    Raises:
        DataError: the collection has no zoo of such a name, or there is no such device.
    """
    usable(options.get("device", "cpu"))
    zoos = [named_zoo(name) for name in names or COLLECTION]
    folder = home() / "zoos"
    known = _known(folder / SUMMARY)
    for place, zoo in enumerate(zoos):
        count = max(1, round(share * zoo.count))
        if note is not None:
            note(f"{zoo.name} ({place + 1} of {len(zoos)}): {count} LoRAs")
        known[zoo.name] = _build_one(zoo, count, known.get(zoo.name), options)
        summaries = [known[name] for name in COLLECTION if name in known]
        _write(folder, summaries)
    return [known[zoo.name] for zoo in zoos]


def _build_one(
    zoo: NamedZoo, count: int, before: ZooSummary | None, options: Mapping[str, Any]
) -> ZooSummary:
    """One zoo; a zoo that cannot be built is summed up too, and the others go on."""
    starts = 0 if before is None else _starts(before.folder)
    began = time.perf_counter()
    with MemoryWatch() as watch:
        try:
            made = build_zoo(zoo.family(), count, **options)
        except LorascopeError as error:
            return ZooSummary(zoo.name, count, problem=str(error).strip().splitlines()[-1])
    seconds = time.perf_counter() - began
    earlier = before if before is not None and before.folder == str(made.path) else None
    was_whole = earlier is not None and _starts(made.path) == starts
    return _summary(
        zoo.name,
        count,
        made,
        seconds=(0.0 if was_whole else seconds) + (earlier.seconds if earlier else 0.0),
        peak_bytes=max(0 if was_whole else watch.peak_bytes, earlier.peak_bytes if earlier else 0),
    )


def _starts(folder: str | Path) -> int:
    """How many calls have built some of a zoo."""
    return sum(event.get("event") == "start" for event in build_events(folder))


def _summary(name: str, count: int, zoo: Zoo, *, seconds: float, peak_bytes: int) -> ZooSummary:
    report = zoo.report
    scores = report.get("scores", {})
    return ZooSummary(
        name=name,
        requested=max(count, len(zoo)),  # a zoo that is there may hold more
        loras=len(zoo),
        diverged=sum(zoo.index["diverged"].to_pylist()),
        folder=str(zoo.path),
        seconds=round(seconds, 1),
        peak_bytes=peak_bytes,
        disk_bytes=sum(f.stat().st_size for f in zoo.path.rglob("*") if f.is_file()),
        ceilings=report.get("ceilings", {}),
        hyper_r2={key: facts["hyper_r2"] for key, facts in scores.items() if "hyper_r2" in facts},
    )


def _known(path: Path) -> dict[str, ZooSummary]:
    """Summaries of earlier calls; a file that cannot be read counts as none."""
    try:
        rows = json.loads(path.read_text())["zoos"]
        return {row["name"]: ZooSummary(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(folder: Path, summaries: Sequence[ZooSummary]) -> None:
    total = {
        "loras": sum(s.loras for s in summaries),
        "seconds": round(sum(s.seconds for s in summaries), 1),
        "disk_bytes": sum(s.disk_bytes for s in summaries),
        "peak_bytes": max(s.peak_bytes for s in summaries),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SUMMARY, {"total": total, "zoos": [asdict(s) for s in summaries]})
    (folder / TABLE).write_text(summary_table(summaries))


def summary_table(summaries: Iterable[ZooSummary]) -> str:
    """The summary as a Markdown table; ceilings of sampled scores, hyper-parameters' R^2 in brackets."""
    lines = [
        "| zoo | LoRAs | failed | diverged | minutes | a minute | memory, MB | disk, MB | "
        "ceilings (R^2 of hyper-parameters) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    loras, seconds, disk = 0, 0.0, 0
    for s in summaries:
        loras, seconds, disk = loras + s.loras, seconds + s.seconds, disk + s.disk_bytes
        lines.append(
            f"| {s.name} | {s.loras} | {s.failed} | {s.diverged} | {s.seconds / 60:.1f} | {s.rate:.0f} | "
            f"{s.peak_bytes / 1e6:.0f} | {s.disk_bytes / 1e6:.1f} | {s.problem or _labels(s)} |"
        )
    rate = 60 * loras / seconds if seconds else 0.0
    lines.append(f"| all | {loras} | | | {seconds / 60:.1f} | {rate:.0f} | | {disk / 1e6:.1f} | |")
    return "\n".join(lines) + "\n"


def _labels(summary: ZooSummary) -> str:
    found = []
    for name, explained in summary.hyper_r2.items():
        ceiling = summary.ceilings.get(name, {}).get("r2")
        top = "-" if ceiling is None else f"{ceiling:.2f}"
        found.append(f"{name} {top} ({max(explained, 0):.2f})")
    return ", ".join(found)
