"""The card of a zoo: a README.md for people and for the Hugging Face Hub, made from the zoo alone.

The same zoo gives the same bytes: nothing of it is read from the clock or from the machine. Times and
hosts stay in build.jsonl. Beside it stand a picture of the labels and, on request, samples (`shown.py`).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorascope.io.shard_writer import write_text
from lorascope.io.shards import Zoo, recipe_sha256
from lorascope.zoo.bases.names import bundled_base
from lorascope.zoo.factory.instructions import instructions
from lorascope.zoo.factory.label_plot import class_shares, write_label_plot
from lorascope.zoo.factory.log import build_events
from lorascope.zoo.factory.machine import VERSIONS
from lorascope.zoo.factory.restore import kind_of, parts_of
from lorascope.zoo.factory.shown import LABELS, shown

__all__ = ["card", "write_card"]

BUNDLED_LICENCE = "apache-2.0"
COLUMNS = """*Change* is the mean difference to the base alone; *hyper-parameters* what they explain without the
weights, cross-validated R^2; *ceiling* what a perfect predictor could reach."""
LIMITS = """- Each LoRA is labelled by the data it was finetuned on and by scores of that one run: a score
  carries the noise of its training seed and of its test set. The ceilings above bound what a predictor can
  reach.
- Splits are by group (`splits.json`): LoRAs that share a group share data. A random split by rows leaks.
- What is learned here about adapters of one base and one set of layers is not known to hold for others."""


def write_card(zoo: Zoo, *, licence: str | None = None, name: str | None = None) -> Path:
    """Write README.md into a zoo, and labels.png that it shows; the same zoo gives the same bytes.

    Args:
        licence: a licence's identifier as the Hub spells it; by default apache-2.0 for zoos of bundled
            bases, and none for others, whose base and data have their own.
        name: the title; the folder's name by default.
    """
    write_label_plot(zoo, zoo.path / LABELS)
    path = zoo.path / "README.md"
    write_text(path, card(zoo, licence=licence, name=name))
    return path


def card(zoo: Zoo, *, licence: str | None = None, name: str | None = None) -> str:
    """The text of the card."""
    title = name or zoo.path.resolve().name
    licence = licence or _licence(zoo)
    parts = [_header(zoo, title, licence), f"# {plain(title)}", _opening(zoo)]
    parts += ["## Labels", "\n".join(_numbers(zoo)), COLUMNS, "\n".join(_meanings(zoo))]
    parts += [*_classes(zoo), "\n".join(_by_source(zoo)), *shown(zoo.path)]
    parts += ["## How it was made", *instructions(zoo, title), "\n".join(_made(zoo))]
    parts += ["## Reading it", _reading(title)]
    parts += ["## Limits", "\n".join([LIMITS, *_failures(zoo)])]
    parts += ["## Licence", _licence_text(zoo, licence)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _licence(zoo: Zoo) -> str | None:
    """Of zoos whose base and data are the package's: told from the recipes alone, wherever this runs."""
    from lorascope.zoo.families import FAMILIES

    ours = [
        part.get("family") in FAMILIES and bundled_base(part.get("base")) is not None
        for part in parts_of(zoo.recipe)
    ]
    return BUNDLED_LICENCE if all(ours) else None


def _licence_text(zoo: Zoo, licence: str | None) -> str:
    if licence is None:
        return (
            "None is named. The base model, the finetuning data and each adapter may have their own; "
            "settle that before this is shared."
        )
    return f"{licence}. Made by lorascope, base and data included." if _bundled(zoo) else licence


def _bundled(zoo: Zoo) -> bool:
    return _licence(zoo) is not None


def _header(zoo: Zoo, title: str, licence: str | None) -> str:
    """The YAML header of the Hub; every value is a JSON scalar, which YAML reads the same."""
    lines = ["---"]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    lines += [
        f"pretty_name: {json.dumps(title)}",
        "tags:",
        "- lora",
        "- peft",
        "- weight-space-learning",
        "- lorascope",
        "size_categories:",
        f"- {size_category(len(zoo))}",
        "configs:",
        "- config_name: index",
        "  data_files: index.parquet",
        "---",
    ]
    return "\n".join(lines)


