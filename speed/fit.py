"""How long the default model takes to learn: `fusion` on the whole zoo of faces, all of its targets at once.

Seconds on the wall and seconds of the processor, in all threads together, of `fit_many` on the LoRAs in
memory: split by group, both looks, what tells outliers, calibration and intervals, scores of the test LoRAs.
Reading the zoo is timed beside it. The aim is five minutes on two cores.

    python -m speed.fit [--out FOLDER] [--zoo DIR] [--shared] [--quick]
"""

import argparse
import time
from pathlib import Path
from typing import Any

from lorascope.bench.zoos import find_zoos, usual_place
from lorascope.io.shards import open_zoo
from lorascope.models import build
from lorascope.train.data import LabelledLoRAs, from_zoo
from lorascope.train.fit import fit_many
from speed.evaluation import clock_of, load, machine, place, write_json
from speed.folder import random_data
from speed.tables import fit_table
from speed.workloads import MINIATURES

__all__ = ["AT_MOST", "main", "run"]

ZOO = "faces"
AT_MOST = 300.0  # seconds, on two cores
QUICK_COUNT = 60  # LoRAs


def run(*, quick: bool = False, shared: bool = False, zoo: Path | None = None) -> dict[str, Any]:
    """Read the zoo, fit, and count seconds; with `quick` few random LoRAs.

    Raises SystemExit where there is no zoo of faces.
    """
    found: dict[str, Any] = {"part": "fit", "quick": quick}
    found["machine"] = machine(clock_of("cpu", quick=quick, shared=shared))
    began = time.perf_counter()
    data = random_data(MINIATURES[ZOO].signature(), QUICK_COUNT) if quick else faces(zoo)
    read = time.perf_counter() - began
    wall, processor = time.perf_counter(), time.process_time()
    predictors = fit_many(data, model=build.AUTO, trust=True)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    rows = next(iter(predictors.values())).report["rows"]
    return {
        **found,
        "model": next(iter(predictors.values())).model.name,
        "zoo": ZOO,
        "loras": len(data),
        "learned_from": rows["train"],
        "layers": len(data.batch.signature),
        "rank": data.batch.rank,
        "targets": list(predictors),
        "read": read,
        "wall": wall,
        "processor": processor,
        "at_most": AT_MOST,
        "load_after": load(),
    }


def faces(zoo: Path | None) -> LabelledLoRAs:
    """The zoo in memory, of its folder or from where the collection is built."""
    folder = zoo or find_zoos([usual_place()]).get(ZOO)
    if folder is None:
        raise SystemExit(
            f"Fitting the default model to {ZOO}: there is no such zoo in {usual_place()}. Try: lorascope zoo "
            f"collection, which builds it, or --zoo with its folder."
        )
    return from_zoo(open_zoo(folder))


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="a zoo of faces")
    parser.add_argument("--shared", action="store_true", help="a busy CPU: count processor time")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    found = run(quick=options.quick, shared=options.shared, zoo=options.zoo)
    if options.out:
        write_json(place(options.out, "cpu", "fit"), found)
    print(fit_table(found))


if __name__ == "__main__":
    main()
