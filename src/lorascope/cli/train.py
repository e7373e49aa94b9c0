"""`lorascope train`: from a zoo to a saved predictor, with its scores beside the controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lorascope.predict import Predictor

__all__ = ["train"]


def train(
    zoo: Annotated[Path, typer.Option("--zoo", metavar="DIR", help="Folder of the zoo.")],
    target: Annotated[
        str,
        typer.Option("--target", metavar="T", help="What to predict; `zoo info DIR` lists them."),
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="M", help="Name of the model.")
    ] = "gl_net",
    seed: Annotated[
        int, typer.Option("--seed", help="Draws the split, the first weights and the order.")
    ] = 0,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="At most so many passes.", show_default="by model"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where to save the predictor.",
            show_default="predictor-T-M",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the scores.")
    ] = False,
) -> None:
    """Train a predictor on a zoo and save it; its scores are on LoRAs that share no group with the training.

    \b
    Example:
      lorascope train --zoo my-zoo --target accuracy --model gl_net --out my-predictor
    """
    import sys

    from lorascope.cli.output import print_json
    from lorascope.io import open_zoo
    from lorascope.train import fit

    predictor = fit(
        open_zoo(zoo),
        target,
        model=model,
        seed=seed,
        epochs=epochs,
        device=usable_device(device),
        progress=sys.stderr.isatty(),
    )
    folder = out or Path(f"predictor-{target}-{model}")
    predictor.save(folder)
    if as_json:
        report = dict(predictor.report)
        print_json({"schema": "lorascope.train/1", "predictor": str(folder), "report": report})
    else:
        show(predictor, folder)


def usable_device(name: str) -> str:
    """The device, checked. Raises DataError for one that torch does not know or that is not there."""
    import torch

    from lorascope.errors import DataError

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f"Training on the device {name!r}: torch cannot use it here. Expected cpu, or cuda where torch "
            f"finds a GPU (torch.cuda.is_available() is {torch.cuda.is_available()})."
        ) from error
    return name


def show(predictor: "Predictor", folder: Path) -> None:
    """The scores of a predictor, and where it is."""
    from lorascope.cli.output import console, plain_table

    report = predictor.report
    metrics = report["metrics"]
    rows = [
        [name, *(number(metrics[part].get(name)) for part in ("validation", "test"))]
        for name in metrics["test"]
    ]
    out = console()
    out.print(plain_table([predictor.target.name, "validation", "test"], rows))
    counts = report["rows"]
    out.print(
        f"{predictor.model.name}, {report['parameters']:,} parameters, trained on {counts['train']} LoRAs in "
        f"{report['seconds']:.1f} s, tested on {counts['test']}"
    )
    if counts["without_label"]:
        out.print(f"{counts['without_label']} LoRAs have no label and were left out")
    out.print(f"saved to {folder}")


def number(value: float | None) -> str:
    """Three digits, or a dash where the score does not exist."""
    return "-" if value is None else f"{value:.3f}"
