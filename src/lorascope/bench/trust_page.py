"""The page of `bench trust`, docs/trust.md: Markdown and a picture, from the records alone.

The same records give the same bytes. Means over the seeds that are in a record; extremes are those of all.
Marks say where a number misses what is asked of it; nothing is left out for being weak.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorascope.bench.markdown import NOTHING, number, table
from lorascope.bench.trust_exam import Record
from lorascope.bench.trust_kinds import outliers
from lorascope.bench.trust_risk import BY_SCORE, SHARES
from lorascope.predict.risk_coverage import RiskCoverage, plot_risk_coverage

__all__ = ["page_text", "write_page"]

PICTURE = "risk-coverage.png"
WITHIN = (0.88, 0.92)

PROBABILITIES = (
    "Expected calibration error on the test LoRAs (15 bins), before and after the map that was learned from "
    "the validation LoRAs. *No map*: none lowered the loss of left-out groups, and the probabilities are the "
    "model's."
)
INTERVALS = (
    "Share of labels inside 90 % intervals (of classes: of the possible sets), over 50 divisions of the "
    f"held-out groups into calibration and test. † the mean lies outside {WITHIN[0]:.2f} to {WITHIN[1]:.2f}."
)
TEST = "test LoRAs inside"
INSIDE = (
    f"*{TEST[0].upper()}{TEST[1:]}*: of the predictor's own intervals, which the validation LoRAs gave; one "
    "division, whose share scatters as single divisions do."
)
RISK = (
    "Test LoRAs mixed with as many of a second version of the base and of a base of another seed, where a zoo "
    "has these. Values are compared as values: of another base a predictor knows the value of its own base. "
    "Loss: absolute error in deviations of the training labels, or share of wrong labels. Risk: mean loss of "
    "the LoRAs that are answered, the least doubtful first, at some shares and at the limit of abstention "
    "(with the share that is answered there). Intervals have one width for all LoRAs, so that their width is "
    "no doubt to sort by. ‡ abstention at the limit does not lower the risk."
)


def write_page(records: Sequence[Record], page: Path | str) -> Path:
    """Write the page with pictures/ beside it; returns its path."""
    page = Path(page)
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = None
    if curves := _curves(records):
        (page.parent / "pictures").mkdir(exist_ok=True)
        path = page.parent / "pictures" / PICTURE
        plot_risk_coverage(curves, path, loss="absolute error, deviations of the label")
        picture = f"pictures/{PICTURE}"
    page.write_text(page_text(records, picture), encoding="utf-8")
    return page


def page_text(records: Sequence[Record], picture: str | None = None) -> str:
    """The whole page; the picture is a path relative to it."""
    lines = ["# Trust, measured", "", *_head(records)]
    lines += ["## Probabilities", "", PROBABILITIES, "", *_probabilities(records)]
    lines += ["## Intervals", "", INTERVALS, "", *_intervals(records)]
    lines += ["## Outliers", "", *outliers(records)]
    lines += ["## What abstention buys", "", RISK, ""]
    if picture is not None:
        lines += [f"![Risk against coverage]({picture})", ""]
        lines += ["All values of a zoo by the outlier score; dashed: every LoRA is answered.", ""]
    for record in records:
        lines += [f"### {_name(record)}", "", *_risk(record)]
    return "\n".join(lines).rstrip() + "\n"


def _head(records: Sequence[Record]) -> list[str]:
    """How it was made, and of what."""
    made = sorted({f"lorascope {x['versions']['lorascope']}" for x in records})
    models = sorted({record["model"] for record in records})
    seeds, splits = (
        sorted({seed for record in records for seed in record[key]}, key=int)
        for key in ("seeds", "splits")
    )
    lines = [
        f"`lorascope bench trust`: made from its records, by {', '.join(made)}. One fit of "
        f"`{', '.join(models)}` on all targets of each zoo, split by group, seed {', '.join(seeds)}; outliers "
        f"on the splits of the seeds {', '.join(splits)}. What the numbers mean and what `predict` does with "
        "them: [predict.md](predict.md).",
        "",
    ]
    rows = []
    for record in records:
        facts, runs = record["zoo"], list(record["seeds"].values())
        counts = [f"{_mean(run['rows'][key] for run in runs):,.0f}" for key in _PARTS]
        seconds = sum(run["seconds"] for run in (*runs, *record["splits"].values()))
        rows.append([facts["name"], facts["base"], *counts, f"{seconds:.0f}", facts["digest"]])
    heads = ["zoo", "base", "LoRAs to learn", "to validate", "to test", "CPU seconds", "digest"]
    return [*lines, *table(heads, rows), *_left_out(records)]


_PARTS = ("train", "validation", "test")


def _left_out(records: Sequence[Record]) -> list[str]:
    said = {
        f"- {_name(record)} was not asked about {other}: {why}"
        for record in records
        for other, why in record["left_out"].items()
    }
    return [*sorted(said), ""] if said else []


def _probabilities(records: Sequence[Record]) -> list[str]:
    rows = []
    for record in records:
        for (target, kind), found in _by(record, "probabilities", "target", "kind").items():
            before, after = (_average(found, key) for key in ("before", "after"))
            kept = "" if any(row["kept"] for row in found) else "no map"
            rows.append([_name(record), target, kind, number(before), number(after), kept])
    if not rows:
        return ["No zoo has a target of labels with enough LoRAs to validate.", ""]
    return table(["zoo", "target", "kind", "before", "after", ""], rows)


def _intervals(records: Sequence[Record]) -> list[str]:
    rows, outside, told = [], [], False
    for record in records:
        for (target, _, metric), found in _by(
            record, "intervals", "target", "kind", "metric"
        ).items():
            mean = _average(found, "mean")
            missed = not WITHIN[0] <= mean <= WITHIN[1]
            if missed:
                outside.append(f"{target} of {_name(record)} ({mean:.3f})")
            ends = (
                min(row["lowest"] for row in found),
                max(row["highest"] for row in found),
            )
            numbers = [number(_average(found, "std")), *map(number, ends)]
            inside = number(_average(found, "inside"))
            told = told or inside != NOTHING
            score = f"{metric} {number(_average(found, 'score'), 2)}"
            mark = "†" if missed else ""
            rows.append([_name(record), target, number(mean) + mark, *numbers, inside, score])
    if not rows:
        return ["No zoo has a target with enough held-out groups.", ""]
    text = f"Outside {WITHIN[0]:.2f} to {WITHIN[1]:.2f}: {', '.join(outside) or 'none'}."
    heads = ["zoo", "target", "inside, mean", "deviation", "lowest", "highest", TEST, "test score"]
    if not told:
        place = heads.index(TEST)
        heads, *rows = ([*row[:place], *row[place + 1 :]] for row in (heads, *rows))
    said = [INSIDE, ""] if told else []
    return [*table(heads, rows), text, "", *said]


def _risk(record: Record) -> list[str]:
    """The mixture, and a row for each target and doubt."""
    runs = list(record["seeds"].values())
    parts = runs[0]["risk"]["parts"]
    text = ", ".join(f"{count} {_part(kind)}" for kind, count in parts.items())
    rows = []
    for (target, doubt), found in _by(record, "risk", "target", "doubt").items():
        at = [number(_average(found, f"at {share:g}")) for share in SHARES]
        rows.append([target, doubt, *at, *_limit(doubt, found)])
    heads = [
        "target",
        "doubt",
        *(f"risk at {share * 100:.0f} %" for share in SHARES),
        "at the limit",
        "",
    ]
    alone = (
        "" if len(parts) > 1 else "; it has no other zoo of its kind, so that all are of its own"
    )
    return [f"{text}{alone}.", "", *table(heads, rows)]


def _part(kind: str) -> str:
    return "test LoRAs" if kind == "test" else f"of a {kind}"


def _limit(doubt: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    if doubt != BY_SCORE:
        return ["", ""]
    risk, everyone = _average(found, "at limit"), _average(found, "at 1")
    mark = "" if risk < everyone else "‡"
    return [number(risk) + mark, f"{_average(found, 'answered') * 100:.0f} % answered"]


def _curves(records: Sequence[Record]) -> dict[str, RiskCoverage]:
    """That of the first seed of each zoo."""
    curves = {}
    for record in records:
        first = record["seeds"][min(record["seeds"], key=int)]
        if curve := first["risk"].get("curve"):
            coverage, risk = (np.array(curve[key]) for key in ("coverage", "risk"))
            found = RiskCoverage(coverage, risk, curve["area"], curve["random"])
            curves[_name(record)] = found
    return curves


def _by(record: Record, part: str, *keys: str) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The rows of all seeds that have the same names, in the order in which they are first met."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in record["seeds"].values():
        rows = run["risk"]["rows"] if part == "risk" else run[part]
        for row in rows:
            found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def _average(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return _mean(row[key] for row in rows if row.get(key) is not None)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def _name(record: Record) -> str:
    return str(record["zoo"]["name"])
