"""docs/speed.md and its picture, made from what was measured: the same JSON gives the same page.

python -m speed.page                              writes the page again
python -m speed.page --measure                    measures what is not measured yet first, part after part
python -m speed.page --measure --part sd14 sizes  only these, again

Parts take a few minutes each on two idle cores and leave a file each in speed/measured, DEVICE-PART.json: a run
that was stopped goes on with the next. With --device cuda everything is measured on a GPU beside that.
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from speed.tables import (
    NO_GPU,
    Found,
    duration,
    evaluation_table,
    fit_table,
    floors_table,
    folder_table,
    parts_table,
    reading_table,
    runs_table,
    sizes_table,
)

__all__ = ["MEASURED", "PAGE", "PICTURE", "main", "measured", "page"]

ROOT = Path(__file__).parents[1]
MEASURED, PAGE = Path(__file__).parent / "measured", ROOT / "docs" / "speed.md"
PICTURE = ROOT / "docs" / "pictures" / "sizes.png"
PARTS = ("tiny", "sd14", "qwen", "llama", "reading", "sizes", "folder", "fit")
#: Measured on a CPU only: bytes are the same everywhere, and the aim of learning is set for two cores.
ON_CPU = ("folder", "fit")
DEVICES = ("cpu", "cuda")

INTRODUCTION = """# Speed

Made by `python -m speed.page` from what `python -m speed.page --measure` found.

What is compared: the **standard evaluation** of one adapter at its best (the fastest of half precision and, on
CPUs, float32, and of three batch sizes, and the cheapest way to ask, beside which the others stand; adapter
merged beforehand, loading not counted) with the **prediction** of the same score, on the same device, in the
same run unless the list of runs says otherwise. Everything from
the factors on is in the time, features included; `fusion` is the default model, `gl_net` the paper's as this
package trains it, "with trust" adds the score of how unusual the LoRA is.

- *one file*: a folder on disk to its answer, the predictor in memory.
- *many files*, *shards*: time a LoRA of 1,024, a process on every core; shards are those of a zoo. The system's
  cache of the disk is warm.
- *resident*: factors already on the device, in batches; the faster of float32 and bfloat16 factors, the fastest
  of three batch sizes; the model alone.

