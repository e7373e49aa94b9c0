"""`lorascope predict`: ask predictors about LoRA files. Reading and predicting go in batches, file by file.

A file that is refused, or that does not fit a predictor, costs its own line and not the others'.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.core.lora import LoRA
    from lorascope.predict import Prediction, Predictor
    from lorascope.predict.explain import Explanation

__all__ = ["predict"]

BATCH = 64  # adapters in memory at once
CLASSES_SHOWN = 24
LAYERS_SHOWN, DIRECTIONS_SHOWN = 8, 4


def predict(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Weight files, adapter folders, folders of them, or patterns. Without: a bundled LoRA.",
            show_default=False,
        ),
    ] = None,
    predictors: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="PREDICTOR",
            help="Folder of a predictor; may be given many times. Without: the bundled ones.",
            show_default=False,
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Read .bin files too, with torch's weights_only reader."
        ),
    ] = False,
    explained: Annotated[
        bool,
        typer.Option("--explain", help="Say which layers and rank directions carry each answer."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="PNG",
            help="Draw the explanation of one answer (one PATH, one --with).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the answers.")
    ] = False,
) -> None:
    """Predict from the weights of LoRAs, without running the base model.

    A value comes with its interval, probabilities are calibrated, and a predictor says where it would rather
    not answer: a LoRA unlike those that it learned from. Ends with 2 when a file was refused or does not fit.

    \b
    Examples:
      lorascope predict
      lorascope predict --with quality --explain my-adapter --plot layers.png
      lorascope predict --with my-predictor my-adapter
      lorascope predict --with quality --with topic --json 'collection/*/'
    """
    from lorascope.cli.bundled import bundled_predictors, bundled_sample
    from lorascope.cli.output import check_picture, console, print_json, progress_bar
    from lorascope.cli.paths import adapters_in
    from lorascope.predict import load_predictor

    if plot is not None:
        check_picture(plot)
    folders = predictors or bundled_predictors()
    loaded = [load_predictor(folder) for folder in folders]
    adapters = adapters_in(paths) if paths else [bundled_sample()]
    if plot is not None and (len(adapters), len(loaded)) != (1, 1):
        raise typer.BadParameter(
            f"found {len(adapters)} adapters and {len(loaded)} predictors, expected one of each.",
            param_hint="--plot",
        )
    clock = Clock()
    answers: list[Answer] = []
    asked = ask(
        loaded, adapters, clock, allow_pickle=allow_pickle, explained=explained or plot is not None
    )
    with progress_bar(show=len(adapters) > 1) as bar:
        task = bar.add_task("predicting", total=len(adapters))
        for answer in asked:
            answers.append(answer)
            bar.advance(task)
            if not as_json:
                show(answer, console(), console(stderr=True))
    if as_json:
        print_json(document(folders, loaded, answers))
    else:
        console(stderr=True).print(clock.sentence(len(adapters), len(loaded)), style="dim")
    if plot is not None and answers[0].explanations:
        from lorascope.predict.explanation_plot import plot_explanation

        plot_explanation(answers[0].explanations[0], plot)
    if any(answer.errors for answer in answers):
        raise typer.Exit(2)


@dataclass
class Clock:
    """Where the time went."""

    reading: float = 0.0
    predicting: float = 0.0

    def sentence(self, adapters: int, predictors: int) -> str:
        """The times in words."""
        return (
            f"{adapters} LoRA(s) read in {1000 * self.reading:.0f} ms, "
            f"asked of {predictors} predictor(s) in {1000 * self.predicting:.0f} ms"
        )


@dataclass
class Answer:
    """What was said of one adapter: predictions, and the reasons why some could not be made."""

    path: Path
    predictions: "list[Prediction]" = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    explanations: "list[Explanation]" = field(default_factory=list)


def ask(
    predictors: "Sequence[Predictor]",
    paths: Sequence[Path],
    clock: Clock,
    *,
    allow_pickle: bool,
    explained: bool = False,
) -> Iterator[Answer]:
    """Read the adapters batch by batch and ask every predictor, in the order of the paths."""
    for start in range(0, len(paths), BATCH):
        began = time.perf_counter()
        answers = [Answer(path) for path in paths[start : start + BATCH]]
        read = [
            (answer, lora)
            for answer in answers
            if (lora := read_or_note(answer, allow_pickle))
            is not None  # one without layers is empty
        ]
        clock.reading += time.perf_counter() - began
        began = time.perf_counter()
        for predictor in predictors:
            ask_one(predictor, read)
            if explained:
                explain_each(predictor, read)
        clock.predicting += time.perf_counter() - began
        yield from answers


def read_or_note(answer: Answer, allow_pickle: bool) -> "LoRA | None":
    """The LoRA of an answer's path, or None with the reason noted."""
    from lorascope.cli.output import describe
    from lorascope.errors import LorascopeError
    from lorascope.io import read_lora

    try:
        return read_lora(answer.path, allow_pickle=allow_pickle)
    except (LorascopeError, OSError) as error:
        answer.errors.append(describe(error))
        return None


