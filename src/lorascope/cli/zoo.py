"""`lorascope zoo build` and `lorascope zoo import`: what makes a zoo from nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from lorascope.predict.target import Kind

__all__ = ["build", "import_folder"]


def build(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY",
            help="The family of LoRAs: exam; or a zoo of the collection (`zoo collection --list`).",
        ),
    ],
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            min=1,
            help="How many LoRAs.",
            show_default="512; of a zoo of the collection its own number",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            help="Draws data, hyper-parameters and starts; a zoo of the collection has its own.",
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where the zoo goes.",
            show_default="$LORASCOPE_HOME, by the recipe's hash",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="How many at once.", show_default="one per core"),
    ] = None,
) -> None:
    """Finetune and label LoRAs of a bundled base; a build that was stopped goes on where it was.

    \b
    Examples:
      lorascope zoo build exam --count 512 --out my-zoo
      lorascope zoo build faces-rank-8
    """
    from lorascope.cli.output import console
    from lorascope.errors import DataError
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.families import FAMILIES
    from lorascope.zoo.families.collection import COLLECTION

    if family in COLLECTION:
        drawn, usual = COLLECTION[family].family(), COLLECTION[family].count
    elif family in FAMILIES:
        drawn, usual = FAMILIES[family](seed), 512
    else:
        names = ", ".join([*FAMILIES, *COLLECTION])
        raise DataError(f"Building a zoo: found the family {family!r}, expected one of {names}.")
    zoo = build_zoo(drawn, count or usual, out, processes=processes)
    console().print(f"{len(zoo)} LoRAs: {zoo.path}")


def import_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of LoRA files.")],
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="CSV",
            help="A table: a column `file` relative to FOLDER, and a column for each label; or the word "
            "`metadata`: the training fields that the files hold themselves, without those that leak.",
        ),
    ],
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="COLUMN",
            help="Column that names what LoRAs share; those of one group are never split.",
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="COLUMN=KIND",
            help="regression, multilabel or multiclass for a column; may be given many times.",
            show_default="by the values",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Where the zoo goes.", show_default="FOLDER's name + -zoo"
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Read .bin files too, with torch's weights_only reader."
        ),
    ] = False,
) -> None:
    """Make a zoo of your own LoRAs and labels; it trains, predicts and benchmarks like a built one.

    \b
    Examples:
      lorascope zoo import collection --labels labels.csv --group author --out my-zoo
      lorascope zoo import collection --labels metadata
    """
    from lorascope.cli.output import console, progress_bar
    from lorascope.inspect.names import printable
    from lorascope.zoo.collect.ingest import import_zoo

    with progress_bar() as bar:
        task = bar.add_task("importing", total=None)
        made = import_zoo(
            folder,
            labels,
            out or Path(f"{folder.resolve().name}-zoo"),
            group=group,
            kinds=parse_kinds(kinds or []),
            allow_pickle=allow_pickle,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    err = console(stderr=True)
    for file, reason in made.left_out.items():
        err.print(f"left out {printable(file)}: {printable(reason)}")
    for warning in made.warnings:
        err.print(f"warning: {printable(warning)}")
    console().print(f"{made.taken} LoRAs taken, {len(made.left_out)} left out: {made.zoo.path}")


def parse_kinds(words: list[str]) -> "dict[str, Kind]":
    """Column -> kind, from COLUMN=KIND. Raises DataError for words of another form."""
    from lorascope.errors import DataError
    from lorascope.predict.target import Kind

    kinds: dict[str, Kind] = {}
    for word in words:
        column, _, kind = word.rpartition("=")
        known = next((k for k in get_args(Kind) if k == kind), None)
        if not column or known is None:
            raise DataError(
                f"Reading --kind {word!r}: expected COLUMN=KIND with one of {', '.join(get_args(Kind))}."
            )
        kinds[column] = known
    return kinds