Bases with random weights have the true shapes, and so have their predictors, 1,000 landmarks included: time
does not depend on values. Times marked ~ were **not run whole**: they are added up from measured parts, which
stand below. Clocks wait for the device, the first call does not count, medians do.
"""
SHARED = """**The CPU had other work beside** where the list of runs says processor time. There, times are
seconds of processor time of one thread, divided by the number of cores, as if they shared the work without
loss: the evaluation's too. One file, and one LoRA alone, have one core and are not divided: an evaluation has
all cores against it.
"""
READING = """64 LoRAs of a base go through the forward, and their factors through a sum, in turn; the ratio is
the median of those of each round. Here `gl_net` is the paper's: one equivariant layer of width 16 and a linear
head. Bounds are set for q and v of Llama-3.2-3B alone: of smaller adapters what a forward does beside reading
weighs more.
"""
SIZES = """The paper's figure 5: one LoRA of rank 4 on one square matrix of every layer, 125M to 175B, each
measured in a process of its own. *Alone* is the forward of one LoRA, *in a batch* the time a LoRA of as many as
256 MB allow, 64 at most; *reads* is that beside one read of the same factors; *memory beside* is what one
LoRA's forward takes at its largest moment, weights and factors not counted. All of the way from factors to
answer is in it. `gl_net` has one equivariant layer of width 16, as the paper's.
"""
FOLDER = """{loras:,} random LoRAs of rank {rank} on the {layers} layers to_q and to_v of the UNet, really
learned ({seconds:,.0f} s for all of these together) and really written: the folder holds directions, landmarks
and weights, and does not grow with the number of training LoRAs.
"""
FIT = """`fit_many` on all targets of the zoo of {zoo} at once ({layers} layers, rank {rank}): {targets}.
Both looks, what tells outliers, calibration and intervals, and the scores of the test LoRAs are in it; the
LoRAs are in memory (reading them took {seconds}). The processor's time is that of all threads together.
"""


def page(parts: Iterable[Found]) -> str:
    """The whole page, of parts in any order."""
    ordered = sorted(parts, key=lambda found: (kind(found), PARTS.index(found["part"])))
    on_gpu = any(kind(found) == "cuda" for found in ordered)
    sections = [INTRODUCTION]
    for device in DEVICES:
        some = [found for found in ordered if kind(found) == device]
        if any(found["machine"]["shared"] for found in some):
            sections.append(SHARED)
        if some:
            sections += section(some, device.upper().replace("CUDA", "GPU"), alone=not on_gpu)
    if not on_gpu:
        again = "`python -m speed.page --measure --device cuda`"
        sections.append(f"## On a GPU\n\n{NO_GPU}. The same with one: {again}.\n")
    return "\n".join(sections).rstrip() + "\n"


def section(parts: list[Found], on: str, *, alone: bool) -> list[str]:
    """What was found on one kind of device, which may be the only one."""
    sections, evaluated = [], [found for found in parts if found.get("workloads")]
    if evaluated:
        sections += [f"## Prediction against evaluation, on a {on}\n", evaluation_table(evaluated)]
        if on == "GPU" or alone:
            sections += ["\nTimes faster than the cheapest evaluation of a base:\n"]
            sections += [floors_table(evaluated, gpu=on == "GPU")]
        sections += ["\n### The evaluations\n", parts_table(evaluated), ""]
    for found in parts:
        if found["part"] == "reading":
            sections += [f"## Against one read of the factors, on a {on}\n", READING]
            sections += [reading_table(found), ""]
        if found["part"] == "sizes":
            sections += [f"## GPT-3 sizes, on a {on}\n", SIZES, sizes_table(found), ""]
            name = picture(found).name
            sections += [f"![time and memory against model size](pictures/{name})\n"]
        if found["part"] == "folder":
            sections += ["## The folder at the shapes of Stable Diffusion 1.4\n"]
            sections += [FOLDER.format(**found), folder_table(found), ""]
        if found["part"] == "fit":
            facts = {"targets": ", ".join(found["targets"]), "seconds": duration(found["read"])}
            sections += [f"## Learning, on a {on}\n", FIT.format(**{**found, **facts})]
            sections += [fit_table(found), ""]
    return [*sections, f"### The runs on a {on}\n", runs_table(parts), ""]


def kind(found: Found) -> str:
    """The kind of device that a part ran on."""
    return str(found["machine"]["device"]).split(":")[0]


def picture(found: Found) -> Path:
    """The picture of the sizes on a kind of device."""
    return PICTURE if kind(found) == "cpu" else PICTURE.with_stem(f"{PICTURE.stem}-{kind(found)}")


def measured(folder: Path = MEASURED) -> list[Found]:
    """All parts that were measured."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def measure(
    parts: Iterable[str], device: str, how: Sequence[str] = (), *, again: bool, out: Path
) -> None:
    """Measure parts, each as soon as the one before it has left its file."""
    # as the command line does, and before torch is there: large tensors on large pages
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from speed import evaluation, fit, folder, sizes

    for part in parts:
        if part in ON_CPU and not device.startswith("cpu"):
            continue
        if evaluation.place(out, device, part).is_file() and not again:
            print(f"{part}: measured before")
            continue
        common = ["--out", str(out), *how]
        if part == "folder":
            folder.main([word for word in common if word != "--shared"])
        elif part == "fit":
            fit.main(common)
        elif part == "sizes":
            sizes.main([*common, "--device", device])
        else:
            evaluation.main([*common, "--device", device, "--part", part])


def main(arguments: list[str] | None = None) -> None:
    """Write the page, after measuring where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--part", nargs="*", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="miniatures: the numbers say nothing")
    parser.add_argument("--shared", action="store_true", help="a busy CPU: count processor time")
    parser.add_argument("--out", type=Path, default=MEASURED, help="folder of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args(arguments)
    if options.measure:
        chosen, again = options.part or PARTS, bool(options.part)
        how = [f"--{name}" for name in ("quick", "shared") if getattr(options, name)]
        measure(chosen, options.device, how, again=again, out=options.out)
    found = measured(options.out)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(found), encoding="utf-8")
    for part in found:
        if part["part"] == "sizes":
            from speed.sizes import draw

            draw(part, options.page.parent / picture(part).relative_to(PAGE.parent))


if __name__ == "__main__":
    main()
