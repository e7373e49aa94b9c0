"""`lorascope zoo info`: what a zoo holds, how good its labels can be, and what its build left out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.io.shards import Zoo

__all__ = ["info", "spread", "zoo_facts"]


def info(
    zoo: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the zoo.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the tables.")
    ] = False,
) -> None:
    """Say what a zoo holds: sizes, layers, labels with their ceilings, hyper-parameters, failures.

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


def zoo_facts(zoo: "Zoo") -> dict[str, Any]:
    """What a zoo holds, as plain data."""
    from lorascope.zoo.factory.log import build_events, failures_of

    signature = zoo.signature
    ids = zoo.index.column("id").to_pylist()
    ceilings = zoo.report.get("ceilings")
    shards = list((zoo.path / "shards").glob("shard-*.safetensors"))
    return {
        "path": str(zoo.path),
        "count": len(zoo),
        "bytes": sum(path.stat().st_size for path in shards),
        "shards": len(shards),
        "ranks": tally(zoo.column("rank").tolist()),
        "groups": len(set(zoo.groups())),
        "base": signature.base,
        "layers": len(signature),
        "shapes": [{"n": g.n, "m": g.m, "layers": len(g)} for g in signature.groups()],
        "targets": {name: target_facts(zoo, name) for name in zoo.targets},
        "hyper": {name: spread(values) for name, values in zoo.hyper().items()},
        "ceilings": ceilings if isinstance(ceilings, dict) else {},
        "diverged": diverged(zoo),
        "failures": failures_of(build_events(zoo.path), ids),
        "report": dict(zoo.report),
    }


def tally(values: list[Any]) -> dict[str, int]:
    """How often each value occurs, by its text."""
    return {str(value): values.count(value) for value in sorted(set(values))}


def diverged(zoo: "Zoo") -> int:
    """How many LoRAs are flagged because their training diverged."""
    if "diverged" not in zoo.index.column_names:
        return 0
    return sum(map(bool, zoo.index.column("diverged").to_pylist()))


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
    ranks = ", ".join(f"{count} of rank {rank}" for rank, count in facts["ranks"].items())
    size = f"{facts['bytes'] / 1e6:.1f} MB in {facts['shards']} shards"
    out.print(Text(printable(f"base {facts['base'] or 'not named'}; {ranks}; {size}")))
    for line in troubles(facts):
        out.print(Text(printable(line)))
    numbers = [
        [name, *row(values)]
        for name, values in [*facts["targets"].items(), *facts["hyper"].items()]
        if "least" in values
    ]
    for cells in numbers:
        cells.append(ceiling(facts["ceilings"].get(cells[0])))
    titles = ["", "kind", "least", "mean", "most", "std", "base alone", "missing", "ceiling"]
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


def ceiling(scores: Any) -> str:
    """What a perfect predictor of a target could reach, by metric."""
    if not isinstance(scores, dict):
        return ""
    known = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.3g}" for name, value in known.items())


def troubles(facts: dict[str, Any]) -> list[str]:
    """What went wrong in the build, a line each; none where nothing did."""
    failures, lines = facts["failures"], []
    if facts["diverged"]:
        lines.append(f"diverged: {facts['diverged']} LoRAs, whose scores are missing")
    if failures["missing"]:
        lines.append(
            f"failed: {len(failures['missing'])} LoRAs are not there; build again to retry"
        )
        lines += [f"  {count} times: {reason}" for reason, count in failures["reasons"].items()]
    if failures["skipped"]:
        count = len(failures["skipped"])
        lines.append(f"skipped: bad data of {count} LoRAs, made without; build.jsonl says what")
    if failures["left_out"]:
        lines.append(f"left out: {failures['left_out']} files; build.jsonl says why")
    return lines


def row(values: dict[str, Any]) -> list[str]:
    """Cells of one line of numbers."""
    base = values.get("base_value")
    cells = [f"{values[key]:.4g}" for key in ("least", "mean", "most", "std")]
    kind = values.get("kind", "hyper-parameter")
    return [kind, *cells, "" if base is None else f"{base:.4g}", str(values["missing"])]
