"""docs/cli.md, made from the help that the commands really print.

    python -m lorascope.cli.manual > docs/cli.md

A test compares the file with what this prints.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

import typer

from lorascope.cli.app import app

__all__ = ["commands", "help_text", "manual"]

INTRODUCTION = """# The command line

Every command ends with 0 when done and with 2 on bad input, after one message on stderr; `inspect` ends with 1
when it found a problem of severity error (or of the severity that --fail-on names), `zoo verify` when it found
damage, `zoo rebuild` when a LoRA came out different. With `--json`, stdout holds
one JSON document and nothing else (of many files written as they come); progress goes to stderr. Zoos and bases
live in `$LORASCOPE_HOME` (default `~/.cache/lorascope`) where no folder is named.

This page is made by `python -m lorascope.cli.manual > docs/cli.md`.
"""

DOCUMENTS = """## JSON documents

Each names its form under `schema`; keys may be added, none is removed or changed without a new number. A number
that is not finite, or that does not exist, is null.

| schema | keys |
| :-- | :-- |
| `lorascope.inspect/1` | `summary` (files by base, format, outcome and problem) and `files`: a list of \
reports, or of brief ones with `--results`; every key stands in [inspect-schema.json](inspect-schema.json) |
| `lorascope.predict/1` | `predictors` (`path`, `target`, `model`), `summary` (`files`, `predicted`, \
`abstained`, `uncertain`, `refused`) and `files`, each with `path`, `errors` (with `passing` where they may \
pass), `ambiguities` and `left` (what the file leaves open, what of it is not read; as `inspect` says it) and \
`predictions` (`target`, `kind`, `value` and `unit` or `labels` and `probabilities`, `coverage`, `held_out`, \
`warnings`; `interval` or `possible` labels at `level`, `outlier`, `abstains`, `reason`); \
`explanations` with --explain. `--results` keeps each file under `result` of a line |
| `lorascope.train/1` | `predictor` (its folder) and `report` (`metrics`, `rows`, `settings`, `seconds`, \
`versions` and more) and `controls`, each with its scores on the test rows |
| `lorascope.trust/2` | `page` (its path) and `zoos`, each with `zoo`, `others`, `model`, `versions`, \
`left_out`, `seeds`, by number, with `probabilities`, `intervals`, `risk`, `rows` and `fit_seconds`, and \
`splits`, by number, with `rows` and `outliers` (`kind`, `zoo`, `count`, `auroc`, `flagged`, `size`, `rules`) |
| `lorascope.zoo/1` | `path`, `count`, `bytes`, `shards`, `ranks`, `groups`, `base`, `layers`, `shapes`, \
`targets`, `hyper`, `ceilings`, `diverged`, `failures`, `report` |
| `lorascope.verify/1` | `path`, `checks`, `sound`, `loras`, `shards`, `bytes_read`, `findings` (each `check`, \
`place`, `message`), `notes` |
| `lorascope.rebuild/1` | `path` and `loras`, each with `id`, `verdict`, `same_bytes`, `distance`, `cosine`, \
`label_distance` and `labels` (`stored`, `rebuilt`) |
"""


def manual() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for words in commands(app):
        parts.append(f"## {' '.join(['lorascope', *words])}\n\n```\n{help_text(words)}\n```\n")
    return "\n".join([*parts, DOCUMENTS])


def commands(group: typer.Typer, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups before their members; the first is the program itself."""
    yield before
    for command in group.registered_commands:
        yield (*before, str(command.name))
    for member in group.registered_groups:
        if member.typer_instance is not None:
            yield from commands(member.typer_instance, (*before, str(member.name)))


def help_text(words: tuple[str, ...]) -> str:
    """What `lorascope WORDS --help` prints on a terminal of 100 columns."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            app(args=[*words, "--help"], prog_name="lorascope")
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


if __name__ == "__main__":
    sys.stdout.write(manual())
