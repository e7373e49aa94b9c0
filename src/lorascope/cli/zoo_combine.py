"""`lorascope zoo merge` and `lorascope zoo sample`: zoos made of zoos."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["merge", "sample"]


def merge(
    zoos: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders of two or more zoos.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the new zoo goes.")],
) -> None:
    """Make one zoo of several that have the same targets, layers and base.

    Ids stay where they are unique, else those of later zoos move up; groups stay, so that no split leaks;
    a LoRA that two zoos hold is taken once; every row names its origin.

    \b
    Example:
      lorascope zoo merge monday tuesday --out week
    """
    from lorascope.cli.output import console, progress_bar
    from lorascope.inspect.names import printable
    from lorascope.zoo.factory.merge import merge_zoos

    with progress_bar() as bar:
        task = bar.add_task("merging", total=None)
        made = merge_zoos(
            zoos, out, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    told = console(stderr=True)
    for name, shift in made.moved.items():
        told.print(printable(f"ids of {name}: + {shift}"))
    if made.copies:
        told.print(f"{made.copies} copies left out, {made.joined} groups joined")
    console().print(f"{len(made.zoo)} LoRAs: {made.zoo.path}", soft_wrap=True)


def sample(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PLACE", help="Folder of the new zoo, or a list of rows: NAME.csv."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many LoRAs at most.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another draw.")] = 0,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="Keep the shares of the classes or quintiles of a label or another column of the index.",
            show_default="the shares of the folds",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="PNG",
            help="Of an image zoo: draw for each a row of its pictures, samples of the base, and samples "
            "with the LoRA, under the same noise.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_NAME",
            help="What draws the pictures: a folder, or the name of a bundled base.",
            show_default="the bundled one that the recipe names",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Where pictures are drawn: cpu, cuda or cuda:N.")
    ] = "cpu",
) -> None:
    """Draw a smaller zoo at random: whole groups, stratified, the same for the same seed.

    Folds, groups and ids of the LoRAs are those of the large zoo.

    \b
    Examples:
      lorascope zoo sample my-zoo --count 256 --out small-zoo
      lorascope zoo sample my-zoo --count 20 --by accuracy --out some.csv
      lorascope zoo sample my-faces --count 8 --pictures faces.png
    """
    from lorascope.cli.output import console, progress_bar
    from lorascope.errors import DataError
    from lorascope.io import open_zoo
    from lorascope.zoo.factory.sample import draw_rows, sample_zoo, write_list

    if out is None and pictures is None:
        raise DataError(
            "Sampling a zoo: found neither --out nor --pictures, expected at least one."
        )
    opened = open_zoo(zoo)
    rows = draw_rows(opened, count, seed=seed, by=by)
    if pictures is not None:
        from lorascope.zoo.factory.pictures import write_pictures

        place = write_pictures(opened, rows, pictures, base=base, device=device)
    if out is None:
        pass
    elif out.suffix == ".csv":
        place = write_list(opened, rows, out)
    else:
        with progress_bar() as bar:
            task = bar.add_task("sampling", total=len(rows))
            drawn = {"count": count, "seed": seed, "by": by}
            place = sample_zoo(
                opened,
                rows,
                out,
                drawn=drawn,
                progress=lambda done, _: bar.update(task, completed=done),
            ).path
    console().print(f"{len(rows)} LoRAs: {place}", soft_wrap=True)
