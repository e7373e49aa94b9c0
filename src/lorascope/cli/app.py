"""The table of commands, and the one place where a command's failure becomes a message.

    0   done
    1   done, and what was asked for was found: `inspect` a problem as bad as --fail-on says, `zoo verify`
        damage, `zoo rebuild` another LoRA
    2   bad input: one message on stderr, no traceback; `inspect`: a file was refused, its line says why
    130 the user pressed Ctrl-C

An exception that is neither of lorascope's own tree nor the operating system's is a fault of the program
and keeps its traceback.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lorascope.cli import (
    bench,
    bench_trust,
    demo,
    inspect,
    predict,
    train,
    zoo,
    zoo_check,
    zoo_collection,
    zoo_combine,
    zoo_info,
    zoo_share,
)

__all__ = ["app", "main"]

HELP = """Learn on LoRAs: predict from the weights of an adapter what it was finetuned on and how well it does.

\b
Examples:
  lorascope predict                     a bundled predictor on a bundled LoRA
  lorascope inspect path/to/adapter     what is in a file, and what is wrong with it
  lorascope demo                        finetune hundreds of LoRAs, learn on them, print the table
"""


def group(help_text: str) -> typer.Typer:
    """A group of commands with this command line's settings."""
    # plain help: the same on every terminal, so that docs/cli.md can hold it word for word
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = group(HELP)
zoo_app = group("Zoos: folders of labelled LoRAs to learn from.")
bench_app = group("The benchmark: targets x models x seeds beside honest controls.")

app.command("inspect", short_help="what is in LoRA files, and what is wrong")(inspect.inspect)
app.command("predict", short_help="ask predictors about LoRA files")(predict.predict)
app.command("train", short_help="train a predictor on a zoo")(train.train)
app.add_typer(zoo_app, name="zoo", short_help="build, import, check and share zoos")
zoo_app.command("build", short_help="finetune and label many LoRAs")(zoo.build)
zoo_app.command("collection", short_help="build the embedded collection")(zoo_collection.collection)
zoo_app.command("import", short_help="make a zoo of your own LoRAs")(zoo.import_folder)
zoo_app.command("info", short_help="say what a zoo holds")(zoo_info.info)
zoo_app.command("verify", short_help="check hashes, index, labels")(zoo_check.verify)
zoo_app.command("rebuild", short_help="make LoRAs again and compare")(zoo_check.rebuild)
zoo_app.command("export", short_help="write one LoRA as a PEFT folder")(zoo_share.export)
zoo_app.command("merge", short_help="make one zoo of several")(zoo_combine.merge)
zoo_app.command("sample", short_help="draw a smaller zoo")(zoo_combine.sample)
zoo_app.command("card", short_help="write a data set's card")(zoo_share.card)
zoo_app.command("push", short_help="send a zoo to the Hugging Face Hub")(zoo_share.push)
app.add_typer(bench_app, name="bench", short_help="run the benchmark and print its table")
bench_app.command("run", short_help="train and score models on targets")(bench.run)
bench_app.command("plan", short_help="what a suite runs, and what that costs")(bench.plan)
bench_app.command("report", short_help="write tables and plots of a run")(bench.report)
bench_app.command("trust", short_help="how far predictors can be believed")(bench_trust.trust)
app.command("demo", short_help="the whole road in minutes")(demo.demo)


def show_version(asked: bool) -> None:
    """Print the version and stop, where --version was given."""
    if asked:
        from lorascope import __version__

        typer.echo(f"lorascope {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options that stand before the command."""


def replace_unprintable() -> None:
    """Print a question mark for what the encoding of stdout cannot say, where Python ends with a traceback.

    A pipe on Windows speaks cp1252, a cron job often ASCII; bars and the names of files are neither.
    """
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; the process ends with the exit codes named at the head of this file.

    Args:
        arguments: the words after the program's name, those of the process by default.
    """
    from lorascope.errors import LorascopeError

    # Huge pages for large tensors, where the system leaves them to choice: factors are read twice as fast.
    # torch asks once, at its first allocation; what the user has set stands.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    replace_unprintable()
    words = None if arguments is None else list(arguments)
    try:
        app(args=words, prog_name="lorascope")
    except (LorascopeError, OSError) as error:
        from lorascope.cli.output import complain

        complain(error)
        sys.exit(2)
