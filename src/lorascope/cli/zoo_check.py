"""`lorascope zoo verify` and `lorascope zoo rebuild`: whether a zoo is what its recipe says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.zoo.factory.rebuild import Rebuilt

__all__ = ["rebuild", "verify"]

SHOWN = 20  # findings of one check: a damaged index of 50,000 LoRAs has as many


def verify(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the lines.")
    ] = False,
) -> None:
    """Check a zoo: hashes of files and of each LoRA, index, ids, labels, groups, finiteness.

    Ends with 0 when everything holds, with 1 when something was found.

    \b
    Examples:
      lorascope zoo verify my-zoo
      lorascope zoo verify --json my-zoo
    """
    from lorascope.cli.output import console, print_json, progress_bar
    from lorascope.inspect.names import printable
    from lorascope.zoo.factory.verify import CHECKS, verify_zoo

    with progress_bar() as bar:
        task = bar.add_task("shards", total=None)
        result = verify_zoo(
            zoo, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        print_json({"schema": "lorascope.verify/1", "checks": CHECKS} | result.to_json())
    else:
        out = console()
        for check in CHECKS:
            found = [finding for finding in result.findings if finding.check == check]
            for finding in found[:SHOWN]:
                out.print(printable(f"{check}: {finding.place} {finding.message}"))
            if len(found) > SHOWN:
                out.print(f"{check}: {len(found) - SHOWN} more of these, which --json lists")
        for note in result.notes:
            out.print(printable(f"note: {note}"))
        size = f"{result.loras} LoRAs in {result.shards} shards, {result.bytes_read / 1e6:.1f} MB"
        count = len(result.findings)
        out.print(f"{size}: {'sound' if not count else f'{count} findings'}")
    if not result.sound:
        raise typer.Exit(1)


def rebuild(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    ids: Annotated[list[int], typer.Argument(metavar="ID", help="Ids in the zoo's index.")],
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_NAME",
            help="The base: its folder, or the name of a bundled one.",
            show_default="the bundled one that the recipe names",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="The data, of a zoo of published data."),
    ] = None,
    clip: Annotated[
        Path | None,
        typer.Option("--clip", metavar="FOLDER", help="The CLIP that scored it, likewise."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write each rebuilt LoRA as the PEFT folder FOLDER/ID."
        ),
    ] = None,
    as_built: Annotated[
        bool,
        typer.Option(
            "--as-built",
            help="Remake the whole group of each, in the order of the build, instead of each alone.",
        ),
    ] = False,
    fused: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Use the kernels in C, where a C compiler works.",
            show_default="as the build did",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="What finetunes: cpu, cuda or cuda:N.")
    ] = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the table.")
    ] = False,
) -> None:
    """Finetune and label LoRAs again, each alone, from recipe and id, and compare them with the stored ones.

    recipe.json is enough; index and shards, where they are there, are compared with.

    Ends with 0 when each has the same bytes or is close (cosine of the updates at least 0.999, labels
    within a quarter of their standard deviation), with 1 when one differs.

    \b
    Examples:
      lorascope zoo rebuild my-zoo 7 11
      lorascope zoo rebuild my-zoo 7 --out rebuilt
    """
    from lorascope.cli.output import console, plain_table, print_json
    from lorascope.io import write_lora
    from lorascope.zoo.factory.rebuild import rebuild_loras

    made = rebuild_loras(
        zoo,
        ids,
        base=base,
        data=data,
        clip=clip,
        as_built=as_built,
        compiled=fused,
        device=device,
    )
    if out is not None:
        for one in made:
            write_lora(one.lora, out / str(one.id))
    facts = [rebuilt_facts(one) for one in made]
    if as_json:
        print_json({"schema": "lorascope.rebuild/1", "path": str(zoo), "loras": facts})
    else:
        titles = ["id", "verdict", "distance", "cosine", "labels apart (std)"]
        names = ("id", "verdict", "distance", "cosine", "label_distance")
        rows = [[cell(fact[name]) for name in names] for fact in facts]
        console().print(plain_table(titles, rows))
    if any(fact["verdict"] == "different" for fact in facts):
        raise typer.Exit(1)


def rebuilt_facts(one: "Rebuilt") -> dict[str, Any]:
    """A rebuilt LoRA and its comparison, as plain data."""
    comparison = one.comparison
    return {
        "id": one.id,
        "verdict": comparison.verdict,
        "same_bytes": comparison.same_bytes,
        "distance": comparison.distance,
        "cosine": comparison.cosine,
        "label_distance": comparison.label_distance,
        "labels": {
            name: {"stored": stored, "rebuilt": again}
            for name, (stored, again) in (comparison.labels or {}).items()
        },
    }


def cell(value: Any) -> str:
    """A number short; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
