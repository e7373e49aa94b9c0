"""The tables of docs/speed.md as Markdown, from what was measured: plain data in, text out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = [
    "FLOORS",
    "NO_GPU",
    "Found",
    "duration",
    "evaluation_table",
    "fit_table",
    "floors_table",
    "folder_table",
    "parts_table",
    "reading_table",
    "runs_table",
    "sizes_table",
]

Found = dict[str, Any]

FLOORS = {"latency": 2_000, "files": 50_000, "resident": 1_000_000}
"""How many times faster than the evaluation a prediction has to be on a GPU."""

WAYS = {"latency": "one file", "files": "many files", "shards": "shards", "resident": "resident"}
NO_GPU = "not run: no GPU"


def evaluation_table(parts: Iterable[Mapping[str, Any]]) -> str:
    """Each base and model: seconds of the evaluation, of each way to predict, and how many times faster.

    Times faster than the cheapest evaluation of a base; what the others cost stands below it.
    """
    rows = []
    for workload in workloads(parts):
        standard, *others = standards(workload)
        beside = "; ".join(f"({named(other)})" for other in others)
        for number, prediction in enumerate(workload["predictions"]):
            cells = [cell(prediction[way], standard["seconds"]) for way in WAYS]
            name = prediction["model"] + (", with trust" if prediction["trust"] else "")
            first = (workload["title"], named(standard))
            rows.append((*(first, ("", beside), ("", ""))[min(number, 2)], name, *cells))
    return table(("base", "standard evaluation", "model", *WAYS.values()), rows)


def floors_table(parts: Iterable[Mapping[str, Any]], *, gpu: bool) -> str:
    """How many times faster each model is, beside the floors on a GPU; without one, that nothing was run."""
    rows = []
    for workload in workloads(parts):
        seconds = standards(workload)[0]["seconds"]
        for prediction in workload["predictions"]:
            if prediction["trust"]:
                continue
            ratios = {way: seconds / prediction[way] for way in FLOORS}
            if gpu:
                cells = [f"{x:,.0f} x{verdict(x >= FLOORS[way])}" for way, x in ratios.items()]
            else:
                cells = [f"{NO_GPU} (CPU: {x:,.0f} x)" for x in ratios.values()]
            rows.append((workload["title"], prediction["model"], *cells))
    head = [f"{WAYS[way]}, {floor:,} x" for way, floor in FLOORS.items()]
    return table(("floors on a GPU", "model", *head), rows)


def parts_table(parts: Iterable[Mapping[str, Any]]) -> str:
    """How each evaluation was found, what it is made of where it was added up, and what else was tried."""
    rows = []
    for workload in workloads(parts):
        for number, standard in enumerate(standards(workload)):
            made = ", ".join(
                f"{part['calls']:,.6g} x {duration(part['seconds'])} ({part['name']})"
                for part in standard["parts"]
            )
            tried = [f"{t} x {batch}: {duration(s)}" for t, batch, s in standard["tried"]]
            tried += [f"a piece in {t}: {duration(s)}" for t, s in standard["trial"]]
            best = f"{standard['dtype']}, {standard['batch']} at once"
            title = "" if number else workload["title"]
            what = (title, standard["what"], evaluation(standard), best)
            rows.append((*what, made or "run whole", ", ".join(tried)))
    return table(("base", "what is done", "time", "fastest", "made of", "tried"), rows)


def reading_table(found: Mapping[str, Any]) -> str:
    """Both forwards against one read of the factors, base by base; of some bases nothing is asked."""
    rows = []
    for read in found["reading"]:
        title = f"{read['title']}: {read['loras']} LoRAs, {read['megabytes']:.0f} MB"
        rows.append((title, "one read of the factors", duration(read["read"]), "", ""))
        for model, ratio in read["ratio"].items():
            most = read["target"].get(model)
            asked = "" if most is None else f"{most:g} x{verdict(ratio <= most)}"
            spent = duration(read["forward"][model])
            what = f"{model} forward, features included"
            rows.append(("", what, spent, f"{ratio:.2f} x", asked))
    return table(("base", "what is done", "time", "of the read", "at most"), rows)


def sizes_table(found: Mapping[str, Any]) -> str:
    """Each size: its LoRA, and time and memory of each model."""
    models = list(dict.fromkeys(row["model"] for row in found["rows"]))
    head = ["base", "layers x width", "a LoRA"]
    for model in models:
        head += [f"{model}: alone", "in a batch", "reads", "weights", "memory beside"]
    rows = []
    for name in dict.fromkeys(row["size"] for row in found["rows"]):
        each = {row["model"]: row for row in found["rows"] if row["size"] == name}
        one = next(iter(each.values()))
        cells = [name, f"{one['layers']} x {one['width']:,}", size(one["lora_bytes"])]
        for row in (each[model] for model in models):
            cells += [duration(row["alone"]), f"{duration(row['forward'])} of {row['batch']}"]
            cells += [f"{row['forward'] / row['read']:.1f}"]
            cells += [size(row["model_bytes"]), size(row["work_bytes"])]
        rows.append(cells)
    return table(head, rows)


def folder_table(found: Mapping[str, Any]) -> str:
    """Bytes of the folder of the default model for each target."""
    rows = []
    for row in found["rows"]:
        files = ", ".join(f"{name} {count:,}" for name, count in row["files"].items())
        total = f"{row['bytes']:,}{verdict(row['bytes'] < found['at_most'])}"
        rows.append((f"{row['target']} ({row['outputs']})", f"{row['landmarks']:,}", total, files))
    head = ("learned (outputs)", "landmarks", f"bytes, below {found['at_most']:,.0f}", "of these")
    return table(head, rows)


def fit_table(found: Mapping[str, Any]) -> str:
    """Seconds that the default model learns, on the wall and of the processor.

    Where the machine is shared, the processor's time by the cores is what is judged.
    """
    where = found["machine"]
    judged = found["processor"] / where["cores"] if where["shared"] else found["wall"]
    learned = f"{found['model']}, {len(found['targets'])} targets of {found['zoo']}"
    loras = f"{found['loras']:,}, of these {found['learned_from']:,} to learn from"
    limit = f"{duration(found['at_most'])}{verdict(judged <= found['at_most'])}"
    row = (learned, loras, duration(found["wall"]), duration(found["processor"]), limit)
    head = ("what is learned", "LoRAs", "wall", "processor", "at most")
    return table(head, [row])


def runs_table(parts: Iterable[Mapping[str, Any]]) -> str:
    """Where each part ran, and how busy the machine was."""
    rows = []
    for found in parts:
        machine = found["machine"]
        rows.append(
            (
                found["part"]
                + (" (quick: the numbers say nothing)" if found["quick"] else "")
                + (", predictions after the evaluations" if found.get("kept") else ""),
                f"{machine['name']}, {machine['cores']} cores, "
                + ("processor time" if machine["shared"] else f"{machine['threads']} threads"),
                f"{machine['torch']}{', huge pages' if machine['huge_pages'] else ''}",
                f"{machine['load_before']:g}, {found['load_after']:g}",
            )
        )
    return table(("part", "machine", "torch", "load before, after"), rows)


def workloads(parts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """All workloads of some parts."""
    return [workload for found in parts for workload in found.get("workloads", ())]


def standards(workload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The evaluations of a workload, the cheapest first."""
    return sorted(workload["standards"], key=lambda standard: standard["seconds"])


def named(standard: Mapping[str, Any]) -> str:
    """The time of an evaluation, and which way it is where there are several."""
    return f"{evaluation(standard)} {standard.get('way', '')}".rstrip()


def evaluation(standard: Mapping[str, Any]) -> str:
    """Its time, marked where it was added up."""
    return ("~" if standard["extrapolated"] else "") + duration(standard["seconds"])


def cell(seconds: float, standard: float) -> str:
    """A time, and how many times faster it is; nothing where it was not measured."""
    return f"{duration(seconds)} ({standard / seconds:,.0f} x)" if seconds else ""


def verdict(reached: bool) -> str:
    """What stands behind a number that has a bound."""
    return ", reached" if reached else ", not reached"


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"
    return f"{seconds * 1e9:.3g} ns"


def size(count: float) -> str:
    """Bytes in a readable unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.3g} {unit}"
    return f"{count:.0f} B"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
