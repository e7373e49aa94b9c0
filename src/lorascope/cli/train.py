"""`lorascope train`: from a zoo to a saved predictor, with its scores beside the controls."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lorascope.predict import Predictor
    from lorascope.train.data import LabelledLoRAs

    Controls = dict[str, dict[str, float | None]]

__all__ = ["train"]


def train(
    zoo: Annotated[Path, typer.Option("--zoo", metavar="DIR", help="Folder of the zoo.")],
    target: Annotated[
        str,
        typer.Option("--target", metavar="T", help="What to predict; `zoo info DIR` lists them."),
    ],
    model: Annotated[
        str,
        typer.Option("--model", metavar="M", help="Name of the model; auto leads the benchmark."),
    ] = "auto",
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            min=0,
            max=2**32 - 1,  # what scikit-learn's controls take
            help="Draws the split, the first weights and the order.",
        ),
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
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Keep the training here after each epoch; the same command goes on where it was stopped.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the scores.")
    ] = False,
) -> None:
    """Train a predictor on a zoo and save it; its scores are on LoRAs that share no group with the training.

    Beside them stand those of the controls, which read no more than sizes, ranks or hyper-parameters.

    \b
    Example:
      lorascope train --zoo my-zoo --target accuracy --out my-predictor
    """
    import sys

    from lorascope.cli.output import print_json
    from lorascope.io import open_zoo
    from lorascope.models.build import AUTO, DEFAULT, is_solved
    from lorascope.predict.folder import check_place
    from lorascope.train.data import from_zoo
    from lorascope.train.fit import fit

    name = DEFAULT if model == AUTO else model
    of = re.sub(r"[^\w.-]", "_", target)  # its name is anyone's and may hold a slash
    folder = check_place(out or Path(f"predictor-{of}-{name}"))  # before the work, not after it
    given = [o for o, value in (("--epochs", epochs), ("--checkpoint", checkpoint)) if value]
    if given and is_solved(name):
        typer.echo(
            f"note: {name} is solved at once; {' and '.join(given)} change nothing", err=True
        )
    data = from_zoo(open_zoo(zoo), [target])
    predictor = fit(
        data,
        target,
        model=model,
        seed=seed,
        epochs=epochs,
        device=usable_device(device),
        checkpoint_dir=checkpoint,
        progress=sys.stderr.isatty(),
    )
    predictor.save(folder)
    controls = scores_of_controls(data, target, seed)
    if as_json:
        report = dict(predictor.report)
        document = {"predictor": str(folder), "report": report, "controls": controls}
        print_json({"schema": "lorascope.train/1"} | document)
    else:
        show(predictor, folder, controls)


def scores_of_controls(data: "LabelledLoRAs", target: str, seed: int) -> "Controls":
    """The controls' scores on the test rows of the same split."""
    from lorascope.train.controls import control_scores, controls_of
    from lorascope.train.fit import default_split

    split = default_split(data, seed).among(data.known(target))
    return {
        name: control_scores(name, data, target, split, seed=seed) for name in controls_of(data)
    }


def usable_device(name: str) -> str:
    """The device, checked. Raises DataError for one that torch does not know or that is not there."""
    import torch

    from lorascope.errors import DataError

    try:
        if torch.empty(0, device=name).is_meta:
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f"Training on the device {name!r}: torch cannot use it here. Expected cpu, or cuda where torch "
            f"finds a GPU (torch.cuda.is_available() is {torch.cuda.is_available()})."
        ) from error
    return name


def show(predictor: "Predictor", folder: Path, controls: "Controls") -> None:
    """The scores of a predictor beside those of the controls, and where it is."""
    from lorascope.cli.output import console, plain_table
    from lorascope.train.trust import FEWEST

    report = predictor.report
    metrics = report["metrics"]
    columns = [metrics["validation"], metrics["test"], *controls.values()]
    rows = [[name, *(number(column.get(name)) for column in columns)] for name in metrics["test"]]
    out = console()
    titles = [predictor.target.name, "validation", "test", *(f"test: {name}" for name in controls)]
    out.print(plain_table(titles, rows))
    counts = report["rows"]
    out.print(
        f"{predictor.model.name}, {report['parameters']:,} parameters, trained on {counts['train']} LoRAs in "
        f"{report['seconds']:.1f} s, tested on {counts['test']}"
    )
    if counts["without_label"]:
        out.print(f"{counts['without_label']} LoRAs have no label and were left out")
    if counts["validation"] < FEWEST:
        out.print(
            f"{counts['validation']} LoRAs were held out for validation, fewer than the {FEWEST} that "
            "intervals, calibrated probabilities and the detection of unlike LoRAs are learned "
            "from: predictions come without them. Try a larger zoo"
        )
    out.print(f"saved to {folder}")


def number(value: float | None) -> str:
    """Three digits, or a dash where the score does not exist."""
    return "-" if value is None else f"{value:.3f}"
