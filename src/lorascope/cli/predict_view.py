"""How answers of predictors are shown: the lines of one file, and the tally of many.

Both are made of the documents of `predict.many`, so that an answer that was kept in a results file looks like a
fresh one. Every string that may come from a file is printed through `printable` and a rich `Text`.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from lorascope.inspect.names import printable
from lorascope.predict.words import in_words, number

__all__ = ["Tally", "explained_in_words", "quality", "show"]

LAYERS_SHOWN, DIRECTIONS_SHOWN = 8, 4

Document = Mapping[str, Any]


def show(document: Document, out: Console, err: Console) -> None:
    """Print one file's answers: its path, what it leaves open, a line for each predictor; errors apart."""
    # at once: a console takes longer over four prints than over one of four lines
    out.print(Text("\n").join(lines_of(document)))
    for error in document["errors"]:
        err.print(Text(f"Error: {printable(document['path'])}: {printable(error)}"))


def lines_of(document: Document) -> Iterator[Text]:
    """The lines of one file on stdout."""
    yield Text(printable(document["path"]), style="bold")
    for word in (*document["ambiguities"], *document["left"]):
        yield Text(f"  note: {printable(word)}", style="yellow")
    for prediction in document["predictions"]:
        line = Text(f"  {printable(prediction['target'])}: ")
        line.append(printable(in_words(prediction)), style="cyan")
        line.append(f"  {quality(prediction)}", style="dim")
        yield line
        for warning in prediction["warnings"]:
            yield Text(f"    warning: {printable(warning)}", style="yellow")
        if prediction.get("abstains"):
            score = f"outlier score {number(prediction['outlier'], '.2f')}, limit 1"
            said = f"    abstains: {prediction['reason']} ({score})"
            yield Text(printable(said), style="red")
    for explanation in document.get("explanations", ()):
        for words in explained_in_words(explanation):
            yield Text(printable(words), style="dim")


def explained_in_words(explanation: Document) -> list[str]:
    """The layers that say most, each with its parts, and what is left."""
    what = f"{explanation['target']} {explanation['output']}".rstrip()
    how = {"integrated": "from the baseline", "left_out": "without the layer"}
    said, base = (number(explanation[key], ".4g") for key in ("prediction", "baseline"))
    lines = [f"    {what}: {said}, baseline {base}; change {how[explanation['method']]}:"]
    parts = sorted(explanation["parts"], key=lambda part: -abs(part["value"] or 0.0))
    for part in parts[:LAYERS_SHOWN]:
        line = f"      {number(part['value'], '+.3g')}  {part['layer']}"
        own = "; ".join(_parts_of(part))
        lines.append(f"{line}  ({own})" if own else line)
    if others := parts[LAYERS_SHOWN:]:
        rest = sum(part["value"] or 0.0 for part in others)
        lines.append(f"      {rest:+.3g}  {len(others)} other layers")
    lines.append(f"      {number(explanation['rest'], '+.3g')}  not accounted for")
    return lines


def _parts_of(part: Document) -> list[str]:
    """The strongest directions of a layer, the others together, and what belongs to it as a whole.

    Three digits as the layer has, so that parts which sum to it can be seen to.
    """
    said = []
    if directions := part["directions"]:
        shown = [number(value, "+.3g") for value in directions[:DIRECTIONS_SHOWN]]
        if others := directions[DIRECTIONS_SHOWN:]:
            rest = sum(value or 0.0 for value in others)
            shown.append(f"{len(others)} others {rest:+.3g}")
        said.append(f"directions {', '.join(shown)}")
    # answers that an earlier version wrote have no such keys
    whole = {key: part.get(key) for key in ("sizes", "magnitudes")}
    return [*said, *(f"{key} {value:+.3g}" for key, value in whole.items() if value is not None)]


def quality(prediction: Document) -> str:
    """How good such answers were on LoRAs that the predictor never saw."""
    regression = prediction["kind"] == "regression"
    wanted = ("rmse", "r2") if regression else ("balanced_accuracy", "accuracy")
    held = prediction["held_out"]
    scores = [f"{name} {held[name]:.3g}" for name in wanted if held.get(name) is not None]
    return f"(held out: {', '.join(scores)})" if scores else ""


class Tally:
    """Counts over the files of a run, gathered as they come; a file may be in several.

    predicted   at least one predictor answered
    abstained   at least one answer should not be relied on
    uncertain   the file leaves open what it holds, or a part of it is not read
    refused     it could not be read, or does not fit a predictor
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.counts = Counter(dict.fromkeys(("predicted", "abstained", "uncertain", "refused"), 0))
        self.files = 0

    def add(self, document: Document) -> None:
        """Count one file."""
        self.files += 1
        self.counts.update(
            {
                "predicted": bool(document["predictions"]),
                "abstained": any(one.get("abstains") for one in document["predictions"]),
                "uncertain": bool(document["ambiguities"] or document["left"]),
                "refused": bool(document["errors"]),
            }
        )

    def told(self) -> str:
        """What a progress bar tells beside its count."""
        return f"{self.counts['refused']:,} refused"

    def sentence(self, known: int = 0) -> str:
        """All counts in words, with the time; `known` of them were answered by an earlier run."""
        seconds = time.perf_counter() - self.began
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        before = f" ({known:,} of them before)" if known else ""
        return f"{self.files:,} LoRAs{before} in {seconds:.1f} s: {counts}"

    def to_json(self) -> dict[str, int]:
        """The counts as plain data."""
        return {"files": self.files, **self.counts}