def ask_one(predictor: "Predictor", read: "list[tuple[Answer, LoRA]]") -> None:
    """One predictor's answers for a batch; where the batch does not fit, each LoRA alone says why."""
    from lorascope.cli.output import describe
    from lorascope.errors import LorascopeError

    if not read:
        return
    try:
        found = predictor.predict([lora for _, lora in read])
    except LorascopeError as error:
        if len(read) == 1:
            read[0][0].errors.append(f"{predictor.target.name}: {describe(error)}")
            return
        for pair in read:
            ask_one(predictor, [pair])
        return
    for (answer, _), prediction in zip(read, found, strict=True):
        answer.predictions.append(prediction)


def explain_each(predictor: "Predictor", read: "list[tuple[Answer, LoRA]]") -> None:
    """Explain each answer that this predictor gave."""
    from lorascope.core.batch import collate
    from lorascope.predict.explain import explain

    for answer, lora in read:
        if any(prediction.target is predictor.target for prediction in answer.predictions):
            batch = collate([lora], predictor.signature, allow_missing=True)
            answer.explanations.append(explain(predictor, batch))


def show(answer: Answer, out: Any, err: Any) -> None:
    """Print one adapter's answers: the path, then a line for each predictor."""
    from rich.text import Text

    from lorascope.inspect.names import printable

    out.print(Text(printable(answer.path), style="bold"))
    for prediction in answer.predictions:
        line = Text(f"  {printable(prediction.target.name)}: ")
        line.append(printable(in_words(prediction)), style="cyan")
        line.append(f"  {quality(prediction)}", style="dim")
        out.print(line)
        for warning in prediction.warnings:
            out.print(Text(f"    warning: {printable(warning)}", style="yellow"))
        if prediction.abstains:
            said = f"    abstains: {prediction.reason} (outlier score {prediction.outlier:.2f}, limit 1)"
            out.print(Text(printable(said), style="red"))
    for explanation in answer.explanations:
        for words in explained_in_words(explanation):
            out.print(Text(printable(words), style="dim"))
    for error in answer.errors:
        err.print(Text(f"Error: {printable(answer.path)}: {error}"))


def in_words(prediction: "Prediction") -> str:
    """The answer itself: a value with its unit, or the predicted classes with their probabilities."""
    if prediction.value is not None:
        value = f"{prediction.value:.4g} {prediction.target.unit}".rstrip()
        if prediction.interval is None or prediction.level is None:
            return value
        low, high = prediction.interval
        return f"{value}, {low:.4g} to {high:.4g} ({100 * prediction.level:.0f} %)"
    chosen = sorted(prediction.labels, key=lambda name: -prediction.probabilities[name])
    words = [f"{name} {prediction.probabilities[name]:.2f}" for name in chosen[:CLASSES_SHOWN]]
    more = len(chosen) - CLASSES_SHOWN
    return ", ".join(words) + (f", and {more} more" if more > 0 else "") if words else "none"


def explained_in_words(explanation: "Explanation") -> list[str]:
    """The layers that say most, each with its strongest directions, and what is left."""
    what = f"{explanation.target} {explanation.output}".rstrip()
    how = {"integrated": "from the baseline", "left_out": "without the layer"}[explanation.method]
    lines = [
        f"    {what}: {explanation.prediction:.4g}, baseline {explanation.baseline:.4g}; change {how}:"
    ]
    for part in explanation.largest(LAYERS_SHOWN):
        line = f"      {part.value:+.3g}  {part.layer}"
        if part.directions:
            shown = ", ".join(f"{value:+.2g}" for value in part.directions[:DIRECTIONS_SHOWN])
            line += f"  (directions {shown})"
        lines.append(line)
    others = len(explanation.parts) - LAYERS_SHOWN
    if others > 0:
        kept = sum(part.value for part in explanation.largest(LAYERS_SHOWN))
        total = sum(part.value for part in explanation.parts)
        lines.append(f"      {total - kept:+.3g}  {others} other layers")
    lines.append(f"      {explanation.rest:+.3g}  not accounted for")
    return lines


def quality(prediction: "Prediction") -> str:
    """How good such answers were on LoRAs that the predictor never saw."""
    wanted = ("rmse", "r2") if prediction.value is not None else ("balanced_accuracy", "accuracy")
    held = prediction.held_out
    scores = [f"{name} {held[name]:.3g}" for name in wanted if held.get(name) is not None]
    return f"(held out: {', '.join(scores)})" if scores else ""


def document(
    folders: Sequence[Path], predictors: "Sequence[Predictor]", answers: Sequence[Answer]
) -> dict[str, Any]:
    """The JSON document: the predictors asked, and each file's predictions and errors."""
    return {
        "schema": "lorascope.predict/1",
        "predictors": [
            {"path": str(folder), "target": p.target.name, "model": p.model.name}
            for folder, p in zip(folders, predictors, strict=True)
        ],
        "files": [
            {
                "path": str(answer.path),
                "predictions": [prediction.to_json() for prediction in answer.predictions],
                "errors": answer.errors,
            }
            | (
                {"explanations": [explanation.to_json() for explanation in answer.explanations]}
                if answer.explanations
                else {}
            )
            for answer in answers
        ],
    }
