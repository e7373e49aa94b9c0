"""`lorascope zoo collection`: build all zoos of the embedded collection, or some."""

from typing import Annotated

import typer

__all__ = ["collection"]


def collection(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ZOO]...", help="Zoos of the collection.", show_default="all"),
    ] = None,
    share: Annotated[
        float,
        typer.Option("--share", min=0.0001, max=1.0, help="This part of each zoo, to try it out."),
    ] = 1.0,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="How many at once.", show_default="one per core"),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="What finetunes: cpu, cuda or cuda:N.")
    ] = "cpu",
    listed: Annotated[
        bool, typer.Option("--list", help="Name the zoos and their sizes, build nothing.")
    ] = False,
) -> None:
    """Build the embedded collection under $LORASCOPE_HOME; a build that was stopped goes on where it was.

    \b
    Examples:
      lorascope zoo collection
      lorascope zoo collection exam-qwen exam-qwen-second --share 0.1
    """
    from lorascope.cli.output import console
    from lorascope.home import home
    from lorascope.zoo.factory.build_collection import build_collection, summary_table
    from lorascope.zoo.families.collection import COLLECTION, named_zoo

    out = console()
    if listed:
        for zoo in [named_zoo(name) for name in names or COLLECTION]:
            out.print(f"{zoo.name:20}{zoo.count:6}", highlight=False)
        return
    done = build_collection(
        names or (), share=share, processes=processes, device=device, note=out.print
    )
    out.print(summary_table(done), soft_wrap=True, highlight=False, markup=False)
    out.print(f"{home() / 'zoos' / 'collection.md'}", soft_wrap=True)
    if any(summary.problem or summary.failed for summary in done):
        raise typer.Exit(1)