def size_category(count: int) -> str:
    """The Hub's word for a number of rows."""
    ends = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((word for end, word in ends if count < end), "1M<n<10M")


def _opening(zoo: Zoo) -> str:
    shapes = ", ".join(f"{len(g)} of {g.n} x {g.m}" for g in zoo.signature.groups())
    ranks = Counter(int(rank) for rank in zoo.column("rank"))
    told = ", ".join(f"{count} of rank {rank}" for rank, count in sorted(ranks.items()))
    size = sum(path.stat().st_size for path in (zoo.path / "shards").glob("*.safetensors"))
    return (
        f"{len(zoo)} LoRA adapters with labels, in {len(set(zoo.groups()))} groups; base "
        f"{plain(zoo.signature.base or 'not named')}; {len(zoo.signature)} layers ({shapes}); {told}; "
        f"{size / 1e6:.1f} MB of weights."
    )


def _numbers(zoo: Zoo) -> Iterator[str]:
    """A row for each target."""
    titles = ["mean", "std", "least", "most", "base alone", "change", "missing"]
    titles += ["hyper-parameters", "ceiling"]
    yield "| " + " | ".join(["target", "kind", *titles]) + " |"
    yield "| :-- | :-- |" + " --: |" * len(titles)
    ceilings, scores = (_object(zoo.report.get(key)) for key in ("ceilings", "scores"))
    for name, target in zoo.targets.items():
        cells = [plain(name), plain(str(target.get("kind"))), *["", "", "", ""]]
        column = zoo.index.column(f"label:{name}")
        if target.get("kind") == "regression":
            values = np.array([v for v in column.to_pylist() if v is not None], dtype=np.float64)
            values = values[np.isfinite(values)]
            if values.size:
                facts = (values.mean(), values.std(), values.min(), values.max())
                cells[2:] = [_number(value) for value in facts]
        ceiling = _object(ceilings.get(name))
        told = [
            f"{plain(k)} {v:.3g}" for k, v in sorted(ceiling.items()) if isinstance(v, int | float)
        ]
        base, known = target.get("base_value"), _object(scores.get(name))
        cells += [_told(base if base is not None else known.get("base_value"))]
        cells += [_told(known.get("mean_difference"), sign=True), str(column.null_count)]
        cells += [_told(known.get("hyper_r2")), ", ".join(told)]
        yield "| " + " | ".join(cells) + " |"


def _object(value: Any) -> Mapping[str, Any]:
    """A part of the report, empty where there is none: the file may come from anywhere."""
    return value if isinstance(value, Mapping) else {}


def _told(value: Any, *, sign: bool = False) -> str:
    """A number of the report, nothing where there is none."""
    if not isinstance(value, int | float):
        return ""
    return f"{float(value):{'+' if sign else ''}.4g}"


def _meanings(zoo: Zoo) -> Iterator[str]:
    """What each target means, a line each, where its family knows it."""
    for name in zoo.targets:
        # several families of one target may say it each in its own way
        known = [getattr(kind_of(part), "meanings", {}).get(name) for part in parts_of(zoo.recipe)]
        for meaning in dict.fromkeys(filter(None, known)):
            yield f"- {plain(name)}: {meaning}"


def _by_source(zoo: Zoo) -> Iterator[str]:
    """Of an exam: how LoRAs answer what they were finetuned on, and what they were not."""
    sources = _object(zoo.report.get("by_source"))
    if "trained" not in sources:
        return
    yield "| accuracy on the questions of | finetuned on it | not finetuned on it |"
    yield "| :-- | --: | --: |"
    yield f"| all of these sources | {_told(sources['trained'])} | {_told(sources.get('dropped'))} |"
    for name, own in sources.items():
        if isinstance(own, Mapping):
            cells = (plain(name), _told(own.get("trained")), _told(own.get("dropped")))
            yield "| " + " | ".join(cells) + " |"


