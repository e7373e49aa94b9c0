"""The questions of ARC (Clark et al. 2018) from its published files, and which exam each is from.

Two layouts are read, by name of file under the folder:

    ARC-Easy-Train.jsonl, -Dev, -Test; ARC-Challenge-...     of AI2's archive: stem and choices
    ARC-Easy/train-*.parquet, validation-*, test-*; ...      of allenai/ai2_arc on the Hub

The part of an id before its year or number says which of 20 exams a question is from: `MCAS_2000_4_6`
is from MCAS, `Mercury_SC_415702` from Mercury, `CSZ20679` from CSZ.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorascope.errors import DataError, FileError

__all__ = ["SOURCES", "Question", "digest_of", "questions_of", "source_of"]

#: The first is never dropped (Putterman et al. 2024, section 5.1).
SOURCES = (
    "Mercury",
    "MCAS",
    "NYSEDREGENTS",
    "TIMSS",
    "ACTAAP",
    "NCEOGA",
    "MDSA",
    "VASoL",
    "AKDE&ED",
    "CSZ",
    "MEA",
    "LEAP",
    "NAEP",
    "MSA",
    "OHAT",
    "AIMS",
    "TAKS",
    "MEAP",
    "FCAT",
    "WASL",
)
Part = Literal["train", "dev", "test"]
NAMES = {"train": "train", "dev": "validation", "test": "test"}  # AI2's word -> the Hub's
SETS = ("ARC-Easy", "ARC-Challenge")
LAYOUT = (
    "Expected the folder of AI2's archive (ARC-Easy/ARC-Easy-Train.jsonl, -Dev, -Test and the same of "
    "ARC-Challenge, from https://allenai.org/data/arc) or of the Hub's data set allenai/ai2_arc "
    "(ARC-Easy/train-*.parquet, ...)"
)


@dataclass(frozen=True)
class Question:
    """One multiple-choice question."""

    id: str
    source: int  # its place in SOURCES
    stem: str
    options: tuple[str, ...]
    answer: int  # the place of the right option

    @property
    def prompt(self) -> str:
        """What stands before an option, as common evaluations put it."""
        return f"Question: {self.stem}\nAnswer:"


def source_of(identity: str) -> int:
    """Which exam a question is from, by its id: the longest name that it begins with.

    Raises:
        DataError: it is none of the 20.

    Example:
        >>> [SOURCES[source_of(i)] for i in ("MEAP_2005_8_43", "Mercury_SC_415702", "CSZ20679")]
        ['MEAP', 'Mercury', 'CSZ']
    """
    fitting = [name for name in SOURCES if identity.startswith(name)]
    if not fitting:
        raise DataError(
            f"reading ARC: the question {identity!r} is from none of the exams {', '.join(SOURCES)}. "
            "Try the published files, whose ids begin with the exam's name"
        )
    return SOURCES.index(max(fitting, key=len))


def questions_of(folder: Path, part: Part, sets: tuple[str, ...] = SETS) -> list[Question]:
    """The questions of one part of some sets, in the order of the files.

    Raises:
        FileError: the folder or a file is missing, or a file cannot be read.
        DataError: a question is not of the published form.
    """
    found: list[Question] = []
    for name in sets:
        for file in files_of(folder, name, part):
            found += [_question(row, file) for row in _rows(file)]
    return found


def files_of(folder: Path, name: str, part: Part) -> list[Path]:
    """The files of one part of one set.

    Raises:
        FileError: there are none.
    """
    lines = sorted(folder.rglob(f"{name}-{part.capitalize()}.jsonl"))
    tables = sorted(folder.rglob(f"{name}/{NAMES[part]}-*.parquet"))
    if not folder.is_dir() or not (lines or tables):
        raise FileError(
            f"reading ARC from {folder}: found no {part} questions of {name}. {LAYOUT}. Try --data "
            "with such a folder"
        )
    return lines[:1] or tables


def digest_of(folder: Path) -> str:
    """sha256 over all question files: the identity of the data."""
    digest = hashlib.sha256()
    for name in SETS:
        for part in ("train", "dev", "test"):
            for file in files_of(folder, name, part):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet as pq

            yield from pq.read_table(file).to_pylist()
            return
        with file.open(encoding="utf-8") as lines:  # a text may hold a line separator of Unicode
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (OSError, ValueError) as problem:
        raise FileError(f"reading {file}: {problem}. {LAYOUT}. Try downloading again") from problem


def _question(row: Mapping[str, Any], file: Path) -> Question:
    """A question of either layout."""
    try:
        asked = row["question"]
        if isinstance(asked, str):
            stem, texts, labels = asked, row["choices"]["text"], row["choices"]["label"]
        else:
            stem = asked["stem"]
            texts = [choice["text"] for choice in asked["choices"]]
            labels = [choice["label"] for choice in asked["choices"]]
        answer = list(labels).index(row["answerKey"])
        return Question(row["id"], source_of(row["id"]), stem, tuple(texts), answer)
    except (KeyError, TypeError, ValueError) as problem:
        raise DataError(
            f"reading {file}: the question {str(row)[:120]} has not the published form ({problem!r}). "
            f"{LAYOUT}"
        ) from problem
