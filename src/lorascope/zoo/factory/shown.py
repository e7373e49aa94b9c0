"""What a card shows beside its tables: how labels are spread, and the base beside what finetuning made of it.

The second takes the base, so it is made on request (`zoo card --samples`). Both are files beside the card, and
are pushed with it; a card that is written again shows what is there.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lorascope.io.shard_writer import write_text
from lorascope.io.shards import Zoo
from lorascope.zoo.factory.restore import kind_of, origin_of

__all__ = ["SHOWN", "shown", "write_samples"]

SHOWN = ("labels.png", "samples.png", "samples.md")
LABELS, PICTURES, ANSWERS = SHOWN
MOST = 1 << 16  # characters of a table
WORDS = re.compile(r"\|[\w .,:?='()+|-]*\|", re.ASCII)  # no markup, no link
SPREAD = "![How the labels are spread](labels.png)"
DRAWN = """## Base and finetuned side by side

A row for each of some LoRAs, drawn at random: three pictures that it was finetuned on, three samples of the
base alone and three with the LoRA, under the same prompt and noise.

![Pictures, samples of the base, samples with the LoRA](samples.png)"""
ASKED = """## Base and finetuned side by side

Some LoRAs, drawn at random; of each the first test questions of sources that it was finetuned on, and of
others. Behind an answer stands its probability among the four options."""


def write_samples(zoo: Zoo, count: int, *, base: str | Path | None = None) -> Path:
    """Write base and finetuned side by side into the folder of a zoo, for its card.

    Of an image zoo samples.png, of an exam samples.md with questions and answers.

    Args:
        count: how many LoRAs are drawn, at random.
        base: what they are drawn on, a folder or the name of a bundled base; by default the bundled one that
            the recipe names.

    Raises:
        DataError: the zoo is neither of the exam nor of a bundled image family.
        FileError: a file cannot be written.
        MissingExtraError: peft, diffusers or transformers is not installed.
    """
    # a card alone needs none of the bases
    from lorascope.zoo.factory.answers import answer_table
    from lorascope.zoo.factory.pictures import write_pictures
    from lorascope.zoo.families.exam.family import ExamFamily

    draw = np.random.default_rng(0)
    rows = sorted(draw.choice(len(zoo), min(count, len(zoo)), replace=False).tolist())
    first = zoo.index.slice(rows[0], 1).to_pylist()[0]
    if kind_of(origin_of(zoo.recipe, first).recipe) is ExamFamily:
        place = zoo.path / ANSWERS
        write_text(place, answer_table(zoo, rows, base=base) + "\n")
        return place
    return write_pictures(zoo, rows, zoo.path / PICTURES, base=base)


def _table(path: Path) -> str:
    """The rows of a table that may come from elsewhere, without any that hold more than words."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.read(MOST).splitlines()
    return "\n".join(line for line in lines if WORDS.fullmatch(line))


def shown(folder: Path) -> Iterator[str]:
    """What a card shows of the files that are there."""
    if (folder / LABELS).is_file():
        yield SPREAD
    if (folder / PICTURES).is_file():
        yield DRAWN
    if (folder / ANSWERS).is_file():
        yield ASKED
        yield _table(folder / ANSWERS)