def _classes(zoo: Zoo) -> list[str]:
    """A table of shares for each target of classes."""
    tables = []
    for name, target in zoo.targets.items():
        classes = list(target.get("classes", ()))
        values = [v for v in zoo.index.column(f"label:{name}").to_pylist() if v is not None]
        if target.get("kind") == "regression" or not values or not classes:
            continue
        lines = [f"| {plain(name)} | share of LoRAs |", "| :-- | --: |"]
        for word, share in zip(classes, class_shares(classes, values), strict=True):
            lines.append(f"| {plain(str(word))} | {share:.3f} |")
        tables.append("\n".join(lines))
    return tables


def _made(zoo: Zoo) -> Iterator[str]:
    """The recipes as they are, and what they were built with."""
    for part in parts_of(zoo.recipe):
        if "family" in part:
            yield (
                f"- recipe {recipe_sha256(part)[:12]}: {plain(str(part['family']))}, seed "
                f"{plain(str(part.get('seed')))}, base {plain(_base(part))}, adapters "
                f"{_code(part.get('adapters'))}, ranges {_code(part.get('options'))}, engine "
                f"{_code(part.get('engine'))}"
            )
    versions = _versions(zoo)
    if versions:
        yield f"- built with {versions}"
    yield ""
    if all("family" in part for part in parts_of(zoo.recipe)):
        yield (
            "Every LoRA is a pure function of its recipe and its index: `lorascope zoo rebuild DIR ID` makes "
            "one again and compares, `lorascope zoo verify DIR` checks every hash."
        )
    else:
        yield "`lorascope zoo verify DIR` checks every hash."


def _code(data: Any) -> str:
    """Plain data as code, out of which no text of it can break."""
    return "`" + json.dumps(data, sort_keys=True).replace("`", "'") + "`"


def _base(part: Mapping[str, Any]) -> str:
    base = part.get("base")
    if isinstance(base, Mapping):
        return f"{base.get('folder')} (sha256 {str(base.get('sha256'))[:12]})"
    return str(base)


def _versions(zoo: Zoo) -> str:
    """The versions that its builds ran under."""
    found: dict[str, set[str]] = {}
    for event in build_events(zoo.path):
        for name in VERSIONS:
            if event.get("event") == "start" and name in event:
                found.setdefault(name, set()).add(str(event[name]))
    told = ((name, sorted(found[name])) for name in VERSIONS if name in found)
    return ", ".join(f"{name} {plain(' and '.join(versions))}" for name, versions in told)


def _failures(zoo: Zoo) -> Sequence[str]:
    """What is flagged, in a line."""
    if "diverged" not in zoo.index.column_names:
        return []
    diverged = sum(map(bool, zoo.index.column("diverged").to_pylist()))
    return [
        f"- Training of {diverged} of {len(zoo)} diverged (`diverged`); they keep their last finite factors."
    ]


def _reading(title: str) -> str:
    return f"""```python
from lorascope import open_zoo

zoo = open_zoo({json.dumps(title)})
lora, labels = zoo.lora(0), {{name: zoo.labels(name)[0] for name in zoo.targets}}
```

`lorascope zoo export DIR ID --peft FOLDER` writes one adapter as a folder that PEFT loads on the base."""


def plain(text: str) -> str:
    """A name that may come from a file, harmless in a table of Markdown: no markup, no link, no picture."""
    kept = "".join(c if c.isprintable() else "?" for c in text)
    marks = {"&": "&amp;", "<": "&lt;", "|": "&#124;", "`": "&#96;", "[": "&#91;"}
    for mark, word in marks.items():
        kept = kept.replace(mark, word)
    return kept


def _number(value: float) -> str:
    return f"{float(value):.4g}"
