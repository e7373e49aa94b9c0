"""docs/speed.md and its picture, made from what was measured: the same JSON gives the same page.

python -m speed.page                       writes the page again
python -m speed.page --measure [--device]  measures everything first (half an hour on two idle cores)
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "FLOORS",
    "evaluation_table",
    "main",
    "page",
    "parts_table",
    "reading_table",
    "sizes_table",
]

Found = dict[str, Any]

ROOT = Path(__file__).parents[1]
MEASURED, PAGE = Path(__file__).parent / "measured", ROOT / "docs" / "speed.md"
PICTURE = ROOT / "docs" / "pictures" / "sizes.png"
FLOORS = {"latency": 2_000, "files": 50_000, "resident": 1_000_000}
"""How many times faster than the evaluation a prediction has to be on a GPU."""

INTRODUCTION = """# Speed

Made by `python -m speed.page` from what `python -m speed.evaluation` and `python -m speed.sizes` measured.

What is compared: the **standard evaluation** of one adapter at its best (half precision, on CPUs float32 too
where the base is tiny; the fastest of three batch sizes; adapter merged beforehand, loading not counted) with
the **prediction** of the same score, on the same device in the same run. Everything from the factors
on is in the prediction's time, features included; `fusion` is the default model, `gl_net` the paper's as this
package trains it, "with trust" adds the score of how unusual the LoRA is.

- *one file*: a folder on disk to its answer, the predictor in memory.
- *many files*, *shards*: time a LoRA with a process on every core; shards are those of a zoo. Disk cache warm.
- *resident*: factors already on the device, in batches; the faster of float32 and bfloat16 factors.

