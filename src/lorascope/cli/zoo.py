"""`lorascope zoo build` and `lorascope zoo import`: what makes a zoo from nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorascope.predict.target import Kind
    from lorascope.zoo.factory.family import Family

__all__ = ["build", "import_folder"]


def build(
    family: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY",
            help="The family of LoRAs: exam, faces or objects; a zoo of the collection (`zoo collection "
            "--list`); or one of the paper's: celeba-sd14, imagenette-sd14, arc-qwen2-1.5b, arc-llama3.2-3b.",
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
        int | None,
        typer.Option(
            "--seed",
            help="Draws data, hyper-parameters and starts.",
            show_default="0; of a zoo of the collection its own",
        ),
    ] = None,
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
    device: Annotated[
        str, typer.Option("--device", help="What finetunes: cpu, cuda or cuda:N.")
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            help="float32 or bfloat16: what the base is computed in; part of the recipe.",
            show_default="float32, on a GPU bfloat16",
        ),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(
            "--slots",
            min=1,
            help="How many batches train at once; part of the recipe.",
            show_default="by the family",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Data of one of the paper's zoos."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_NAME",
            help="Base of one of the paper's zoos: a folder, or a name on the Hub.",
            show_default="the published one",
        ),
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(
            "--clip",
            metavar="FOLDER_OR_NAME",
            help="The CLIP that scores Stable Diffusion.",
            show_default="openai/clip-vit-base-patch16",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="ray", help="Spread the work over a Ray cluster."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Of the cluster.",
            show_default="$RAY_ADDRESS, else this machine",
        ),
    ] = None,
) -> None:
    """Finetune and label LoRAs of a base; a build that was stopped goes on where it was.

    \b
    Examples:
      lorascope zoo build exam --count 512 --out my-zoo
      lorascope zoo build faces-rank-8
      lorascope zoo build faces --seed 7 --count 100
      lorascope zoo build celeba-sd14 --data CelebA --cluster ray --address head:6379
    """
    from lorascope.cli.output import console
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.factory.recipe import named_dtype

    places = {"data": data, "base": base, "clip": clip}
    drawn, usual = family_and_count(
        family, seed, {k: v for k, v in places.items() if v is not None}
    )
    zoo = build_zoo(
        drawn,
        count or usual,
        out,
        processes=processes,
        device=device,
        dtype=None if dtype is None else named_dtype(dtype),
        slots=slots,
        cluster=cluster,  # type: ignore[arg-type] # build_zoo says what it may be
        address=address,
    )
    console().print(f"{len(zoo)} LoRAs: {zoo.path}", soft_wrap=True)


def family_and_count(
    name: str, seed: int | None, places: "Mapping[str, Any]"
) -> "tuple[Family, int]":
    """The family of a name and its usual count.

    Args:
        seed: None for the usual one.
        places: for the paper's zoos alone.
    """
    from lorascope.errors import DataError
    from lorascope.zoo.families import FAMILIES
    from lorascope.zoo.families.collection import COLLECTION
    from lorascope.zoo.families.published import PUBLISHED, published_family

    if name in PUBLISHED:
        return published_family(name, seed=seed or 0, **places), PUBLISHED[name].count
    if name not in FAMILIES and name not in COLLECTION:
        names = ", ".join([*FAMILIES, *COLLECTION, *PUBLISHED])
        raise DataError(f"Building a zoo: found the family {name!r}, expected one of {names}.")
    if places:
        options = ", ".join(f"--{option}" for option in places)
        raise DataError(
            f"Building a zoo of {name}: it is bundled and takes no {options}. Try one of "
            f"{', '.join(PUBLISHED)}."
        )
    if name in COLLECTION:
        return COLLECTION[name].family(seed), COLLECTION[name].count
    return FAMILIES[name](seed or 0), 512


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
    taken = f"{made.taken} LoRAs taken, {len(made.left_out)} left out: {made.zoo.path}"
    console().print(taken, soft_wrap=True)


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
