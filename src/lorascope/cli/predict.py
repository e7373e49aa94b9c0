"""`lorascope predict`: ask predictors about LoRA files. One file is answered here, many by `predict.many`.

A file that is refused, or that does not fit a predictor, costs its own line and not the others'.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.cli.predict_view import Tally
    from lorascope.io.results import Results
    from lorascope.predict.many import Question

__all__ = ["predict"]


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
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="JSONL",
            help="Keep the answers of many files there, and go on from it after a stop.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="How many at once.",
            show_default="one per core, one for few files",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the answers.")
    ] = False,
) -> None:
    """Predict from the weights of LoRAs, without running the base model.

    A value comes with its interval, probabilities are calibrated, and a predictor says where it would rather
    not answer: a LoRA unlike those that it learned from. What a file leaves open (its alpha, say) is a note:
    the prediction rests on what was assumed. Many files end with a summary.

    Ends with 2 when a file was refused or does not fit.

    \b
    Examples:
      lorascope predict
      lorascope predict --with quality --explain my-adapter --plot layers.png
      lorascope predict --with my-predictor my-adapter
      lorascope predict --with quality --with topic --json 'collection/*/'
      lorascope predict --with quality --results answers.jsonl collection
    """
    from lorascope.cli.bundled import bundled_predictors, bundled_sample
    from lorascope.cli.output import check_picture, stream_json
    from lorascope.cli.paths import adapters_in
    from lorascope.cli.predict_view import Tally
    from lorascope.predict.many import Question, open_results

    if plot is not None:
        check_picture(plot)
    explained = explained or plot is not None
    folders = predictors or bundled_predictors()
    question = Question.of(folders, allow_pickle=allow_pickle, explained=explained)
    loaded = question.load()
    adapters = adapters_in(paths) if paths else [bundled_sample()]
    if plot is not None and (len(adapters), len(loaded)) != (1, 1):
        raise typer.BadParameter(
            f"found {len(adapters)} adapters and {len(loaded)} predictors, expected one of each.",
            param_hint="--plot",
        )
    if plot is not None and results is not None:
        raise typer.BadParameter("found --results beside it.", param_hint="--plot")
    tally = Tally()
    kept = None if results is None else open_results(results)
    if len(adapters) == 1 and kept is None:
        documents = alone(question, adapters[0], tally, plot, quiet=as_json)
    else:
        documents = many(adapters, question, tally, processes, kept, quiet=as_json)
    if as_json:
        head = {
            "schema": "lorascope.predict/1",
            "predictors": [
                {"path": str(folder), "target": p.target.name, "model": p.model.name}
                for folder, p in zip(folders, loaded, strict=True)
            ],
        }
        stream_json(head, "files", documents, lambda: {"summary": tally.to_json()})
    else:
        for _ in documents:
            pass
    if tally.counts["refused"]:
        raise typer.Exit(2)


def alone(
    question: "Question", path: Path, tally: "Tally", plot: Path | None, *, quiet: bool
) -> Iterator[dict[str, Any]]:
    """The document of one file, with its lines and the times unless quiet, and its picture."""
    from lorascope.cli.output import console
    from lorascope.cli.predict_view import show
    from lorascope.predict.many import Clock, ask

    clock, predictors = Clock(), question.load()
    answers = ask(
        predictors,
        [path],
        allow_pickle=question.allow_pickle,
        explained=question.explained,
        clock=clock,
    )
    for answer in answers:
        document = answer.to_json()
        tally.add(document)
        err = console(stderr=True)
        if not quiet:
            show(document, console(), err)
            reading, predicting = (1000 * s for s in (clock.reading, clock.predicting))
            asked = f"asked of {len(predictors)} predictor(s) in {predicting:.0f} ms"
            err.print(f"1 LoRA read in {reading:.0f} ms, {asked}", style="dim")
        if plot is not None and answer.explanations:
            from lorascope.predict.explanation_plot import plot_explanation

            plot_explanation(answer.explanations[0], plot)
        yield document


def many(
    paths: Sequence[Path],
    question: "Question",
    tally: "Tally",
    processes: int | None,
    results: "Results | None",
    *,
    quiet: bool,
) -> Iterator[dict[str, Any]]:
    """The documents of many files as they come, under a bar; their lines and a summary unless quiet."""
    from lorascope.cli.output import console, consoles, progress_bar
    from lorascope.cli.predict_view import show
    from lorascope.predict.many import predict_many

    # a document that streams onto a terminal shows by itself how far it is
    with progress_bar(show=not (quiet and sys.stdout.isatty()), rate=True) as bar:
        task = bar.add_task("predicting", total=len(paths), told="")
        out, err = consoles(bar)
        for document in predict_many(paths, question, processes=processes, results=results):
            tally.add(document)
            bar.update(task, advance=1, told=tally.told())
            if not quiet:
                show(document, out, err)
            yield document
    if not quiet:
        known = 0 if results is None else results.reused
        console(stderr=True).print(tally.sentence(known), style="dim")
