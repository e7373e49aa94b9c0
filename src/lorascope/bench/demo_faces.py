"""The demo's second half: finetune a tiny Stable Diffusion on people, show what that did, read it off.

faces family -> zoo -> faces.png: pictures of a person | samples of the base | samples with the LoRA
                    -> faces/table.md: attributes by the best kernel and by flat factors, beside controls
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, RenderableType

from lorascope.bench.report import write_report
from lorascope.bench.run import run_bench
from lorascope.io.processes import cores

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

__all__ = ["ENOUGH", "build_faces", "draw_people", "learn_attributes", "likeness"]

PICTURE, FOLDER = "faces.png", "faces"
MODELS = ("mlp", "kernel_cosine")
SHOWN = 6  # people in the picture
ENOUGH = 64  # LoRAs: with fewer, a score on unseen people says nothing


def build_faces(
    count: int, seed: int, folder: Path | None = None, console: Console | None = None
) -> "Zoo":
    """Finetune and label LoRAs of people, in a folder of its own for each count.

    Args:
        folder: by default one under $LORASCOPE_HOME.
        console: where the progress is shown.
    """
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.factory.family import engine_of
    from lorascope.zoo.factory.recipe import recipe_of, usual_dtype, zoo_folder
    from lorascope.zoo.families import FAMILIES

    family = FAMILIES["faces"](seed)
    if folder is None:
        usual = zoo_folder(recipe_of(family, dtype=usual_dtype(), slots=engine_of(family).slots))
        folder = usual.with_name(f"{usual.name}-demo-{count}")
    return build_zoo(family, count, folder, console=console)


def draw_people(zoo: "Zoo", out: Path) -> Path:
    """Write the picture of the first people: a row each, the same prompt and noise on base and LoRA."""
    from lorascope.zoo.factory.pictures import write_pictures

    _, rows = np.unique(zoo.groups(), return_index=True)
    out.mkdir(parents=True, exist_ok=True)
    return write_pictures(zoo, sorted(int(row) for row in rows)[:SHOWN], out / PICTURE)


def likeness(zoo: "Zoo") -> str:
    """In words: how like the pictures of its person the samples are, before and after, and how CLIP scores."""
    columns = ("fidelity", "fidelity_gain", "clip_score")
    after, gain, clip = (float(np.nanmean(zoo.labels(name).astype(float))) for name in columns)
    base = zoo.targets["clip_score"]["base_value"]
    return (
        f"likeness of samples to the pictures of the person (CLIP cosine x 100): base {after - gain:.1f}, "
        f"finetuned {after:.1f}; CLIP score over fixed prompts: base {base:.1f}, finetuned {clip:.1f}"
    )


def learn_attributes(
    zoo: "Zoo", out: Path, seeds: int, *, processes: int | None = None
) -> RenderableType:
    """Attributes from weights on people that no model has seen; the table, which is also in out/faces."""
    run_bench(
        zoo,
        out / FOLDER,
        targets=("attributes",),
        models=MODELS,
        seeds=seeds,
        processes=processes or len(cores()),
    )
    return write_report(out / FOLDER)