Bases with random weights have the true shapes (time does not depend on values). Times marked ~ were **not run
whole**: they are added up from measured parts, which stand below. Clocks wait for the device, the first call
does not count, medians do.
"""


def evaluation_table(found: Mapping[str, Any]) -> str:
    """Each base and model: seconds of the evaluation, of each way to predict, and how many times faster."""
    head = ("base", "standard evaluation", "model", "one file", "many files", "shards", "resident")
    rows = []
    for workload in found["workloads"]:
        standard = workload["standards"][0]
        for place, prediction in enumerate(workload["predictions"]):
            cells = [
                cell(prediction[way], standard["seconds"])
                for way in ("latency", "files", "shards", "resident")
            ]
            name = prediction["model"] + (", with trust" if prediction["trust"] else "")
            if prediction["trust"]:
                cells[3] = ""  # the model alone: see the row above
            first = (workload["title"], evaluation(standard)) if place == 0 else ("", "")
            rows.append((*first, name, *cells))
    return table(head, rows)


def floors_table(found: Mapping[str, Any]) -> str:
    """The targets on a GPU beside what was found for the default model on each base."""
    on_gpu = str(found["machine"]["device"]).startswith("cuda")
    rows = []
    for workload in found["workloads"]:
        default = workload["predictions"][0]
        seconds = workload["standards"][0]["seconds"]
        shown = []
        for way, floor in FLOORS.items():
            ratio = seconds / default[way]
            shown.append(f"{ratio:,.0f} x{verdict(ratio >= floor) if on_gpu else ''}")
        rows.append((workload["title"], *shown))
    names = {"latency": "one file", "files": "many files", "resident": "resident"}
    head = [f"{names[way]}, {floor:,} x on a GPU" for way, floor in FLOORS.items()]
    return table(("default model on", *head), rows)


def reading_table(found: Mapping[str, Any]) -> str:
    """Both forwards against one read of the factors."""
    read = found["reading"]
    rows = [("one read of the factors", duration(read["read"]), "", "")]
    for model, ratio in read["ratio"].items():
        target = read["target"][model]
        shown = (f"{ratio:.2f} x", f"{target:g} x{verdict(ratio <= target)}")
        rows.append(
            (f"{model} forward, features included", duration(read["forward"][model]), *shown)
        )
    where = f"{read['loras']} LoRAs of Llama-3.2-3B q and v, {read['megabytes']:.0f} MB"
    return table((where, "time", "of the read", "at most"), rows)


def parts_table(found: Mapping[str, Any]) -> str:
    """How each evaluation was found, and what it is made of where it was added up."""
    rows = []
    for workload in found["workloads"]:
        for standard in workload["standards"]:
            made = ", ".join(
                f"{part['calls']:,.6g} x {duration(part['seconds'])} ({part['name']})"
                for part in standard["parts"]
            )
            best = f"{standard['dtype']}, {standard['batch']} at once"
            rows.append(
                (
                    workload["title"],
                    standard["what"],
                    evaluation(standard),
                    best,
                    made or "run whole",
                )
            )
    return table(("base", "what is done", "time", "fastest", "made of"), rows)


def sizes_table(found: Mapping[str, Any]) -> str:
    """Each size: its LoRA, and time and memory of each model."""
    models = list(dict.fromkeys(row["model"] for row in found["rows"]))
    head = ["base", "layers x width", "a LoRA"]
    for model in models:
        head += [f"{model}: time a LoRA", "of a read", "weights", "memory beside the batch"]
    rows = []
    for name in dict.fromkeys(row["size"] for row in found["rows"]):
        each = {row["model"]: row for row in found["rows"] if row["size"] == name}
        one = next(iter(each.values()))
        cells = [name, f"{one['layers']} x {one['width']:,}", size(one["lora_bytes"])]
        for model in models:
            row = each[model]
            cells += [duration(row["forward"]), f"{row['forward'] / row['read']:.1f} x"]
            cells += [size(row["model_bytes"]), size(row["work_bytes"])]
        rows.append(cells)
    return table(head, rows)


def page(evaluations: Iterable[Found], sizes: Iterable[Found]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for found in evaluations:
        if found["quick"]:
            parts.append("**Of a quick run: the numbers say nothing.**\n")
        parts += [f"## Prediction against evaluation, on {where(found)}\n", evaluation_table(found)]
        parts += ["\nTimes faster than the first evaluation of a base:\n", floors_table(found)]
        parts += ["\n### The evaluations\n", parts_table(found)]
        parts += ["\n### Against one read of the factors\n", reading_table(found), ""]
    for found in sizes:
        parts += [f"## GPT-3 sizes, on {where(found)}\n", SIZES, sizes_table(found), ""]
        parts += [f"![time and memory against model size](pictures/{PICTURE.name})\n"]
    return "\n".join(parts).rstrip() + "\n"


SIZES = """The paper's figure 5: one LoRA of rank 4 on one square matrix of every layer, 125M to 175B.
Times are of
the whole way from factors to answer, features included, in batches; the memory beside the batch is that of the
largest moment of a forward, weights not counted. `gl_net` has one equivariant layer of width 16, as the
paper's.
"""


def where(found: Mapping[str, Any]) -> str:
    """The machine in words."""
    machine = found["machine"]
    name = machine["name"]
    busy = f"; load {machine['load_before']:g} before, {found['load_after']:g} after"
    return f"{name} ({machine['cores']} cores, torch {machine['torch']}{busy})"


def evaluation(standard: Mapping[str, Any]) -> str:
    """Its time, marked where it was added up."""
    return ("~" if standard["extrapolated"] else "") + duration(standard["seconds"])


def cell(seconds: float, standard: float) -> str:
    """A time, and how many times faster it is."""
    return f"{duration(seconds)} ({standard / seconds:,.0f} x)"


def verdict(reached: bool) -> str:
    return ", reached" if reached else ", not reached"


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:,.3g} {unit}" if seconds < 1e4 else f"{seconds:,.0f} s"
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


def measured(start: str) -> list[Found]:
    """What was measured on each device, in the order of the names of the files."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(MEASURED.glob(f"{start}-*.json"))
    ]


def main(arguments: list[str] | None = None) -> None:
    """Write the page, after measuring where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    from speed import evaluation, sizes

    if options.measure:
        kind = options.device.split(":")[0]
        for script in (evaluation, sizes):
            name = script.__name__.removeprefix("speed.")
            target = MEASURED / f"{name}-{kind}.json"
            script.main(["--device", options.device, "--json", str(target)])
    found = measured("sizes")
    PAGE.write_text(page(measured("evaluation"), found), encoding="utf-8")
    if found:
        sizes.draw(found[-1], PICTURE)


if __name__ == "__main__":
    main()
