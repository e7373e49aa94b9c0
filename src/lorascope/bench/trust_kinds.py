"""What is asked of each kind of LoRA, and the tables of how well it is told: Markdown from the records alone.

    should pass    at most a tenth beyond the limit
    should tell    an area of .95 at least
    others         second versions of a base, other data, DoRA by its pairs alone: reported, nothing is asked

Shares have a 95 % interval (Clopper and Pearson 1934) for as many LoRAs as one split has: other splits ask the
same LoRAs again, or some of them, and are no new ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorascope.bench.markdown import number, table
from lorascope.bench.trust_exam import CONTROL, DORA, OTHER_BASE, Record
from lorascope.bench.trust_methods import BY_PEFT, OTHER_METHODS
from lorascope.train.merges import COUNTS
from lorascope.train.outlier_exam import PASS

__all__ = ["OUTLIERS", "binomial_interval", "outliers"]

MOST_FLAGGED, LEAST_AREA = 0.10, 0.95
MADE = ("mean of 2", "mean of 2, old rank", "mean of 5", "mixed layers", "random")
MERGED = tuple(
    name.format(count)
    for count in COUNTS
    for name in (
        "weighted mean of {}",
        "sum of {}",
        "sum of {}, old rank",
        "mean of factors of {}",
        "TIES of {}",
    )
)
#: Kinds that should be told from test LoRAs; of others than these and those that should pass nothing is asked.
TELL = (*MADE, *MERGED, CONTROL, OTHER_BASE, DORA, *OTHER_METHODS)
RULES, RAREST = 2, 0.005  # named in a cell, and the least share of one

OUTLIERS = (
    "Area under the ROC curve against the test LoRAs by the outlier score; share beyond the limit of "
    "abstention: means over the splits, each of which has training, validation and test LoRAs of its own. "
    f"† a kind that should pass and is flagged more than {MOST_FLAGGED * 100:.0f} %, or one that should be "
    f"told with an area below {LEAST_AREA}. Second versions, other data and DoRA by its pairs alone are "
    "reported without a mark."
)
KINDS = (
    "- *mean of 2*, *mean of 5*: what the detector of merges learned from, made of test LoRAs; every other "
    "merge is made by code that it was not taught with.\n"
    "- *weighted mean*: weights uniform on the simplex. *sum*: a concatenation of the factors; *old rank*: "
    "truncated to the rank of the LoRAs. *mean of factors*: u and v each averaged (PEFT's linear). *TIES*: "
    "of the updates, a fifth of the numbers kept, truncated.\n"
    "- *LoKr*, *LoHa*, *full finetuning*: adapters of the same base finetuned for this, with the data and "
    "hyper-parameters of LoRAs; *old rank*: the best update of the LoRAs' rank, as an SVD stores it. *LoRA "
    "by PEFT*: finetuned by the same script."
)
DETAILS = (
    "Per zoo: lowest and highest of the splits; the 95 % interval of the share beyond the limit, for as many "
    "LoRAs as one split has (the splits ask many of the same LoRAs again); *size*: median norm of a layer "
    "against that of the test LoRAs; *caught by*: which rules put those LoRAs of a kind there that are beyond "
    "the limit, with their shares (`strange`, `apart` and `blended`: [predict.md](predict.md#abstention))."
)


def outliers(records: Sequence[Record]) -> list[str]:
    """The whole section: all zoos beside each other, then each by itself."""
    columns = [_kinds(record) for record in records]
    kinds = sorted(dict.fromkeys(kind for column in columns for kind in column), key=_place)
    rows, missed, open_ = [], [], []
    for kind in kinds:
        cells = []
        for record, column in zip(records, columns, strict=True):
            text, bad, undecided = _judged(kind, column.get(kind, []))
            cells.append(text)
            missed += [f"{kind} on {_name(record)}"] if bad else []
            open_ += [f"{kind} on {_name(record)}"] if undecided else []
        rows.append([kind, *cells])
    lines = [OUTLIERS, "", KINDS, "", *table(["kind", *map(_name, records)], rows)]
    lines += [f"Missed: {', '.join(missed) or 'none'}.", ""]
    limit = f"{MOST_FLAGGED * 100:.0f} %"
    lines += [
        f"Kinds that should pass whose interval holds {limit} (more LoRAs would have to decide): "
        f"{', '.join(open_) or 'none'}.",
        "",
        DETAILS,
        "",
    ]
    for record, column in zip(records, columns, strict=True):
        if column:
            lines += [f"### Outliers of {_name(record)}", "", *_details(record, column)]
    return lines


def binomial_interval(share: float, count: float, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share among so many (Clopper and Pearson 1934).

    Example:
        >>> [round(end, 3) for end in binomial_interval(0.1, 150)]
        [0.057, 0.16]
    """
    from scipy.stats import beta

    hits, tail = share * count, (1 - level) / 2
    low = float(beta.ppf(tail, hits, count - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


Rows = list[dict[str, Any]]


def _kinds(record: Record) -> dict[str, Rows]:
    """The rows of all splits of each kind, in the order in which they are first met."""
    found: dict[str, Rows] = {}
    for split in record["splits"].values():
        for row in split["outliers"]:
            found.setdefault(row["kind"], []).append(row)
    return found


def _details(record: Record, column: Mapping[str, Rows]) -> list[str]:
    """A row a kind, of one zoo."""
    rows = []
    for kind in sorted(column, key=_place):
        found = column[kind]
        area, flagged = ([row[key] for row in found] for key in ("auroc", "flagged"))
        sizes = [row["size"] for row in found if row["size"] is not None]
        rows.append(
            [
                kind,
                f"{np.mean([row['count'] for row in found]):,.0f}",
                number(_mean(area)),
                _range(area, 3),
                number(_mean(flagged), 2),
                _range(flagged, 2),
                "{:.2f} to {:.2f}".format(*_interval(found)),
                number(_mean(sizes), 2),
                _rules(found),
            ]
        )
    heads = ["kind", "LoRAs", "area", "of splits", "beyond", "of splits"]
    text = f"Splits: {', '.join(sorted(record['splits'], key=int))}."
    return [*table([*heads, "95 % interval", "size", "caught by"], rows), text, ""]


def _rules(found: Rows) -> str:
    """The most frequent rules among all that are beyond the limit, with their shares."""
    shares: dict[str, float] = {}
    beyond = sum(row["flagged"] * row["count"] for row in found)
    for row in found:
        for rule, share in row["rules"].items():
            shares[rule] = shares.get(rule, 0.0) + share * row["flagged"] * row["count"] / beyond
    first = sorted(shares, key=lambda rule: (-shares[rule], rule))[:RULES]
    return ", ".join(f"{x} {shares[x] * 100:.0f} %" for x in first if shares[x] >= RAREST)


def _judged(kind: str, found: Rows) -> tuple[str, bool, bool]:
    """The cell of a kind, whether it misses what is asked, and whether its interval leaves that open."""
    if not found:
        return "", False, False
    area, flagged = (_mean([row[key] for row in found]) for key in ("auroc", "flagged"))
    passes = _passes(kind)
    bad = flagged > MOST_FLAGGED if passes else kind in TELL and area < LEAST_AREA
    low, high = _interval(found)
    return (
        f"{area:.3f}; {flagged:.2f}{'†' if bad else ''}",
        bad,
        passes and low < MOST_FLAGGED < high,
    )


def _interval(found: Rows) -> tuple[float, float]:
    """Of the mean share, among as many LoRAs as one split has."""
    return binomial_interval(
        _mean([row["flagged"] for row in found]), _mean([row["count"] for row in found])
    )


def _place(kind: str) -> int:
    """Kinds that should pass, then those that should be told, then the others; each in the order it was met."""
    return 0 if _passes(kind) else 1 if kind in TELL else 2


def _passes(kind: str) -> bool:
    return kind in (*PASS, BY_PEFT) or kind.startswith("trained at rank")


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _name(record: Record) -> str:
    return str(record["zoo"]["name"])
