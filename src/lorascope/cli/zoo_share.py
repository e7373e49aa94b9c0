"""`lorascope zoo export`, `card` and `push`: what leaves a zoo."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["card", "export", "push"]


def export(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    identity: Annotated[
        int, typer.Argument(metavar="ID", help="The LoRA's id in the zoo's index.")
    ],
    out: Annotated[
        Path, typer.Option("--peft", "--out", metavar="FOLDER", help="The PEFT folder to write.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="BASE",
            help="Folder or name of the base to write into the configuration; of a bundled base its name.",
            show_default="the bundled base of the recipe, or the recorded name",
        ),
    ] = None,
) -> None:
    """Write one LoRA of a zoo as a PEFT folder, which peft loads on the base; README.md says its scores.

    \b
    Example:
      lorascope zoo export my-zoo 7 --peft adapter-7
    """
    from lorascope.cli.output import console
    from lorascope.io import open_zoo
    from lorascope.zoo.factory.export import export_peft

    console().print(str(export_peft(open_zoo(zoo), identity, out, base=base)), soft_wrap=True)


def card(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    licence: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="Licence, as the Hugging Face Hub spells it.",
            show_default="apache-2.0 for zoos of bundled bases, else none",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Title.", show_default="the folder's name")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=1,
            metavar="COUNT",
            help="Show of so many LoRAs, drawn at random, what the base makes and what it makes with each: "
            "pictures, or answers of the exam.",
            show_default="those of an earlier call, if any",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_NAME",
            help="What makes the samples: a folder, or the name of a bundled base.",
            show_default="the bundled one that the recipe names",
        ),
    ] = None,
) -> None:
    """Write README.md into a zoo: a data set's card with tables of the labels, ceilings, recipe, limits.

    Beside it goes labels.png, which draws how the labels are spread. The same zoo gives the same bytes.

    \b
    Examples:
      lorascope zoo card my-zoo --license cc-by-4.0
      lorascope zoo card my-faces --samples 8
    """
    from lorascope.cli.output import console
    from lorascope.io import open_zoo
    from lorascope.zoo.factory.card import write_card
    from lorascope.zoo.factory.shown import write_samples

    opened = open_zoo(zoo)
    if samples is not None:
        write_samples(opened, samples, base=base)
    console().print(str(write_card(opened, licence=licence, name=name)), soft_wrap=True)


def push(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="Data set on the Hugging Face Hub: USER/NAME.")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; else it is private.")
    ] = False,
    with_log: Annotated[
        bool, typer.Option("--with-log", help="Send build.jsonl too: times, hosts, failures.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and send nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check every hash first.")
    ] = True,
) -> None:
    """Send a zoo to the Hugging Face Hub, as a private data set; files that are there are not sent again.

    The token is the one of `hf auth login` or of $HF_TOKEN.

    \b
    Examples:
      lorascope zoo push my-zoo anna/my-zoo --dry-run
      lorascope zoo push my-zoo anna/my-zoo
    """
    from lorascope.cli.output import console, plain_table
    from lorascope.zoo.factory.push import push_zoo

    sent = push_zoo(zoo, repo, public=public, with_log=with_log, dry_run=dry_run, verify=check)
    out = console()
    kind = "private" if sent.private else "public"
    told = f"{len(sent.files)} files, {sent.size / 1e6:.1f} MB, {kind} data set {repo}"
    if dry_run:
        out.print(plain_table(["file", "bytes"], [[name, size] for name, size in sent.files]))
        out.print(f"would send {told}", soft_wrap=True)
    else:
        out.print(f"sent {told}: {sent.url}", soft_wrap=True)
