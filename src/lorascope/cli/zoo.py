"""`lorascope zoo ...`: build, import, look into and export zoos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo
    from lorascope.predict.target import Kind

__all__ = ["build", "export", "import_folder", "info"]


def build(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="The family of LoRAs: exam.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many LoRAs.")] = 512,
    seed: Annotated[
        int, typer.Option("--seed", help="Draws data, hyper-parameters and starts.")
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
    Example:
      lorascope zoo build exam --count 512 --out my-zoo
    """
    from lorascope.cli.output import console
    from lorascope.errors import DataError
    from lorascope.zoo.factory.build import build_zoo
    from lorascope.zoo.families import FAMILIES

    if family not in FAMILIES:
        raise DataError(
            f"Building a zoo: found the family {family!r}, expected {', '.join(FAMILIES)}."
        )
    zoo = build_zoo(FAMILIES[family](seed), count, out, processes=processes)
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


def info(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the tables.")
    ] = False,
) -> None:
    """Say what a zoo holds: count, layers, targets and the distribution of their labels, hyper-parameters.

    \b
    Example:
      lorascope zoo info my-zoo
    """
    from lorascope.cli.output import print_json
    from lorascope.io import open_zoo

    facts = zoo_facts(open_zoo(zoo))
    if as_json:
        print_json({"schema": "lorascope.zoo/1"} | facts)
    else:
        show(facts)


def export(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    identity: Annotated[
        int, typer.Argument(metavar="ID", help="The LoRA's id in the zoo's index.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The PEFT folder to write.")],
) -> None:
    """Write one LoRA of a zoo as a PEFT folder, which peft loads on the base.

    \b
    Example:
      lorascope zoo export my-zoo 7 --out adapter-7
    """
    from lorascope.cli.output import console
    from lorascope.io import open_zoo, write_lora

    opened = open_zoo(zoo)
    console().print(str(write_lora(opened.lora(opened.row_of(identity)), out)))


def zoo_facts(zoo: "Zoo") -> dict[str, Any]:
    """What a zoo holds, as plain data."""
    signature = zoo.signature
    return {
        "path": str(zoo.path),
        "count": len(zoo),
        "groups": len(set(zoo.groups())),
        "base": signature.base,
        "layers": len(signature),
        "shapes": [{"n": g.n, "m": g.m, "layers": len(g)} for g in signature.groups()],
        "targets": {name: target_facts(zoo, name) for name in zoo.targets},
        "hyper": {name: spread(values) for name, values in zoo.hyper().items()},
        "report": dict(zoo.report),
    }


def target_facts(zoo: "Zoo", name: str) -> dict[str, Any]:
    """Kind of a target and the distribution of the labels that are there."""
    import numpy as np

    from lorascope.predict.target import Target, encode_labels

    target = zoo.targets[name]
    kind = target.get("kind")
    facts: dict[str, Any] = {"kind": kind}
    labels = zoo.labels(name)
    if kind == "regression":
        return facts | spread(labels) | {"base_value": target.get("base_value")}
    classes = list(target.get("classes", ()))
    encoded = encode_labels(Target.from_json(target, name), labels)
    known = encoded[np.isfinite(encoded).all(axis=1)]
    shares = (known.sum(axis=0) / max(len(known), 1)).tolist()
    missing = len(encoded) - len(known)
    return facts | {"shares": dict(zip(classes, shares, strict=True)), "missing": missing}


def spread(values: Any) -> dict[str, Any]:
    """Least, mean, most and standard deviation of the numbers that are there."""
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    facts: dict[str, Any] = {"missing": int(numbers.size - known.size)}
    if known.size:
        facts |= {
            "least": float(known.min()),
            "mean": float(known.mean()),
            "most": float(known.max()),
            "std": float(known.std()),
        }
    return facts


def show(facts: dict[str, Any]) -> None:
    """Print the facts of a zoo as a head and two tables."""
    from rich.text import Text

    from lorascope.cli.output import console, plain_table
    from lorascope.inspect.names import printable

    out = console()
    shapes = ", ".join(f"{s['layers']} of {s['n']} x {s['m']}" for s in facts["shapes"])
    out.print(Text(printable(facts["path"]), style="bold"))
    out.print(
        f"{facts['count']} LoRAs in {facts['groups']} groups, {facts['layers']} layers ({shapes})"
    )
    out.print(Text(printable(f"base {facts['base'] or 'not named'}")))
    numbers = [
        [name, *row(values)]
        for name, values in [*facts["targets"].items(), *facts["hyper"].items()]
        if "least" in values
    ]
    titles = ["", "kind", "least", "mean", "most", "std", "base alone", "missing"]
    if numbers:
        out.print()
        out.print(plain_table(titles, numbers))
    for name, values in facts["targets"].items():
        if "shares" in values:
            out.print()
            shares = [[label, f"{share:.2f}"] for label, share in values["shares"].items()]
            out.print(plain_table([f"{name} ({values['kind']})", "share of LoRAs"], shares))
            if values["missing"]:
                out.print(f"missing: {values['missing']} LoRAs have no label")


def row(values: dict[str, Any]) -> list[str]:
    """Cells of one line of numbers."""
    base = values.get("base_value")
    cells = [f"{values[key]:.4g}" for key in ("least", "mean", "most", "std")]
    kind = values.get("kind", "hyper-parameter")
    return [kind, *cells, "" if base is None else f"{base:.4g}", str(values["missing"])]
